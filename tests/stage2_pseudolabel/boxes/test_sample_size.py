"""How the boxes depend on the number of true boxes to tune on."""

import math

import numpy as np
import pandas as pd
import pytest

from cxr.coco import CocoBoxes, boxes_table
from eval.detection.average_precision import evaluate
from stage2_pseudolabel.boxes import sample_size
from stage2_pseudolabel.boxes.detect import Scored, detect
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.sample_size import sample_images, sample_size_curve
from stage2_pseudolabel.boxes.search import tune_rules
from stage2_pseudolabel.settings.boxes import BoxSettings
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, truth_of

FRAME = Frame((32, 48), keep_aspect=False)
SETTINGS = BoxSettings(
    rules=["relative", "bayes"], relative_thresholds=[0.5], bayes_betas=[0, 2], max_boxes=[1], background=["none"]
)


def split(seed: int, num_images: int) -> tuple[Scored, CocoBoxes]:
    """Every other image has a box of the first finding, every fourth one of the second; none is at a fixed place."""
    rng = np.random.default_rng(seed)
    both = truth_of().images
    images = pd.concat([both.iloc[[i % 2]] for i in range(num_images)], ignore_index=True)
    images["image_id"] = [f"i{i}" for i in range(num_images)]
    maps = rng.uniform(0, 0.3, size=(num_images, 2, 6, 8)).astype(np.float32)
    rows = []
    for i in range(num_images):
        for k in [0] * (i % 2 == 0) + [1] * (i % 4 == 0):
            x, y = rng.integers(0, 5), rng.integers(0, 4)
            maps[i, k, y : y + 2, x : x + 3] += 1
            box = np.array([x / 8, y / 6, (x + 3) / 8, (y + 2) / 6])
            in_pixels = box * np.tile(images.loc[i, ["width", "height"]].to_numpy(float), 2)
            rows.append((f"i{i}", FINDINGS[k], *in_pixels, math.nan))
    return Scored(maps, rng.uniform(size=(num_images, 2))), CocoBoxes(images, boxes_table(rows), FINDINGS)


def test_sizes_beyond_what_there_is_are_left_out() -> None:
    nothing = (Scored(np.zeros((2, 2, 6, 8), dtype=np.float32), np.ones((2, 2))), truth_of())
    test = split(1, 8)
    assert sample_size_curve(nothing, test, SETTINGS, frame=FRAME, seed=0, sizes=(1, 10)) == []
    points = sample_size_curve(split(0, 8), test, SETTINGS, frame=FRAME, seed=0, sizes=(6, 7, None))
    assert [point.size for point in points] == [6, None]


def test_all_boxes_are_tuned_on_once_and_scored_as_pycocotools_scores() -> None:
    tune, test = split(0, 16), split(1, 12)
    (point,) = sample_size_curve(tune, test, SETTINGS, frame=FRAME, seed=0, sizes=(None,))
    assert (point.num_boxes, point.num_images) == (12, 16)
    rules = tune_rules(*tune, SETTINGS, frame=FRAME).rules
    found = test[1].with_boxes(detect(*test, rules, frame=FRAME))
    assert point.ap40 == pytest.approx(evaluate(test[1], found).mean_ap(0.4), abs=1e-9)
    assert point.draws == (point.ap40,)
    assert point.low < point.ap40 < point.high


def test_draws_hold_the_boxes_that_were_asked_for_and_depend_on_the_seed() -> None:
    tune, test = split(0, 40), split(1, 12)
    same = [sample_size_curve(tune, test, SETTINGS, frame=FRAME, seed=3, sizes=(5,)) for _ in range(2)]
    assert same[0] == same[1]
    point = same[0][0]
    assert 5 <= point.num_boxes <= 6  # an image has two boxes at most
    assert len(point.draws) == sample_size.NUM_REPEATS
    assert point.ap40 == pytest.approx(np.mean(point.draws))
    assert point.low <= min(point.draws) and max(point.draws) <= point.high
    assert sample_size_curve(tune, test, SETTINGS, frame=FRAME, seed=4, sizes=(5,)) != same[0]


def test_images_are_drawn_until_they_hold_the_boxes_and_no_further() -> None:
    truth = split(0, 40)[1]
    boxes_of = truth.boxes["image_id"].value_counts()
    for seed in range(20):
        rows = sample_images(truth, 7, np.random.default_rng(seed))
        assert rows == sorted(set(rows))
        held = boxes_of.reindex(truth.images["image_id"].iloc[rows]).fillna(0)
        assert 7 <= held.sum() <= 8
    assert sample_images(truth, None, np.random.default_rng(0)) == list(range(40))


def test_a_draw_has_the_maps_and_probabilities_of_its_images() -> None:
    tune = split(0, 10)
    scored, truth = sample_size._part(tune, [7, 4])
    assert truth.images["image_id"].tolist() == ["i7", "i4"]
    assert set(truth.boxes["image_id"]) == {"i4"}
    np.testing.assert_array_equal(scored.maps, tune[0].maps[[7, 4]])
    np.testing.assert_array_equal(scored.probabilities, tune[0].probabilities[[7, 4]])


def test_each_method_of_a_fusion_is_tuned_on_the_sample() -> None:
    """A method that is fused with itself gives the curve of the method; max_boxes 1, so no two boxes are fused."""
    (scored, truth), (on_test, test_truth) = split(0, 16), split(1, 12)
    twice = [Scored(one.maps, one.probabilities, (one.maps,)) for one in (scored, on_test)]
    alone = sample_size_curve((scored, truth), (on_test, test_truth), SETTINGS, frame=FRAME, seed=0, sizes=(5, None))
    fused = sample_size_curve((twice[0], truth), (twice[1], test_truth), SETTINGS, frame=FRAME, seed=0, sizes=(5, None))
    assert [point.ap40 for point in fused] == pytest.approx([point.ap40 for point in alone])
