"""The examples of docs/library.md run as they stand, one after the other."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text(encoding="utf-8"), re.DOTALL)


def write_coco_files(folder: Path) -> None:
    """Two images with a true box each; one is found exactly."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (1, 2)]
    box = {"category_id": 1, "bbox": [8, 8, 16, 12], "area": 192, "iscrowd": 0}
    truth = {"images": images, "categories": [{"id": 1, "name": "Nodule"}]}
    truth["annotations"] = [box | {"id": i, "image_id": i} for i in (1, 2)]
    found = [{"image_id": 1, "category_id": 1, "bbox": [8, 8, 16, 12], "score": 0.9}]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "detections.json").write_text(json.dumps(found))


def test_the_examples_run_and_give_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_coco_files(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, names)
    assert names["maps"].shape == (2, 14, 7, 10)
    assert names["probabilities"].shape == (2, 14)
    assert names["boxes"].shape == (len(names["scores"]), 4)
    assert names["scored"].results["ap40"].mean == pytest.approx(0.5, abs=0.01)


def test_there_are_three_of_at_most_ten_lines() -> None:
    assert len(BLOCKS) == 3
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 10 for block in BLOCKS)
