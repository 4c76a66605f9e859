"""The HTTP server: uvicorn, with timeouts for clients that say nothing and an orderly end."""

import asyncio
import socket
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from stage3_detect.serving.http.errors import error_body
from stage3_detect.serving.http.headers import with_security_headers
from stage3_detect.serving.http.workers import Workers
from stage3_detect.serving.settings import Limits, ServiceSettings

_KEEP_ALIVE_S = 75
"""Longer than proxies keep an idle connection, so that they close it first."""
_GRACE_S = 10
"""Beyond the limits on sending and processing, before the end no longer waits for a request."""


def serve(app: FastAPI, opened: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was accepted and return."""
    context = app.state.context
    settings: ServiceSettings = context.settings
    limits = settings.limits
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.processing_timeout_s + limits.send_timeout_s) + _GRACE_S,
    )
    _Server(config, context.workers).run(sockets=[opened])


class _Server(uvicorn.Server):
    """On the first signal refuses new work and goes on until all that was accepted is answered."""

    def __init__(self, config: uvicorn.Config, workers: Workers) -> None:
        super().__init__(config)
        self._workers = workers

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Not recorded as uvicorn does, which would end the process by that signal instead of with 0."""
        if self._workers.draining:  # asked twice
            self.force_exit = self.should_exit = True
        self._workers.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called every 0.1 s."""
        if self._workers.draining and not self._workers.num_accepted:
            self.should_exit = True
        return await super().on_tick(counter)


class _Protocol(H11Protocol):
    """Closes a connection whose next request does not come in time or whose answer is not read, and answers errors of
    HTTP in JSON."""

    limits: Limits
    _header_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.close()
        self._wait_for_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        else:  # a part of a header, or the rest of a body that was refused
            self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_send_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_send_timer()
        self._send_timer = self.loop.call_later(self.limits.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_send_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the text of uvicorn
        self._answer_and_close(400, "The request is not valid HTTP.")

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _wait_for_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.limits.header_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        self._answer_and_close(408, "The header of the request came too slowly.")

    def _answer_and_close(self, status: int, sentence: str) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error_body(sentence)
            headers: list[Any] = [(b"content-type", b"application/json"), (b"connection", b"close")]
            headers.append((b"content-length", str(len(body)).encode()))
            answer = h11.Response(status_code=status, headers=with_security_headers(headers))
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _protocol(given: Limits) -> type[asyncio.Protocol]:
    class Limited(_Protocol):
        limits = given

    return Limited
