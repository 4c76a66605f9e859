"""What a filter takes out, exactly."""

from pathlib import Path

import numpy as np

from cxr.coco import boxes_table
from stage2_pseudolabel.pseudolabels.filters import LOW_CONFIDENCE, below_confidence, further_below_confidence
from stage2_pseudolabel.pseudolabels.gallery import pseudo_table
from stage2_pseudolabel.settings.pseudolabels import PseudoLabelSettings
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import exported, lit_maps, training_set


def test_confidence_at_the_minimum_passes() -> None:
    assert below_confidence(np.zeros(0), 0.5).tolist() == []
    assert below_confidence(np.array([0.49, 0.5, 0.51]), 0.5).tolist() == [True, False, False]
    assert below_confidence(np.array([0.0]), 0.0).tolist() == [False]


def test_of_an_image_and_finding_the_best_box_stays_whatever_its_confidence() -> None:
    rows = [("a", "L", 0.3), ("a", "L", 0.5), ("a", "L", 0.5), ("a", "P", 0.1), ("b", "L", 0.1)]
    boxes = boxes_table([(image, finding, 0, 0, 9, 9, score) for image, finding, score in rows])
    confidence = np.array([0.25, 0.1, 0.1, 0.0, 0.0])
    found = further_below_confidence(boxes, confidence, 0.25)
    assert found.tolist() == [False, False, True, False, False]  # of the equals the first is best
    assert further_below_confidence(boxes_table(), np.zeros(0), 0.25).tolist() == []


def test_export_keeps_further_boxes_of_high_confidence_alone(tmp_path: Path) -> None:
    maps = lit_maps(1)
    maps[0, 0, 3, 5] = 0.6  # a second component, its evidence .6
    data = training_set(tmp_path, [[1, 0]])
    both, one = (
        exported(data, maps, settings=PseudoLabelSettings(min_confidence_further=value)) for value in (0.3, 0.4)
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


def test_a_doubt_is_not_counted_as_filtered(tmp_path: Path) -> None:
    settings = PseudoLabelSettings(min_confidence=0.9)
    pseudo = exported(training_set(tmp_path, [[1, -1]]), lit_maps(1), settings=settings)
    assert pseudo.ignored == {LOW_CONFIDENCE: 1, "uncertain label": 1}
