"""The first and last thing that a request meets: checks, limits, security headers, log and metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.errors import Refusal, error_response
from stage3_detect.serving.http.headers import check_host, check_site, with_security_headers
from stage3_detect.serving.http.limits import body_length, steady_receive
from stage3_detect.serving.http.logs import log_error, log_request

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})
_OPEN_FOLDER = "/static/"
_CLIENT_LEFT = 499
"""The status, in log and metrics, of a request whose client left before the answer."""
KEY_NAME = "key_name"
"""Key of `request.state`: the name of the API key, "" without keys."""
NUM_IMAGES = "num_images"
"""Key of `request.state`: images that a route has worked on, for the log."""


class Gate:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, context: ServiceContext, *, paths: frozenset[str]) -> None:
        """paths: templates of all routes, for log and metrics; a path that is not among them may name a patient."""
        self._app = app
        self._context = context
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        scope["state"] = {KEY_NAME: "", NUM_IMAGES: 0}
        begin = time.perf_counter()
        try:
            await self._guarded(scope, receive, answer)
        except ClientDisconnect:
            answer.status = answer.status or _CLIENT_LEFT
        finally:
            self._record(scope, answer.status, time.perf_counter() - begin)

    async def _guarded(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            with self._admitted(scope) as num_bytes:
                context = self._context
                receive = steady_receive(receive, num_bytes, context.settings.limits, context.workers)
                # routes for GET answer HEAD too; the server leaves the body out
                inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(inner, receive, answer.send)
                scope["route"] = inner.get("route")
        except Refusal as refusal:
            await self._refuse(scope, receive, answer, refusal)
        except ClientDisconnect:
            raise
        except Exception as error:
            log_error(error, "request")
            await self._refuse(scope, receive, answer, Refusal(500, "bug", "The service made an error; it is logged."))

    @contextmanager
    def _admitted(self, scope: Scope) -> Iterator[int]:
        """Check a request by its header; holds its place in the queue. Yields the length of its body."""
        headers = Headers(scope=scope)
        settings, keys = self._context.settings, self._context.keys
        if settings.is_loopback and keys is None:
            check_host(headers)
        if scope["method"] not in _SAFE_METHODS:
            check_site(headers)
        path = scope["path"]
        if keys is not None and path not in _OPEN_PATHS and not path.startswith(_OPEN_FOLDER):
            scope["state"][KEY_NAME] = keys.check(headers)
        num_bytes = body_length(headers, scope["method"], settings.limits)
        with self._context.workers.accept(num_bytes) if scope["method"] == "POST" else nullcontext():
            yield num_bytes

    async def _refuse(self, scope: Scope, receive: Receive, answer: "_Answer", refusal: Refusal) -> None:
        self._context.monitoring.rejected(refusal.reason)
        if answer.status is None:  # else it is too late, and the server closes the connection
            await error_response(refusal)(scope, receive, answer.send)

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        path = scope["path"] if scope["path"] in self._paths else "unknown"
        route = str(getattr(scope.get("route"), "path", path))
        self._context.monitoring.request(method, route, status or 0, seconds)
        num_images = scope["state"][NUM_IMAGES]
        log_request(method=method, route=route, status=status or 0, seconds=seconds, num_images=num_images)


class _Answer:
    """Sends an answer with the security headers. status: None before it begins."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": with_security_headers(list(message["headers"]))}
        await self._send(message)
