"""Refusals: an HTTP status and one sentence, as JSON."""

import json
from collections.abc import Mapping

from starlette.responses import Response


class Refusal(Exception):  # noqa: N818 - an answer that was decided on, not a failure
    """A request that gets no answer. reason: its label in the metrics. sentence: for the client, never for the log."""

    def __init__(self, status: int, reason: str, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.sentence = sentence
        self.headers = dict(headers or {})


def busy(status: int, reason: str, sentence: str, retry_after_s: int) -> Refusal:
    """A refusal that says when to come back."""
    return Refusal(status, reason, sentence, headers={"Retry-After": str(retry_after_s)})


def error_body(sentence: str) -> bytes:
    """The body of every error."""
    return json.dumps({"error": sentence}).encode()


def error_response(refusal: Refusal) -> Response:
    """A refusal as a response."""
    content = error_body(refusal.sentence)
    return Response(content, refusal.status, headers=refusal.headers, media_type="application/json")
