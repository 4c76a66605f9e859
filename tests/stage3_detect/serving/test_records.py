"""Records of the images that the service has seen: what drift reads, and nothing of the patient."""

import json
from pathlib import Path

import pytest

from cxr.config import UserError
from eval.drift.records import read_records
from stage3_detect.image_quality.gate import Gate
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.serving.interface import FoundBox, ServedModel
from stage3_detect.serving.records import RecordFile
from tests.stage3_detect.image_quality.gate_builders import chest
from tests.stage3_detect.serving.services import files, running

BOX = (0.0, 0.0, 9.0, 9.0)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--records"):
        RecordFile(tmp_path / "no folder" / "r.jsonl", ("Edema",))


def test_a_line_has_the_best_score_of_each_finding(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    boxes = [FoundBox("Edema", BOX, 0.25, None, True), FoundBox("Edema", BOX, 0.5, None, False)]
    file = RecordFile(path, ("Edema", "Fracture"))
    file.add(Gate().check(chest(0)), boxes)
    path.rename(tmp_path / "r.jsonl.1")  # as logrotate does
    file.add(Quality.of(["inverted"]), [])
    record = json.loads((tmp_path / "r.jsonl.1").read_text())
    assert set(record) == {"time", "quality", "scores"}
    assert record["scores"] == {"Edema": 0.5, "Fracture": 0}
    assert json.loads(path.read_text())["quality"]["codes"] == ["inverted"]


def test_each_image_of_a_request_has_a_line_that_drift_reads(model: ServedModel, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with running(model, records=path) as service, service.client() as client:
        client.post("/v1/detections", files=files("patient_a.png", "patient_b.png"))
    assert "patient" not in path.read_text()
    found = read_records(path, option="--current")
    assert found.num_images == 2
    assert {f"score {name}" for name in model.facts.findings} <= set(found.values)
