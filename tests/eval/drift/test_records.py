"""Records of images: three sources, one table; damage is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from cxr.config import Settings, UserError
from cxr.runs.run_folder import start_run
from eval.drift.records import ImageRecords, read_records
from tests.eval.drift.record_builders import records, write_lines


def read(path: Path) -> ImageRecords:
    return read_records(path, option="--current")


COCO: dict[str, Any] = {
    "info": {"learned_from": "synthetic pictures"},
    "categories": [{"id": 1, "name": "Edema"}, {"id": 2, "name": "Fracture"}],
    "images": [
        {
            "id": 1,
            "quality": {"reasons": ["inverted"], "statistics": {"brightness": 0.5}, "features": [1.0], "gate": "g"},
        },
        {"id": 2, "quality": {"reasons": [], "statistics": {"brightness": 0.25}, "features": [2.0], "gate": "g"}},
    ],
    "annotations": [
        {"image_id": 1, "category_id": 1, "score": 0.2},
        {"image_id": 1, "category_id": 1, "score": 0.75},
        {"image_id": 2, "category_id": 2, "score": 0.5},
    ],
}


def test_the_best_box_of_each_finding_counts(tmp_path: Path) -> None:
    (tmp_path / "predictions.json").write_text(json.dumps(COCO))
    found = read(tmp_path / "predictions.json")
    assert (found.num_images, found.gate, found.synthetic, found.partial) == (2, "g", True, ())
    assert {name: values.tolist() for name, values in found.values.items()} == {
        "refused": [1, 0], "brightness": [0.5, 0.25], "feature 1": [1, 2], "score Edema": [0.75, 0],
        "score Fracture": [0, 0.5],
    }  # fmt: skip


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "records.jsonl", records(3, seed=0))
    path.write_text(path.read_text() + '{"quality": {"sta')
    assert read(path).num_images == 3


def test_numbers_that_some_images_lack_are_named(tmp_path: Path) -> None:
    made = records(2, seed=0) + records(1, seed=1, gate="h")
    made[0]["scores"] = {"Fracture": 0.5}
    found = read(write_lines(tmp_path / "r.jsonl", made))
    assert (found.gate, found.partial) == ("", ("score Fracture", "score Edema"))
    assert "score Edema" not in found.values


def test_a_run_and_a_folder_of_predictions_name_their_file(tmp_path: Path) -> None:
    for stage, output in (("stage3", "image_records"), ("predictions", "predictions")):
        run = start_run(tmp_path / stage, stage=stage, settings=Settings(), inputs={})
        path = run.dir / ("records_tune.jsonl" if stage == "stage3" else "predictions.json")
        _ = write_lines(path, records(4, seed=0)) if stage == "stage3" else path.write_text(json.dumps(COCO))
        run.finish({}, {output: path}, synthetic=stage == "stage3")
        run.release()
    assert (read(tmp_path / "stage3").num_images, read(tmp_path / "predictions").num_images) == (4, 2)
    assert read(tmp_path / "stage3").synthetic
    older = start_run(tmp_path / "older", stage="stage3", settings=Settings(), inputs={})
    older.finish({}, {})
    older.release()
    with pytest.raises(UserError, match="older version"):
        read(tmp_path / "older")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", ""),
        ("text.jsonl", "nothing\n"),
        ("nan.jsonl", '{"quality": {"statistics": {"brightness": NaN}}, "scores": {}}\n'),
        ("too_large.jsonl", '{"quality": {"statistics": {"brightness": 1e308}}, "scores": {}}\n'),
        ("nan_score.json", json.dumps(COCO | {"annotations": [COCO["annotations"][0] | {"score": float("nan")}]})),
        ("no_quality.json", '{"categories": [], "annotations": [], "images": [{"id": 1}]}'),
        ("list.json", "[1, 2]"),
        ("damaged.json", "{"),
    ],
)
def test_files_without_records_are_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"--current .*{name}"):
        read(tmp_path / name)


def test_folders_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        read(tmp_path)
