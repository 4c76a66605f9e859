import math

import numpy as np
import pytest
from stage2_builders import FINDINGS, blank_maps, truth_of

from stage2_pseudolabel.boxes_from_cam import ComponentRule
from stage2_pseudolabel.config import BoxSettings
from stage2_pseudolabel.priors import CENTER_BOX, mean_boxes, prior_detections
from stage2_pseudolabel.tuning import (
    Frame,
    Scored,
    box_candidates,
    candidate_rules,
    detect,
    mean_of,
    tune_rules,
)

FRAME = Frame((32, 48), keep_aspect=False)
SETTINGS = BoxSettings(
    rules=["relative"], relative_thresholds=[0.2, 0.8], max_boxes=[1], upsample=1, min_area=0
)
TRUTH = truth_of(("wide", "Lung Lesion", 10, 10, 30, 20), ("flat", "Lung Lesion", 45, 15, 60, 22.5))


def test_no_evidence_no_detections() -> None:
    rules = [ComponentRule("relative", 0.5)] * 2
    assert detect(Scored(blank_maps(), np.ones((2, 2))), TRUTH, rules, frame=FRAME).empty


def test_boxes_land_in_image_pixels_with_probability_times_evidence() -> None:
    maps = blank_maps()
    maps[0, 0, 1, 1:3] = [4, 2]  # row 1 of 4, columns 1-2 of 6
    maps[1, 1, 3, 5] = 1
    found = detect(
        Scored(maps, np.array([[0.5, 0], [0, 0.25]])),
        TRUTH,
        [ComponentRule("relative", 0.4, upsample=1)] * 2,
        frame=FRAME,
    )
    assert found["image_id"].tolist() == ["wide", "flat"]
    np.testing.assert_allclose(found[["x1", "y1", "x2", "y2"]], [[10, 10, 30, 20], [75, 22.5, 90, 30]])
    np.testing.assert_allclose(found["score"], [0.5 * 0.75, 0.25])


def test_letterboxed_maps_are_mapped_back() -> None:
    # 90 x 30 in 48 x 32: content 48 x 16 with bars of 8; rows 1 and 2 of 4 are the picture
    maps = blank_maps()
    maps[1, 0, 1:3, :3] = 1
    found = detect(
        Scored(maps, np.ones((2, 2))),
        TRUTH,
        [ComponentRule("relative", 0.5, upsample=1)] * 2,
        frame=Frame((32, 48), keep_aspect=True),
    )
    np.testing.assert_allclose(found[["x1", "y1", "x2", "y2"]], [[0, 0, 45, 30]])


def test_tuning_picks_the_threshold_that_fits_each_finding() -> None:
    maps = blank_maps()
    # Lung Lesion: the box is the wide area above .2. Pleural Effusion: only the core above .8.
    maps[0, 0, 1, 1:3] = [5, 2]
    maps[0, 1, 2, 1:5] = [1, 1, 4, 1]
    truth = truth_of(("wide", "Lung Lesion", 10, 10, 30, 20), ("wide", "Pleural Effusion", 30, 20, 40, 30))
    rules, aps = tune_rules(Scored(maps, np.ones((2, 2))), truth, SETTINGS, frame=FRAME)
    assert [rule.threshold for rule in rules] == [0.2, 0.8]
    assert aps == pytest.approx({"Lung Lesion": 1.0, "Pleural Effusion": 1.0})


def test_a_finding_without_true_boxes_is_no_zero() -> None:
    maps = blank_maps()
    maps[:, :, 0, 0] = 1
    rules, aps = tune_rules(Scored(maps, np.ones((2, 2))), TRUTH, SETTINGS, frame=FRAME)
    assert math.isnan(aps["Pleural Effusion"])
    assert len(rules) == 2
    assert mean_of({"a": 0.5, "b": float("nan")}) == 0.5
    assert math.isnan(mean_of({}))


def test_absolute_candidates_are_quantiles_of_the_findings_own_maps() -> None:
    maps = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    settings = BoxSettings(rules=["absolute"], absolute_quantiles=[0.5], max_boxes=[1, 2])
    rules = candidate_rules(settings, maps, box_candidates(TRUTH, "Edema", FRAME, max_candidates=9))
    assert [(rule.threshold, rule.max_boxes) for rule in rules] == [(11.5, 1), (11.5, 2)]


def test_mean_box_in_shares_of_each_image() -> None:
    means = mean_boxes(TRUTH)
    first = np.array([10 / 60, 10 / 40, 30 / 60, 20 / 40])
    second = np.array([45 / 90, 15 / 30, 60 / 90, 22.5 / 30])
    np.testing.assert_allclose(means["Lung Lesion"], (first + second) / 2)
    assert means["Pleural Effusion"] == CENTER_BOX


def test_prior_is_one_box_an_image_and_finding_with_the_classifiers_score() -> None:
    boxes = dict.fromkeys(FINDINGS, (0.0, 0.5, 0.5, 1.0))
    found = prior_detections(TRUTH, boxes, np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert found["score"].tolist() == [0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(found.loc[2, ["x1", "y1", "x2", "y2"]].to_numpy(float), [0, 15, 45, 30])


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_rules_are_recorded_in_plain_values(kind: str) -> None:
    rule = ComponentRule(kind, 0.5, 2)  # type: ignore[arg-type]
    assert rule.as_dict() == {"rule": "components", "normalization": kind, "threshold": 0.5, "max_boxes": 2}
