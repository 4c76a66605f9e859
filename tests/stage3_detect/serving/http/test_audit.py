"""Audit trail: who saw the findings of which image."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.serving.http.audit import Audit
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.keys import add_key
from stage3_detect.serving.interface import ServedModel
from tests.disks import files_of_at_most
from tests.stage3_detect.serving.services import files, png, running


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="audit"):
        Audit(tmp_path / "no folder" / "audit.jsonl")


def test_one_line_an_image(model: ServedModel, tmp_path: Path) -> None:
    keys, trail = tmp_path / "keys.txt", tmp_path / "audit.jsonl"
    trail.write_text('{"earlier": true}\n')
    sent = {"authorization": f"Bearer {add_key(keys, 'ward-3')}"}
    with running(model, api_keys=keys, audit=trail) as service, service.client(headers=sent) as client:
        before = datetime.now(UTC)
        posted = [*files("a.png", "b.png"), ("files", ("c", b"x"))]
        images = client.post("/v1/detections", files=posted).json()["images"]
        client.post("/v1/maps", files={"file": ("a.png", png())})
        client.get("/v1/model")
        lines = [json.loads(line) for line in trail.read_text().splitlines()]
    assert lines[0] == {"earlier": True}
    times = [datetime.fromisoformat(line.pop("time")) for line in lines[1:]]
    assert all((time - before).total_seconds() > -0.001 for time in times)
    shown = [sum(box["shown"] for box in image["detections"]) for image in images[:2]]
    common = {"key": "ward-3", "model_sha256": model.facts.manifest_sha256}
    hashes = [hashlib.sha256(png(seed=seed)).hexdigest() for seed in range(2)]
    detections = [
        {**common, "route": "/v1/detections", "image_sha256": digest, "num_boxes": count}
        for digest, count in zip(hashes, shown, strict=True)
    ]
    assert sorted(map(str, lines[1:3])) == sorted(str({k: one[k] for k in lines[1]}) for one in detections)
    assert lines[3:] == [{**common, "route": "/v1/maps", "image_sha256": hashes[0], "num_boxes": 0}]


def test_a_line_that_was_cut_stands_alone(tmp_path: Path) -> None:
    facts = {"key": "", "route": "/v1/maps", "image_sha256": "a", "model_sha256": "b", "num_boxes": 0}
    trail = tmp_path / "audit.jsonl"
    trail.write_text('{"cut by a kill')
    audit = Audit(trail)
    audit.write(**facts)
    with files_of_at_most(trail.stat().st_size + 20), pytest.raises(Refusal):
        audit.write(**facts)
    audit.write(**facts)
    lines = trail.read_text().splitlines()
    assert [line[:2] for line in lines] == ['{"'] * 4
    assert [json.loads(lines[place])["route"] for place in (1, 3)] == ["/v1/maps"] * 2
    assert (lines[0], len(lines[2])) == ('{"cut by a kill', 20)


def test_a_file_that_was_removed_takes_no_line(tmp_path: Path) -> None:
    facts = {"key": "", "route": "/v1/maps", "image_sha256": "a", "model_sha256": "b", "num_boxes": 0}
    trail = tmp_path / "audit.jsonl"
    audit = Audit(trail)
    audit.write(**facts)
    trail.rename(tmp_path / "audit.jsonl.1")  # as logrotate does; the line is kept there
    audit.write(**facts)
    assert len((tmp_path / "audit.jsonl.1").read_text().splitlines()) == 2
    (tmp_path / "audit.jsonl.1").unlink()
    with pytest.raises(Refusal) as caught:
        audit.write(**facts)
    assert caught.value.status == 507


def test_a_pipe_takes_the_lines(tmp_path: Path) -> None:
    trail = tmp_path / "pipe"
    os.mkfifo(trail)
    reader = os.open(trail, os.O_RDONLY | os.O_NONBLOCK)
    Audit(trail).write(key="", route="/v1/maps", image_sha256="a", model_sha256="b", num_boxes=3)
    assert json.loads(os.read(reader, 1000))["num_boxes"] == 3
    os.close(reader)


def test_without_a_line_on_disk_there_is_no_answer(model: ServedModel) -> None:
    with running(model, audit=Path("/dev/full")) as service, service.client() as client:
        answer = client.post("/v1/detections", files=files("a.png"))
        assert client.get("/healthz").status_code == 200
    assert (answer.status_code, list(answer.json())) == (507, ["error"])
