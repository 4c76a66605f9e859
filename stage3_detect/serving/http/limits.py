"""Limits on the body of a request: its length, and how slowly it may arrive."""

import asyncio
from collections.abc import Mapping

from starlette.types import Message, Receive

from stage3_detect.serving.http.errors import Refusal, busy
from stage3_detect.serving.http.workers import Workers
from stage3_detect.serving.settings import Limits


def body_length(headers: Mapping[str, str], method: str, limits: Limits) -> int:
    """Length of the body in bytes, as the header states it; 0 for methods whose body is never read.

    Raises:
        Refusal: 411 without a length, 413 beyond the limit.
    """
    if method != "POST":
        return 0
    stated = headers.get("content-length", "")
    if "transfer-encoding" in headers or not (stated.isascii() and stated.isdigit()):
        raise Refusal(411, "no_length", "The request must state its length in Content-Length.")
    if int(stated) > limits.max_request_bytes:
        raise Refusal(413, "bytes", f"A request has at most {limits.max_request_bytes} bytes.")
    return int(stated)


def steady_receive(receive: Receive, num_bytes: int, limits: Limits, workers: Workers) -> Receive:
    """`receive` that refuses a client which sends too slowly: at any time `min_upload_bytes_per_s` since the first
    call, less what `upload_grace_s` allows. While the service ends, an upload has `drain_upload_s` left.

    Raises (when called):
        Refusal: 408, 503.
    """
    loop = asyncio.get_running_loop()
    begin: float | None = None
    end: float | None = None
    num_received = 0

    async def steady() -> Message:
        nonlocal begin, end, num_received
        if num_received >= num_bytes:  # what comes next is the client's leaving
            return await receive()
        begin = loop.time() if begin is None else begin
        deadline = begin + limits.upload_grace_s + num_received / limits.min_upload_bytes_per_s
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            sentence = f"The body came too slowly; send at least {limits.min_upload_bytes_per_s} bytes a second."
            raise Refusal(408, "slow", sentence, headers={"Connection": "close"}) from None
        num_received += len(message.get("body", b""))
        if workers.draining:
            end = loop.time() + limits.drain_upload_s if end is None else end
            if loop.time() > end:
                raise busy(503, "draining", "The service is shutting down; ask again.", limits.retry_after_s)
        return message

    return steady
