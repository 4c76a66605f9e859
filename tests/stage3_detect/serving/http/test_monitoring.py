"""Metrics: what is counted, and that labels come from fixed lists."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from stage3_detect.image_quality.verdict import Quality
from stage3_detect.serving.http.monitoring import Monitoring
from stage3_detect.serving.http.workers import Workers
from stage3_detect.serving.interface import FoundBox, ServedModel
from stage3_detect.serving.settings import Limits
from tests.stage3_detect.serving.services import files, png, running

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(text: str) -> dict[Sample, float]:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[f"raybox_{name}", frozenset(labels.items())]


def test_nothing_is_counted_before_the_first_request() -> None:
    counted = samples(Monitoring(Workers(1, Limits())).text().decode())
    ours = {name: value for (name, _), value in counted.items() if name.startswith("raybox_")}
    assert ours == {"raybox_images_waiting": 0, "raybox_requests_accepted": 0}


def test_boxes_shown_are_counted_by_finding_with_their_confidence() -> None:
    monitoring = Monitoring(Workers(1, Limits()))
    box = (0.0, 0.0, 1.0, 1.0)
    monitoring.found([], Quality.of(["inverted"]))
    monitoring.found(
        [
            FoundBox("Nodule/Mass", box, 0.9, 0.35, True),
            FoundBox("Nodule/Mass", box, 0.15, None, True),
            FoundBox("Nodule/Mass", box, 0.9, 0.9, False),
        ],
        Quality.of([]),
    )
    text = monitoring.text().decode()
    assert value(text, "images_total", result="answered") == 2
    assert value(text, "images_unsuitable_total", reason="inverted") == 1
    assert value(text, "boxes_shown_total", finding="Nodule/Mass") == 2
    buckets = {le: value(text, "box_confidence_bucket", finding="Nodule/Mass", le=le) for le in ("0.1", "0.2", "0.4")}
    assert buckets == {"0.1": 0, "0.2": 1, "0.4": 2}


def test_corrections_are_counted_by_finding_and_action() -> None:
    monitoring = Monitoring(Workers(1, Limits()))
    for action in ("accepted", "accepted", "rejected"):
        monitoring.corrected("Nodule/Mass", action)
    text = monitoring.text().decode()
    assert value(text, "corrections_total", finding="Nodule/Mass", action="accepted") == 2
    assert value(text, "corrections_total", finding="Nodule/Mass", action="rejected") == 1


def test_requests_images_phases_and_refusals_are_counted(model: ServedModel, tmp_path: Path) -> None:
    with running(model, limits={"max_files": 2}) as service, service.client() as client:
        client.post("/v1/detections", files=[*files("a.png"), ("files", ("b.png", b"nothing"))])
        client.post("/v1/maps", files={"file": ("a.png", png())})
        client.post("/v1/detections", files=files("a.png", "b.png", "c.png"))
        client.post("/v1/detections", content=b"")
        client.get("/v1/patient/Anna^Doe")
        client.request("ANNA", "/healthz")
        client.head("/healthz")
        text = client.get("/metrics").text
    answers = {
        ("POST", "/v1/detections", "200"): 1,
        ("POST", "/v1/detections", "413"): 1,
        ("POST", "/v1/detections", "415"): 1,
        ("POST", "/v1/maps", "200"): 1,
        ("GET", "unknown", "404"): 1,
        ("other", "/healthz", "405"): 1,
        ("HEAD", "/healthz", "200"): 1,
    }
    for (method, route, status), count in answers.items():
        assert value(text, "requests_total", method=method, route=route, status=status) == count
    assert value(text, "images_total", result="answered") == 1
    assert value(text, "images_total", result="unreadable") == 1
    phases = {phase: value(text, "phase_seconds_count", phase=phase) for phase in ("decode", "detect", "maps")}
    assert phases == {"decode": 3, "detect": 1, "maps": 1}
    assert value(text, "rejected_total", reason="files") == 1
    assert value(text, "rejected_total", reason="media_type") == 1
    assert value(text, "requests_accepted") == 0
