"""The route: what it answers, and that the reading is on disk before."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cxr.config import UserError
from stage3_detect.serving.corrections.store import open_readings
from stage3_detect.serving.http.app import make_app
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.settings import Limits, ServiceSettings
from tests.disks import files_of_at_most
from tests.stage3_detect.serving.corrections.correction_builders import MODEL, body, box
from tests.stage3_detect.serving.services import IMAGE_HW, png
from tests.stage3_detect.stage3_builders import FINDINGS

NODULE, EFFUSION = FINDINGS
PNG_SIZE = {"height_px": IMAGE_HW[0], "width_px": IMAGE_HW[1]}
URL = "/v1/corrections"


@pytest.fixture(scope="module")
def model(bundle: Path) -> ServedModel:
    opened = open_model(bundle, num_threads=1)
    opened.facts = replace(opened.facts, manifest_sha256=MODEL)
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "corrections"


@pytest.fixture
def client(model: ServedModel, folder: Path) -> Iterator[TestClient]:
    with service(model, corrections=folder) as opened:
        yield opened


def service(model: ServedModel, **settings: Any) -> TestClient:
    return TestClient(make_app(model, ServiceSettings(**settings)), base_url="http://127.0.0.1")


def test_a_reading_without_boxes(client: TestClient, folder: Path) -> None:
    answer = client.post(URL, json=body())
    assert (answer.status_code, answer.json()) == (201, {"id": "000001", "image_kept": None})
    (reading,) = open_readings(folder)
    assert (reading.reader, reading.findings, reading.boxes) == ("r1", FINDINGS, ())


def test_what_is_posted_is_what_is_saved(client: TestClient, folder: Path) -> None:
    given = body([box(), box("moved", NODULE), box("drawn", NODULE), box("rejected")], complete=True, clicks=7)
    assert client.post(URL, json=given).json()["id"] == "000001"
    (reading,) = open_readings(folder)  # before the service ends
    saved = reading.model_dump(mode="json", exclude={"id", "time", "findings", "parents"})
    for one in given["boxes"]:
        one.setdefault("original_box_xyxy", None)
        one["original_finding"] = None
    assert saved == given
    metrics = client.get("/metrics").text
    assert f'raybox_corrections_total{{action="moved",finding="{NODULE}"}} 1.0' in metrics
    assert f'raybox_accepted_share{{finding="{NODULE}"}} 0.0' in metrics


def test_the_end_of_the_service_completes_the_files(model: ServedModel, folder: Path) -> None:
    for number in (1, 2):
        with service(model, corrections=folder) as client:
            assert client.post(URL, json=body([box()], reader=f"r{number}")).json()["id"] == f"00000{number}"
    document = json.loads((folder / "corrections.json").read_text(encoding="utf-8"))
    assert [entry["reader"] for entry in document["annotations"]] == ["r1", "r2"]
    assert len((folder / "labels.csv").read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        body(consent=False),
        body(reader="<script>"),
        body([box(finding="Edema")]),
        body([box(box_xyxy=[0, 0, 131, 90])]),
        body([box("drawn")], image_sha256="A"),
        body() | {"boxes": None},
    ],
)
def test_a_bad_body_is_refused_with_one_sentence(client: TestClient, folder: Path, given: Any) -> None:
    answer = client.post(URL, json=given)
    assert answer.status_code == 422 and list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]
    assert open_readings(folder) == []


def test_boxes_of_another_model_are_refused(client: TestClient, folder: Path) -> None:
    answer = client.post(URL, json=body(model_sha256="0" * 64, complete=True))
    assert answer.status_code == 422 and "another model" in answer.json()["error"]
    assert open_readings(folder) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(client: TestClient, number: str) -> None:
    text = json.dumps(body()).replace("14.5", number)
    answer = client.post(URL, content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and "seconds" in answer.json()["error"]


def test_an_answer_does_not_repeat_a_long_key(client: TestClient) -> None:
    answer = client.post(URL, json=body() | {100_000 * "k": 1})
    assert answer.status_code == 422 and len(answer.json()["error"]) < 400


def test_other_kinds_of_requests(model: ServedModel, folder: Path) -> None:
    with service(model, corrections=folder, limits=Limits(max_json_bytes=2000)) as client:
        assert client.post(URL, content="x" * 10, headers={"content-type": "text/plain"}).status_code == 415
        assert client.post(URL, content="{", headers={"content-type": "application/json"}).status_code == 422
        assert client.post(URL, json=body([box()] * 50)).status_code == 413
        assert client.get(URL).status_code == 405
        assert client.post(URL, json=body()).status_code == 201


def test_without_a_folder_there_is_no_route(model: ServedModel) -> None:
    with service(model) as client:
        answer = client.post(URL, json=body())
    assert answer.status_code == 404 and "--corrections" in answer.json()["error"]


def test_an_image_is_kept_with_its_correction(model: ServedModel, folder: Path) -> None:
    data = png()
    with service(model, corrections=folder, keep_images=True) as client:
        assert client.post("/v1/detections", files={"files": ("chest.png", data)}).status_code == 200
        assert not (folder / "images").exists()
        given = body(image_sha256=hashlib.sha256(data).hexdigest(), **PNG_SIZE)
        assert client.post(URL, json=given | {"width_px": 130}).status_code == 422
        assert client.post(URL, json=given).json()["image_kept"] is True
        assert client.post(URL, json=body()).json()["image_kept"] is False  # the service has not seen this image
    assert [path.read_bytes() for path in (folder / "images").iterdir()] == [data]


def test_a_full_disk_is_507_and_nothing_is_saved(client: TestClient, folder: Path) -> None:
    assert client.post(URL, json=body([box()])).status_code == 201
    with files_of_at_most((folder / "corrections.jsonl").stat().st_size + 50):
        answer = client.post(URL, json=body([box()]))
    assert answer.status_code == 507 and "disk is full" in answer.json()["error"]
    assert len(open_readings(folder)) == 1
    assert client.post(URL, json=body([box()])).json()["id"] == "000002"


def test_a_folder_that_cannot_be_written_is_507_and_nothing_is_saved(model: ServedModel, folder: Path) -> None:
    data = png()
    with service(model, corrections=folder, keep_images=True) as client:
        assert client.post("/v1/detections", files={"files": ("chest.png", data)}).status_code == 200
        (folder / "images").write_text("in the way", encoding="utf-8")
        answer = client.post(URL, json=body(image_sha256=hashlib.sha256(data).hexdigest(), **PNG_SIZE))
    assert (answer.status_code, list(answer.json())) == (507, ["error"])
    assert open_readings(folder) == []


def test_a_second_service_on_the_folder_does_not_start(client: TestClient, model: ServedModel, folder: Path) -> None:
    with pytest.raises(UserError, match="another service"):
        service(model, corrections=folder)
    assert client.post(URL, json=body()).status_code == 201


def test_a_folder_that_cannot_be_made_is_named(model: ServedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="--corrections"):
        service(model, corrections=tmp_path / "file" / "corrections")


def test_the_description_has_an_example_that_is_valid(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"][URL]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(body([box()])) | {"complete"}
    assert schema["properties"]["boxes"]["items"]["properties"].keys() >= {"finding", "box_xyxy", "action"}
    assert client.post(URL, json=schema["examples"][0]).status_code == 201
