"""The routes /v1/model, /v1/detections and /v1/maps on the real model."""

import base64
import json
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest

from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.model.images import decode_image
from tests.stage3_detect.serving.services import IMAGE_HW, Service, files, png, running


@pytest.fixture(scope="module")
def service(model: ServedModel) -> Iterator[Service]:
    with running(model) as service:
        yield service


def expected_boxes(model: ServedModel, data: bytes, point: str | None = None) -> list[dict[str, object]]:
    image = decode_image(data, "a.png", max_pixels=10**6)
    return [
        {
            "finding": box.finding,
            "parents": list(model.facts.parents.get(box.finding, ())),
            "box_xyxy": [round(corner, 2) for corner in box.xyxy],
            "score": round(box.score, 6),
            "confidence": None if box.confidence is None else round(box.confidence, 6),
            "shown": box.shown,
        }
        for box in model.detect(image, point)
    ]


def test_no_file_is_refused(service: Service) -> None:
    with service.client() as client:
        answer = client.post(
            "/v1/detections", content=b"--x--\r\n", headers={"content-type": "multipart/form-data; boundary=x"}
        )
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


def test_boxes_are_those_of_the_model(service: Service, model: ServedModel) -> None:
    with service.client() as client:
        answer = client.post("/v1/detections", files=files("a.png")).json()
    facts = model.facts
    assert answer["model"] == {
        "id": facts.id,
        "name": facts.name,
        "findings": list(facts.findings),
        "manifest_sha256": facts.manifest_sha256,
    }
    (image,) = answer["images"]
    assert (image["name"], image["height_px"], image["width_px"]) == ("a.png", *IMAGE_HW)
    assert set(image) == {"name", "width_px", "height_px", "quality", "detections"}
    assert set(image["quality"]) == {"ok", "reasons", "codes", "abstained"}
    assert image["detections"] == expected_boxes(model, png(seed=0))
    assert image["detections"]


def test_every_operating_point_decides_what_is_shown(service: Service, model: ServedModel) -> None:
    with service.client() as client:
        for point in model.facts.points:
            answer = client.post("/v1/detections", params={"point": point}, files=files("a.png")).json()
            assert answer["images"][0]["detections"] == expected_boxes(model, png(seed=0), point)
        assert client.post("/v1/detections?point=nothing", files=files("a.png")).status_code == 422
        assert client.post("/v1/detections?point=" + 41 * "x", files=files("a.png")).status_code == 422


def test_unreadable_files_do_not_spoil_the_others(service: Service, model: ServedModel) -> None:
    damaged = png()[:200]
    sent = [
        *files("a.png"),
        ("files", ("b.dcm", b"no image")),
        ("files", ("c.png", damaged)),
        ("files", ("d.png", b"")),
    ]
    with service.client() as client:
        images = client.post("/v1/detections", files=sent).json()["images"]
    assert [image["name"] for image in images] == ["a.png", "b.dcm", "c.png", "d.png"]
    assert [sorted(image) for image in images[1:]] == [["error", "name"]] * 3
    assert images[0]["detections"] == expected_boxes(model, png(seed=0))


def test_order_of_the_answer_is_the_order_of_the_files(service: Service, model: ServedModel) -> None:
    names = [f"{index}.png" for index in range(8)]
    with service.client() as client:
        images = client.post("/v1/detections", files=files(*names)).json()["images"]
    assert [image["name"] for image in images] == names
    assert [image["detections"] for image in images] == [expected_boxes(model, png(seed=seed)) for seed in range(8)]


@pytest.mark.parametrize(
    ("path", "field", "query"),
    [
        ("/v1/detections", "files", "points=f1"),
        ("/v1/detections", "files", "score=nan"),
        ("/v1/detections", "files", "point=f1&point=f1"),
        ("/v1/maps", "file", "point=f1"),
        ("/v1/dicom-results", "file", "sr=comprehensive_3d"),
        ("/page/readings", "file", "points=f1"),
    ],
)
def test_a_query_without_effect_is_refused(service: Service, path: str, field: str, query: str) -> None:
    with service.client() as client:
        answer = client.post(f"{path}?{query}", files={field: ("a.png", png())})
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


def test_formats(service: Service) -> None:
    pixels = np.random.default_rng(0).integers(0, 65535, IMAGE_HW).astype(np.uint16)
    kinds = {".png": pixels, ".jpg": (pixels >> 8).astype(np.uint8)}
    sent = [("files", (f"a{kind}", cv2.imencode(kind, image)[1].tobytes())) for kind, image in kinds.items()]
    with service.client() as client:
        images = client.post("/v1/detections", files=sent).json()["images"]
    assert [(image["height_px"], image["width_px"]) for image in images] == [IMAGE_HW] * 2


def test_maps_are_those_of_the_model(service: Service, model: ServedModel) -> None:
    with service.client() as client:
        answer = client.post("/v1/maps", files={"file": ("a.png", png())}).json()
    expected = model.maps(decode_image(png(), "a.png", max_pixels=10**6))
    assert (answer["height_px"], answer["width_px"]) == IMAGE_HW
    assert answer["method"] == model.facts.map_method
    assert tuple(answer["grid_hw"]) == expected[0].values.shape
    assert [one["finding"] for one in answer["maps"]] == [one.finding for one in expected]
    assert [base64.b64decode(one["values_base64"]) for one in answer["maps"]] == [
        one.values.tobytes() for one in expected
    ]


def test_maps_of_an_unreadable_file_or_of_two_files_are_refused(service: Service) -> None:
    two = [("file", ("a.png", png())), ("file", ("b.png", png()))]
    with service.client() as client:
        assert client.post("/v1/maps", files={"file": ("a.png", b"nothing")}).status_code == 422
        assert client.post("/v1/maps", files=two).status_code == 413


def test_maps_that_cannot_be_loaded_are_the_services_fault(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run chain that was damaged, and a bundle without a classifier to take its place."""
    chain = Path(shutil.copytree(bundle.parents[2], tmp_path / "chain"))
    (chain / "stage1" / "calibration.json").unlink()
    file = chain / bundle.relative_to(bundle.parents[2]) / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"classifier": None}))
    with running(open_model(file.parent, maps=True, num_threads=1)) as service, service.client() as client:
        answers = [client.post("/v1/maps", files={"file": ("a.png", png())}) for _ in range(2)]
        assert [(answer.status_code, list(answer.json())) for answer in answers] == [(503, ["error"])] * 2
        assert client.post("/v1/detections", files=files("a.png")).status_code == 200
    assert caplog.text.count("calibration.json") == 1
    assert str(tmp_path) not in answers[0].text


def test_model(service: Service, model: ServedModel) -> None:
    with service.client() as client:
        answer = client.get("/v1/model").json()
    facts = model.facts
    assert answer["points"] == {
        name: {
            "about": point.about,
            "scores": {finding: point.scores.get(finding) for finding in facts.findings},
            "confidence": facts.point_confidences.get(name),
            "measured": None,
        }
        for name, point in facts.points.items()
    }
    assert answer["default_point"] in answer["points"]
    assert (answer["card"], answer["map_method"]) == (facts.card, facts.map_method)
    assert (answer["corrections"], answer["images_kept"], answer["version"]) == (False, False, version("raybox"))
