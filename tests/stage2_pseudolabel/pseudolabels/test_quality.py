"""Pseudo-boxes against true boxes of the training images."""

from dataclasses import replace

import numpy as np
import pytest

from cxr.coco import CocoBoxes, boxes_table
from stage2_pseudolabel.pseudolabels.coverage import coverage_of
from stage2_pseudolabel.pseudolabels.export import PseudoLabels
from stage2_pseudolabel.pseudolabels.quality import pseudo_label_quality
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import statistics
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, truth_of

LESION, EFFUSION = FINDINGS
SET = [("wide", LESION, 10, 10, 30, 20), ("flat", LESION, 40, 10, 60, 20), ("flat", EFFUSION, 0, 0, 20, 10)]


def labels_of(*rows: tuple[object, ...], ignored_by: list[str] | None = None) -> PseudoLabels:
    boxes = boxes_table([(*row, 0.5) for row in rows])
    reasons = ignored_by or [""] * len(rows)
    coco = truth_of().with_boxes(boxes.assign(iscrowd=[int(r != "") for r in reasons], ignored_by=reasons))
    coverage = coverage_of(coco, np.zeros((0, 2)), np.full(2, np.nan))
    return PseudoLabels(coco, (), boxes_table(), boxes_table(), statistics().calibration, coverage)


@pytest.mark.parametrize("truth", [None, truth_of()])
def test_no_quality_without_true_boxes(truth: CocoBoxes | None) -> None:
    assert pseudo_label_quality(labels_of(*SET), truth) is None


def test_no_pseudo_boxes_find_nothing_and_have_no_precision() -> None:
    quality = pseudo_label_quality(labels_of(), truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert quality.exported.recall.values.tolist() == [0, 0]
    assert np.isnan(quality.exported.precision.values).all()
    assert (quality.num_true, quality.num_images, quality.exported.num_boxes) == (3, 2, 0)


def test_precision_and_recall_of_each_finding() -> None:
    found = [SET[0], ("wide", LESION, 40, 30, 50, 40), ("flat", LESION, 42, 10, 60, 20)]
    quality = pseudo_label_quality(labels_of(*found), truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert quality.exported.precision.values[0] == pytest.approx(2 / 3)
    assert np.isnan(quality.exported.precision.values[1])
    assert quality.exported.recall.values.tolist() == [1, 0]
    figures = quality.metrics()
    assert figures["pseudo_precision40"] == pytest.approx(2 / 3)
    assert figures["pseudo_recall40"] == pytest.approx(0.5)
    assert figures["pseudo_recall40/lung_lesion"] == 1
    assert figures["pseudo_precision40/lung_lesion/low"] == pytest.approx(0.5)
    assert figures["pseudo_precision40/lung_lesion/high"] == 1


def test_two_boxes_on_one_true_box_are_one_hit() -> None:
    quality = pseudo_label_quality(labels_of(SET[0], SET[0]), truth_of(SET[0]), num_resamples=20)
    assert quality is not None
    assert quality.exported.precision.values[0] == 0.5
    assert quality.exported.recall.values[0] == 1


def test_an_ignore_region_is_neither_a_hit_nor_a_false_alarm() -> None:
    boxes = [SET[0], ("wide", LESION, 0, 0, 60, 40), SET[1]]
    pseudo = labels_of(*boxes, ignored_by=["", "uncertain label", "low confidence"])
    quality = pseudo_label_quality(pseudo, truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert (quality.exported.precision.values[0], quality.exported.recall.values[0]) == (1, 0.5)
    assert (quality.unfiltered.precision.values[0], quality.unfiltered.recall.values[0]) == (1, 1)
    assert (quality.exported.num_boxes, quality.unfiltered.num_boxes) == (1, 2)
    assert quality.metrics()["pseudo_recall40_unfiltered/lung_lesion"] == 1


def test_dropped_boxes_count_as_unfiltered() -> None:
    dropped = boxes_table([(*SET[1], 0.1), ("wide", LESION, 40, 30, 50, 40, 0.1)])
    labels = replace(labels_of(SET[0]), dropped=dropped)
    quality = pseudo_label_quality(labels, truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert (quality.exported.precision.values[0], quality.exported.recall.values[0]) == (1, 0.5)
    assert quality.unfiltered.precision.values[0] == pytest.approx(2 / 3)
    assert quality.unfiltered.recall.values[0] == 1


def test_boxes_in_images_where_nobody_marked_the_finding_do_not_count() -> None:
    quality = pseudo_label_quality(labels_of(SET[0], ("wide", EFFUSION, 0, 0, 9, 9)), truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert np.isnan(quality.exported.precision.values[1])


def test_true_boxes_of_excluded_images_are_missed() -> None:
    pseudo = labels_of(SET[0])
    only_wide = CocoBoxes(pseudo.coco.images.iloc[:1], pseudo.coco.boxes, FINDINGS)
    quality = pseudo_label_quality(replace(pseudo, coco=only_wide), truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert quality.exported.recall.values.tolist() == [0.5, 0]
