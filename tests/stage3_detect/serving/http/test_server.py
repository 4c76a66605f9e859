"""The server below the application: slow and broken HTTP, the number of connections, and addresses."""

import socket
import time
from collections.abc import Iterator

import pytest

from stage3_detect.serving.interface import ServedModel
from tests.stage3_detect.serving.services import Service, files, multipart, post, read_answer, running


@pytest.fixture(scope="module")
def service(model: ServedModel) -> Iterator[Service]:
    with running(
        model, limits={"header_timeout_s": 0.5, "send_timeout_s": 0.5, "max_connections": 8, "max_request_bytes": 10**6}
    ) as service:
        yield service


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_an_unfinished_header_gets_408(service: Service, sent: bytes) -> None:
    with service.raw(sent) as connection:
        assert read_answer(connection)[0] == 408


def test_a_header_that_dribbles_gets_408(service: Service) -> None:
    with service.raw(b"GET /healthz HTTP/1.1\r\n") as connection:
        for _ in range(60):
            try:
                connection.sendall(b"A: b\r\n")
            except OSError:
                break
            time.sleep(0.02)
        assert read_answer(connection)[0] == 408


def test_a_finished_request_is_not_timed_out(service: Service) -> None:
    with service.client() as client:
        for _ in range(2):
            assert client.get("/healthz").status_code == 200
            time.sleep(0.7)
        assert client.post("/v1/detections", files=files("a.png")).status_code == 200


def test_the_rest_of_a_refused_body_is_read_no_longer_than_a_header(service: Service) -> None:
    headers = b"Content-Type: text/plain\r\nContent-Length: 1000000\r\n"
    with service.raw(post("/v1/detections", headers)) as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 415 ")
        begin = time.monotonic()
        connection.sendall(b"x")
        while connection.recv(1 << 16):
            pass
    assert 0.3 < time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n\r\nnonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + 5000 * b"9" + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA\x00: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: " + 70_000 * b"b",
    ],
)
def test_what_is_not_http_gets_400_in_json(service: Service, sent: bytes) -> None:
    with service.raw(sent) as connection:
        status, answer = read_answer(connection)
    assert status == 400
    assert answer.endswith(b'{"error": "The request is not valid HTTP."}')


def test_a_damaged_chunk_in_a_body_ends_the_connection_alone(service: Service) -> None:
    headers = b"Transfer-Encoding: chunked\r\n"
    with service.raw(post("/v1/detections", headers, b"zz\r\n")) as connection:
        while connection.recv(1 << 16):
            pass
    with service.client() as client:
        assert client.get("/healthz").status_code == 200


def test_connections_beyond_the_limit_are_closed(service: Service) -> None:
    waiting = [service.raw(b"") for _ in range(8)]
    with service.raw(b"") as refused:
        assert refused.recv(1) == b""
    for connection in waiting:
        connection.close()
    time.sleep(0.1)
    with service.client() as client:
        assert client.get("/healthz").status_code == 200


def test_two_requests_at_once_on_a_connection_are_answered_in_order(service: Service) -> None:
    body, headers = multipart()
    last = b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with service.raw(post("/v1/detections", headers, body) + last) as connection:
        answer = read_answer(connection)[1]
    assert answer.index(b"HTTP/1.1 200 ") < answer.index(b"HTTP/1.1 404 ")


def test_an_answer_that_is_not_read_ends_the_connection(service: Service) -> None:
    num_requests = 400
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(num_requests * b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(1.5)
        received = 0
        try:
            while chunk := connection.recv(1 << 16):
                received += len(chunk)
        except ConnectionResetError:
            pass
    with service.client() as client:
        size = len(client.get("/openapi.json").content)
    assert received < num_requests * size


def test_a_client_that_leaves_costs_its_own_request_only(service: Service) -> None:
    body, headers = multipart()
    for sent in (post("/v1/detections", headers, body[:50]), post("/v1/detections", headers, body)):
        connection = service.raw(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()
    deadline = time.monotonic() + 5
    while service.context.workers.num_accepted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (service.context.workers.num_accepted, service.context.workers.num_accepted_bytes) == (0, 0)
