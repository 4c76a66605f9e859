"""True boxes for the reading page."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cxr.config import UserError
from stage3_detect.serving.page.truth import TruthBox, read_truth


def write(path: Path, **changes: Any) -> Path:
    document = {
        "images": [{"id": 1, "file_name": "a/one.png"}, {"id": 2, "file_name": "a/two.png", "region": "full"}],
        "categories": [{"id": 7, "name": "Edema"}],
        "annotations": [
            {"image_id": 2, "category_id": 7, "bbox": [10, 20, 30, 5.5]},
            {"image_id": 2, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    path.write_text(json.dumps(document | changes), encoding="utf-8")
    return path


def test_an_empty_file_has_no_images(tmp_path: Path) -> None:
    assert read_truth(write(tmp_path / "coco.json", images=[], annotations=[])) == {}


def test_boxes_by_file_name_without_ignore_regions(tmp_path: Path) -> None:
    box = TruthBox(finding="Edema", box_xyxy=(10, 20, 40, 25.5))
    assert read_truth(write(tmp_path / "coco.json")) == {"one.png": [], "two.png": [box]}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"images": [{"id": 1, "file_name": "a/x.png"}, {"id": 2, "file_name": "b/x.png"}]}, "x.png"),
        ({"images": [{"id": 2, "file_name": "x.png", "region": "left"}]}, "x.png"),
        ({"images": [{"id": 2, "file_name": "x.png"}, {"id": 2, "file_name": "y.png"}]}, "id 2"),
        ({"categories": []}, "coco.json"),
        ({"annotations": [{"image_id": 2, "category_id": 7, "bbox": [1, 2]}]}, "coco.json"),
        ({"annotations": [{"image_id": 2, "category_id": 7, "bbox": [1, 2, float("nan"), 4]}]}, "bbox"),
        ({"annotations": [{"image_id": 2, "category_id": 7, "bbox": [1, 2, 3, -4]}]}, "bbox"),
        ({"images": ["one.png"]}, "coco.json"),
    ],
)
def test_a_file_that_would_mislead_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        read_truth(write(tmp_path / "coco.json", **changes))


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "coco.json")
    plain = read_truth(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_truth(path) == plain


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "coco.json")
    with pytest.raises(UserError, match="--truth"):
        read_truth(tmp_path / "coco.json")


@pytest.mark.parametrize("content", [None, "", "[]", "{", 100_000 * "["])
def test_what_is_no_coco_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "coco.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="--truth"):
        read_truth(path)
