"""Security headers on every kind of answer, and requests that a web page makes a browser send."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stage3_detect.serving.http.headers import SECURITY_HEADERS, with_security_headers
from stage3_detect.serving.http.keys import add_key
from stage3_detect.serving.interface import ServedModel
from tests.stage3_detect.serving.services import Service, files, read_answer, running


@pytest.fixture(scope="module")
def service(model: ServedModel) -> Iterator[Service]:
    with running(model) as service:
        yield service


def test_an_answer_may_state_its_own_caching() -> None:
    assert with_security_headers([]) == [*SECURITY_HEADERS, (b"cache-control", b"no-store")]
    own = [(b"Cache-Control", b"max-age=60")]
    assert with_security_headers(own) == [*own, *SECURITY_HEADERS]


def test_every_answer_carries_them(service: Service) -> None:
    expected = {name.decode(): value.decode() for name, value in SECURITY_HEADERS} | {"cache-control": "no-store"}
    with service.client() as client:
        answers = [
            client.get("/healthz"),
            client.head("/v1/model"),
            client.get("/nothing"),
            client.post("/v1/detections"),
            client.post("/v1/detections", files=files("a.png")),
            client.get("/healthz", headers={"host": "evil.example"}),
        ]
    for answer in answers:
        assert expected.items() <= dict(answer.headers).items()
        assert "server" not in answer.headers
    with service.raw(b"nonsense\r\n\r\n") as connection:
        status, answer = read_answer(connection)
    assert status == 400
    assert all(name + b": " + value in answer for name, value in SECURITY_HEADERS)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("localhost:1", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_other_host_names_are_refused_on_loopback(service: Service, host: str, status: int) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    with service.raw(request.encode()) as connection:
        assert read_answer(connection)[0] == status


def test_with_keys_a_proxy_may_pass_its_own_host_name(model: ServedModel, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.txt", "ward")
    with running(model, api_keys=tmp_path / "keys.txt") as service, service.client() as client:
        assert client.get("/healthz", headers={"host": "reading.hospital.example"}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "https://reading.example"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"}, 403),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"origin": "http://127.0.0.1:81"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": ""}, 403),
    ],
)
def test_posts_of_other_sites_are_refused(service: Service, sent: dict[str, str], status: int) -> None:
    with service.client() as client:
        answer = client.post("/v1/detections", files=files("a.png"), headers={"host": "127.0.0.1", **sent})
    assert answer.status_code == status
    assert not {name for name in answer.headers if name.startswith("access-control")}
