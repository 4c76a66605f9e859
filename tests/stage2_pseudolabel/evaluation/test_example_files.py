"""stage2_pseudolabel.evaluation.example_files: which images are chosen, and what is written of them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from cxr.coco import boxes_table
from stage2_pseudolabel.evaluation.example_files import LONGER_SIDE_PX, median_examples, write_examples
from stage2_pseudolabel.evaluation.leaderboard import score_entry
from tests.stage2_pseudolabel.evaluation.leaderboard_builders import LESION, lit_maps, split_data
from tests.stage2_pseudolabel.stage2_builders import truth_of

BOXES = boxes_table([("wide", LESION, 10, 10, 30, 20, 0.9), ("flat", LESION, 0, 0, 5, 5, 0.3)])


def test_without_true_boxes_there_are_no_examples(tmp_path: Path) -> None:
    held = split_data(tmp_path, {}, truth=truth_of())
    entry = score_entry("prior_mean_box", held, held.truth.with_boxes(BOXES))
    assert json.loads(write_examples(tmp_path, held, entry).read_text())["examples"] == []


def test_an_example_has_a_radiograph_and_a_map_in_the_shape_of_the_image(tmp_path: Path) -> None:
    held = split_data(tmp_path, {"pcam": lit_maps()})
    entry = score_entry("pcam", held, held.truth.with_boxes(BOXES), methods=("pcam", "pcam"))
    assert [(one.row, one.iou) for one in median_examples(held, entry, 5)] == [(0, 1.0)]
    (example,) = json.loads(write_examples(tmp_path, held, entry).read_text())["examples"]
    assert (example["image_id"], example["finding"], example["method"]) == ("wide", LESION, "pcam")
    gray, heat = (
        np.asarray(Image.open(tmp_path / example[name]).convert("RGB")).astype(int)
        for name in ("radiograph", "heat_map")
    )
    assert gray.shape == heat.shape == (LONGER_SIDE_PX * 40 // 60, LONGER_SIDE_PX, 3)
    assert np.ptp(gray, axis=2).max() < 12  # grey
    assert np.ptp(heat, axis=2).max() > 100
