"""Bodies of requests: what is read, and what is refused."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Message

from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.uploads import Upload, read_files, read_json
from stage3_detect.serving.settings import Limits

BOUNDARY = "multipart/form-data; boundary=x"


def request_of(body: bytes, kind: str, *, piece_bytes: int = 1 << 16) -> Request:
    pieces = iter([body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)] or [b""])

    def messages() -> Iterator[Message]:
        for piece in pieces:
            yield {"type": "http.request", "body": piece, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    waiting = messages()

    async def receive() -> Message:
        return next(waiting)

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}, receive)


def part(disposition: str, data: bytes = b"abc") -> bytes:
    return b"--x\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + data + b"\r\n"


def read(body: bytes, kind: str = BOUNDARY, **limits: int) -> list[Upload]:
    return asyncio.run(read_files(request_of(body, kind), "files", Limits(**limits)))


END = b"--x--\r\n"
FILE = 'form-data; name="files"; filename="{}"'


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 16])
def test_files_come_as_they_were_sent(piece_bytes: int) -> None:
    contents = [b"", b"\r\n--y\r\n--\r", bytes(range(256)) * 10]
    body = b"".join(part(FILE.format(f"{index}.png"), data) for index, data in enumerate(contents)) + END
    request = request_of(body, BOUNDARY, piece_bytes=piece_bytes)
    uploads = asyncio.run(read_files(request, "files", Limits()))
    assert uploads == [Upload(f"{index}.png", data) for index, data in enumerate(contents)]


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\scans\\a.png", "a.png"),
        ("/", ""),
        ("", ""),
        ("Ärzte.png", "Ärzte.png"),
        (300 * "a", 255 * "a"),
    ],
)
def test_names_have_no_folders(sent: str, name: str) -> None:
    assert read(part(FILE.format(sent)) + END) == [Upload(name, b"abc")]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (END, BOUNDARY, 422),
        (b"", BOUNDARY, 400),
        (b"{}", "application/json", 415),
        (END, "", 415),
        (END, "multipart/form-data", 415),
        (END, "multipart/form-data; boundary=" + 300 * "x", 400),
        (b"something else", BOUNDARY, 400),
        (part(FILE.format("a.png")), BOUNDARY, 400),
        (part(FILE.format("a.png"))[:-5], BOUNDARY, 400),
        (part('form-data; name="file"; filename="a.png"') + END, BOUNDARY, 422),
        (part('form-data; name="files"') + END, BOUNDARY, 422),
        (part('form-data; filename="a.png"') + END, BOUNDARY, 422),
        (part("form-data") + END, BOUNDARY, 422),
        (b"--x\r\n\r\nabc\r\n" + END, BOUNDARY, 422),
        (b"--x\r\nA: " + 100_000 * b"b" + b"\r\n\r\nabc\r\n" + END, BOUNDARY, 400),
    ],
)
def test_other_bodies_are_refused(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        read(body, kind)
    assert caught.value.status == status


class Measured(BaseModel):
    """Some JSON."""

    width_px: int


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 422),
        (b'{"width_px": 3', "application/json", 422),
        (b'{"width_px": "three"}', "application/json", 422),
        (b'{"width_px": 3}', "text/plain", 415),
        (b'{"width_px": 3}' + 90 * b" ", "application/json", 413),
        (b"\xff", "application/json", 422),
        (b"[" * 90, "application/json", 422),
    ],
)
def test_other_json_is_refused(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        asyncio.run(read_json(request_of(body, kind), Measured, Limits(max_json_bytes=100)))
    assert caught.value.status == status


def test_json_is_read() -> None:
    request = request_of(b'{"width_px": 3}', "application/json; charset=utf-8", piece_bytes=2)
    assert asyncio.run(read_json(request, Measured, Limits())) == Measured(width_px=3)
