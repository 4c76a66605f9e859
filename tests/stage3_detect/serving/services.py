"""Services that run in a thread of the test process, on a free port of this machine, and made-up uploads."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import httpx
import numpy as np

from stage3_detect.image_quality.verdict import Quality
from stage3_detect.serving.http.app import make_app
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.port import listen
from stage3_detect.serving.http.server import serve
from stage3_detect.serving.interface import DecodedImage, FindingMap, FoundBox, ServedModel
from stage3_detect.serving.settings import Limits, ServiceSettings

IMAGE_HW = (300, 420)


@dataclass(frozen=True)
class Service:
    """A running service."""

    port: int
    context: ServiceContext

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **given: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **given)

    def raw(self, data: bytes) -> socket.socket:
        """A connection on which `data` was sent as it is."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(data)
        return connection


@contextmanager
def running(
    model: ServedModel, *, limits: dict[str, Any] | None = None, dicom: Any = None, **values: Any
) -> Iterator[Service]:
    """A service with these settings; ends when it has answered everything. dicom: its DICOM node."""
    settings = ServiceSettings(limits=Limits(**(limits or {})), port=0, **values)
    opened = listen("127.0.0.1", 0)
    app = make_app(model, settings, dicom=dicom)
    thread = threading.Thread(target=serve, args=(app, opened))
    thread.start()
    try:
        yield Service(opened.getsockname()[1], app.state.context)
    finally:
        app.state.context.workers.draining = True
        thread.join(timeout=30)
        assert not thread.is_alive()


class Held:
    """A model whose detections wait until `go` is set. started: how many have begun."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self.facts = model.facts
        self.go = threading.Event()
        self.started = threading.Semaphore(0)

    def detect(self, image: DecodedImage, point: str | None = None) -> list[FoundBox]:
        self.started.release()
        assert self.go.wait(timeout=30)
        return self._model.detect(image, point)

    def quality(self, image: DecodedImage) -> Quality:
        return self._model.quality(image)

    def maps(self, image: DecodedImage) -> list[FindingMap]:
        return self._model.maps(image)


def png(*, seed: int = 0, image_hw: tuple[int, int] = IMAGE_HW) -> bytes:
    """A grey PNG file with noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, image_hw).astype(np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def files(*names: str) -> list[tuple[str, tuple[str, bytes]]]:
    """Multipart files in the field of /v1/detections: a PNG for each name, all different."""
    return [("files", (name, png(seed=seed))) for seed, name in enumerate(names)]


def multipart(*, field: str = "files", data: bytes | None = None) -> tuple[bytes, bytes]:
    """A body with one file, and the request's headers that describe it, for clients that write to the socket."""
    content = io.BytesIO()
    content.write(b'--b0und\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\n' % field.encode())
    content.write(png() if data is None else data)
    content.write(b"\r\n--b0und--\r\n")
    body = content.getvalue()
    return body, b"Content-Type: multipart/form-data; boundary=b0und\r\nContent-Length: %d\r\n" % len(body)


def post(path: str, headers: bytes, body: bytes = b"") -> bytes:
    """A request in bytes."""
    return b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n%s" % (path.encode(), headers, body)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status of the first answer on a connection, and all that came until the other side closed it."""
    data = b""
    while chunk := connection.recv(1 << 16):
        data += chunk
    return int(data.split(b" ")[1]), data
