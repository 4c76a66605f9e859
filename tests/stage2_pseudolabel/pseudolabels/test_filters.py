"""What a filter takes out, exactly."""

from pathlib import Path

import numpy as np
import pytest

from cxr.coco import boxes_table
from stage2_pseudolabel.pseudolabels.filters import (
    IMPLAUSIBLE,
    LOW_CONFIDENCE,
    NO_AGREEMENT,
    below_confidence,
    first_filter,
    further_below_confidence,
    implausible,
    without_agreement,
)
from stage2_pseudolabel.pseudolabels.gallery import pseudo_table
from stage2_pseudolabel.settings.pseudolabels import PseudoLabelSettings
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import (
    exported,
    facts,
    lit_maps,
    makers,
    training_set,
)

NONE = np.zeros((0, 4))
UNIT = np.array([[0.2, 0.2, 0.6, 0.4]])


def test_no_boxes_pass_every_filter() -> None:
    assert below_confidence(np.zeros(0), 0.5).tolist() == []
    assert without_agreement(boxes_table(), boxes_table(), iou=0.3).tolist() == []
    assert implausible(NONE, [], {"Lung Lesion": UNIT}, iou=0.1).tolist() == []
    assert first_filter({LOW_CONFIDENCE: np.zeros(0, dtype=bool)}, 0).tolist() == []


def test_confidence_at_the_minimum_passes() -> None:
    assert below_confidence(np.array([0.49, 0.5, 0.51]), 0.5).tolist() == [True, False, False]
    assert below_confidence(np.array([0.0]), 0.0).tolist() == [False]


def test_of_an_image_and_finding_the_best_box_stays_whatever_its_confidence() -> None:
    rows = [("a", "L", 0.3), ("a", "L", 0.5), ("a", "L", 0.5), ("a", "P", 0.1), ("b", "L", 0.1)]
    boxes = boxes_table([(image, finding, 0, 0, 9, 9, score) for image, finding, score in rows])
    confidence = np.array([0.25, 0.1, 0.1, 0.0, 0.0])
    found = further_below_confidence(boxes, confidence, 0.25)
    assert found.tolist() == [False, False, True, False, False]  # of the equals the first is best
    assert further_below_confidence(boxes_table(), np.zeros(0), 0.25).tolist() == []


def test_agreement_is_asked_of_the_same_image_and_finding() -> None:
    boxes = boxes_table(
        [(image, finding, 0, 0, 20, 10, 0.5) for image, finding in [("a", "L"), ("a", "P"), ("b", "L")]]
    )
    others = boxes_table([("a", "L", 10, 0, 30, 10, 0.5), ("b", "P", 0, 0, 20, 10, 0.5)])
    assert without_agreement(boxes, others, iou=0.33).tolist() == [False, True, True]  # IoU 100 / 300
    assert without_agreement(boxes, others, iou=0.34).tolist() == [True, True, True]
    assert without_agreement(boxes, boxes_table(), iou=0.1).tolist() == [True, True, True]


def test_one_of_several_boxes_is_agreement_enough() -> None:
    boxes = boxes_table([("a", "L", 0, 0, 20, 10, 0.5)])
    others = boxes_table([("a", "L", 40, 0, 60, 10, 0.9), ("a", "L", 0, 0, 20, 10, 0.1)])
    assert without_agreement(boxes, others, iou=0.9).tolist() == [False]


def test_position_is_compared_with_the_findings_own_true_boxes() -> None:
    shares = np.array([[0.2, 0.2, 0.6, 0.4], [0.2, 0.2, 0.6, 0.4], [0.8, 0.8, 0.9, 0.9]])
    places = {"L": UNIT, "P": np.array([[0.7, 0.7, 0.9, 0.9]])}
    found = implausible(shares, ["L", "P", "P"], places, iou=0.24)
    assert found.tolist() == [False, True, False]  # the last: an IoU of .01 / .04


def test_a_finding_without_known_places_passes() -> None:
    assert implausible(UNIT, ["L"], {"L": NONE}, iou=0.5).tolist() == [False]
    assert implausible(UNIT, ["L"], {}, iou=0.5).tolist() == [False]


def test_many_boxes_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stage2_pseudolabel.pseudolabels.filters._MAX_PAIRS", 3)
    shares = np.repeat([[0.2, 0.2, 0.6, 0.4], [0.7, 0.7, 0.9, 0.9]], [4, 3], axis=0)
    assert implausible(shares, ["L"] * 7, {"L": np.repeat(UNIT, 2, axis=0)}, iou=0.5).tolist() == (
        [False] * 4 + [True] * 3
    )


def test_a_box_counts_for_the_first_filter_that_it_does_not_pass() -> None:
    against = {LOW_CONFIDENCE: np.array([True, False, False]), NO_AGREEMENT: np.array([True, True, False])}
    assert first_filter(against, 3).tolist() == [LOW_CONFIDENCE, NO_AGREEMENT, ""]


def test_export_keeps_further_boxes_of_high_confidence_alone(tmp_path: Path) -> None:
    maps = lit_maps(1)
    maps[0, 0, 3, 5] = 0.6  # a second component, its evidence .6
    data = training_set(tmp_path, [[1, 0]])
    both, one = (
        exported(data, maps, settings=PseudoLabelSettings(min_confidence_further=value))
        for value in (0.3, 0.4)
    )  # confidence of the second: half the odds of .9 * .6, .37
    assert (len(both.coco.boxes), len(both.dropped)) == (2, 0)
    assert (len(one.coco.boxes), len(one.dropped), one.ignored) == (1, 1, {})
    assert "1 further boxes were too unsure" in pseudo_table(one).note


def test_further_regions_of_a_doubt_are_held_to_the_same(tmp_path: Path) -> None:
    maps = lit_maps(1)
    maps[0, 0, 3, 5] = 0.6
    settings = PseudoLabelSettings(min_confidence_further=0.4)
    pseudo = exported(training_set(tmp_path, [[-1, 0]]), maps, settings=settings)
    assert pseudo.ignored == {"uncertain label": 1}
    assert pseudo.dropped.empty  # what is dropped counts boxes


def test_export_asks_the_other_method(tmp_path: Path) -> None:
    other = lit_maps(2, dark=[(1, 0)])
    settings = PseudoLabelSettings(agree_with="gradcam")
    pseudo = exported(
        training_set(tmp_path, [[1, 0], [1, 0]]),
        {"pcam": lit_maps(2), "gradcam": other},
        settings=settings,
        recipe={"agreeing": makers("gradcam", "gradcam")},
    )
    assert pseudo.coco.boxes["ignored_by"].tolist() == ["", NO_AGREEMENT]
    assert pseudo.excluded == ()


def test_export_knows_the_places_of_the_tune_split(tmp_path: Path) -> None:
    near, far = np.array([[1 / 6, 0.25, 0.5, 0.5]]), np.array([[0.6, 0.6, 0.9, 0.9]])
    settings = PseudoLabelSettings(plausible_position=True)
    pseudo = exported(
        training_set(tmp_path, [[1, 1]]),
        lit_maps(1),
        settings=settings,
        recipe={"facts": facts({"Lung Lesion": near, "Pleural Effusion": far})},
    )
    assert pseudo.coco.boxes["ignored_by"].tolist() == ["", IMPLAUSIBLE]


def test_a_doubt_is_not_counted_as_filtered(tmp_path: Path) -> None:
    settings = PseudoLabelSettings(min_confidence=0.9)
    pseudo = exported(training_set(tmp_path, [[1, -1]]), lit_maps(1), settings=settings)
    assert pseudo.ignored == {LOW_CONFIDENCE: 1, "uncertain label": 1}
