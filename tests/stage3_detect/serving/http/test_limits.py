"""Limits on length and speed of a body, and on the queue, with clients that write to the socket."""

import select
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import httpx
import numpy as np
import pytest

from stage3_detect.serving.interface import ServedModel
from tests.stage3_detect.serving.services import Held, Service, files, multipart, post, read_answer, running

CLOSE = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def service(model: ServedModel) -> Iterator[Service]:
    limits = {
        "max_file_bytes": 200_000,
        "max_request_bytes": 500_000,
        "max_files": 3,
        "max_pixels": 200_000,
        "upload_grace_s": 0.5,
        "min_upload_bytes_per_s": 100_000,
    }
    with running(model, limits=limits) as service:
        yield service


@pytest.mark.parametrize("stated", [b"", b"Content-Length: 5\r\n"])
def test_length_must_be_stated(service: Service, stated: bytes) -> None:
    chunked = CLOSE + stated + b"Transfer-Encoding: chunked\r\n"
    for request in (post("/v1/detections", CLOSE), post("/v1/detections", chunked, b"1\r\na\r\n0\r\n\r\n")):
        with service.raw(request) as connection:
            assert read_answer(connection)[0] == 411


def test_a_long_body_is_refused_before_it_is_sent(service: Service) -> None:
    headers = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 500001\r\n" + CLOSE
    with service.raw(post("/v1/detections", headers)) as connection:
        assert read_answer(connection)[0] == 413


def test_a_client_that_waits_for_continue_gets_it_only_below_the_limit(service: Service) -> None:
    expect = CLOSE + b"Expect: 100-continue\r\n"
    with service.raw(post("/v1/detections", b"Content-Length: 500001\r\n" + expect)) as connection:
        assert read_answer(connection)[0] == 413
    body, headers = multipart()
    with service.raw(post("/v1/detections", headers + expect)) as connection:
        assert connection.recv(25).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert b"HTTP/1.1 200 " in read_answer(connection)[1]


@pytest.mark.parametrize(("num_bytes", "status"), [(200_000, 200), (200_001, 413)])
def test_bytes_of_a_file(service: Service, num_bytes: int, status: int) -> None:
    with service.client() as client:
        answer = client.post("/v1/detections", files=[("files", ("a.png", bytes(num_bytes)))])
    assert answer.status_code == status


@pytest.mark.parametrize(("num_files", "status"), [(3, 200), (4, 413)])
def test_number_of_files(service: Service, num_files: int, status: int) -> None:
    sent = [("files", ("a.png", b"x"))] * num_files
    with service.client() as client:
        assert client.post("/v1/detections", files=sent).status_code == status


@pytest.mark.parametrize(("image_hw", "is_read"), [((400, 500), True), ((400, 501), False)])
def test_pixels(service: Service, image_hw: tuple[int, int], is_read: bool) -> None:
    smooth = np.tile(np.linspace(0, 255, image_hw[1]), (image_hw[0], 1)).astype(np.uint8)  # noise has too many bytes
    plain = cv2.imencode(".png", smooth)[1].tobytes()
    with service.client() as client:
        (image,) = client.post("/v1/detections", files=[("files", ("a.png", plain))]).json()["images"]
    assert ("detections" in image) is is_read


@pytest.mark.parametrize("sent", [0, 10, 1000])
def test_a_silent_client_gets_408(service: Service, sent: int) -> None:
    body, headers = multipart()
    begin = time.monotonic()
    with service.raw(post("/v1/detections", headers, body[:sent])) as connection:
        status, answer = read_answer(connection)
    assert status == 408
    assert b"connection: close" in answer.lower()
    assert 0.4 < time.monotonic() - begin < 5


def test_a_client_that_dribbles_gets_408(service: Service) -> None:
    body, headers = multipart()
    with service.raw(post("/v1/detections", headers)) as connection:
        for piece in range(100):
            try:
                connection.sendall(body[piece : piece + 1])
            except OSError:
                break
            time.sleep(0.02)
        assert read_answer(connection)[0] == 408
    assert piece < 99
    assert service.context.workers.num_accepted == 0


@pytest.mark.parametrize("limits", [{"max_accepted": 2}, {"max_accepted_bytes": 2 * len(multipart()[0]) + 500}])
def test_beyond_the_queue_is_429_and_the_accepted_are_answered(model: ServedModel, limits: dict[str, int]) -> None:
    held = Held(model)
    statuses = []
    with running(held, limits=limits, num_workers=1) as service:

        def ask() -> None:
            statuses.append(httpx.post(service.url + "/v1/detections", files=files("a.png"), timeout=30).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        _wait_until(lambda: service.context.workers.num_accepted == 2)
        with service.client() as client:
            refused = client.post("/v1/detections", files=files("a.png"))
            assert client.get("/healthz").status_code == 200
            held.go.set()
            for thread in threads:
                thread.join()
            assert client.post("/v1/detections", files=files("a.png")).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert statuses == [200, 200]


def test_processing_beyond_the_time_limit_is_503(model: ServedModel) -> None:
    held = Held(model)
    with running(held, limits={"processing_timeout_s": 0.2}, num_workers=1) as service, service.client() as client:
        answer = client.post("/v1/detections", files=files("a.png", "b.png"))
        assert service.context.workers.num_waiting == 0
        held.go.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def _wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_upload_does_not_keep_the_service_from_ending(model: ServedModel) -> None:
    """It is fast enough for the limit on speed."""
    body, headers = multipart(data=bytes(400_000))
    limits = {"min_upload_bytes_per_s": 1000, "drain_upload_s": 0.2}
    with (
        running(model, limits=limits) as service,
        service.raw(post("/v1/detections", headers + CLOSE, body[:1000])) as connection,
    ):
        while not service.context.workers.num_accepted:
            time.sleep(0.01)
        service.context.workers.draining = True
        for place in range(1000, 31_000, 1000):
            time.sleep(0.02)
            if select.select([connection], [], [], 0)[0]:
                break
            connection.sendall(body[place : place + 1000])
        assert read_answer(connection)[0] == 503
