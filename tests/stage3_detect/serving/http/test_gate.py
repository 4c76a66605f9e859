"""What every request meets: errors of the service itself, and one log line for each request."""

import json
import logging
from collections.abc import Iterator

import pytest

from stage3_detect.image_quality.verdict import Quality
from stage3_detect.serving.interface import DecodedImage, FindingMap, FoundBox, ServedModel
from tests.stage3_detect.serving.services import files, png, running

SECRET = "Doe^Anna"


class Broken:
    """A model whose detection fails with a message that quotes a patient."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self.facts = model.facts

    def detect(self, image: DecodedImage, point: str | None = None) -> list[FoundBox]:
        raise LookupError(SECRET)

    def quality(self, image: DecodedImage) -> Quality:
        return self._model.quality(image)

    def maps(self, image: DecodedImage) -> list[FindingMap]:
        return self._model.maps(image)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Messages of the service's log."""
    log, level = logging.getLogger("raybox.serving"), logging.getLogger("raybox.serving").level
    messages: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(self.format(record))

    handler = Collecting()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield messages
    log.removeHandler(handler)
    log.setLevel(level)


def test_an_error_of_the_service_is_500_and_logged_without_its_message(model: ServedModel, lines: list[str]) -> None:
    with running(Broken(model)) as service, service.client() as client:
        answer = client.post("/v1/detections", files=files("a.png", "b.png"))
        assert client.get("/healthz").status_code == 200
        assert service.context.workers.num_accepted == 0
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert answer.headers["cache-control"] == "no-store"
    error = json.loads(lines[0])
    assert (error["error"], error["at"].split(":")[0]) == ("LookupError", "http/test_gate.py")
    assert SECRET not in answer.text + "".join(lines)


def test_one_line_for_each_request(model: ServedModel, lines: list[str]) -> None:
    with running(model) as service, service.client() as client:
        client.post("/v1/detections?point=f1", files=files("a.png", "b.png"))
        client.post("/v1/maps", files={"file": (SECRET, png())})
        client.head("/readyz")
        client.get(f"/v1/{SECRET}")
        client.post("/v1/detections", content=b"")
        client.request("ANNA", "/healthz")
    logged = [json.loads(line) for line in lines]
    assert [(one["method"], one["route"], one["status"], one["images"]) for one in logged] == [
        ("POST", "/v1/detections", 200, 2),
        ("POST", "/v1/maps", 200, 1),
        ("HEAD", "/readyz", 200, 0),
        ("GET", "unknown", 404, 0),
        ("POST", "/v1/detections", 415, 0),
        ("other", "/healthz", 405, 0),
    ]
    assert all(set(one) == {"time", "method", "route", "status", "ms", "images"} for one in logged)
    assert logged[0]["ms"] > 0
