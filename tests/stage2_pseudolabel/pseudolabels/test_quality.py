"""Pseudo-boxes against true boxes of the training images, statistics, tables and pictures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.coco import CocoBoxes, boxes_table
from cxr.readers import ReaderSettings
from eval.report.pictures import GREEN, ORANGE
from stage2_pseudolabel.boxes.truth import ground_truth
from stage2_pseudolabel.pseudolabels.export import judged_by_truth
from stage2_pseudolabel.pseudolabels.gallery import (
    GREY,
    box_statistics,
    draw_dashed,
    pseudo_blocks,
    pseudo_gallery,
    pseudo_table,
    quality_table,
)
from stage2_pseudolabel.pseudolabels.quality import pseudo_quality
from stage2_pseudolabel.settings.pseudolabels import PseudoLabelSettings
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import exported, lit_maps, training_set
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, truth_of

LESION, EFFUSION = FINDINGS
SET = [("wide", LESION, 10, 10, 30, 20), ("flat", LESION, 40, 10, 60, 20), ("flat", EFFUSION, 0, 0, 20, 10)]


def pseudo_of(*rows: tuple[object, ...], ignored_by: list[str] | None = None) -> CocoBoxes:
    boxes = boxes_table([(*row, 0.5) for row in rows])
    reasons = ignored_by or [""] * len(rows)
    return truth_of().with_boxes(boxes.assign(iscrowd=[int(r != "") for r in reasons], ignored_by=reasons))


@pytest.mark.parametrize("truth", [None, truth_of()])
def test_no_quality_without_true_boxes(truth: CocoBoxes | None) -> None:
    assert pseudo_quality(pseudo_of(*SET), truth) is None


def test_no_pseudo_boxes_find_nothing_and_have_no_precision() -> None:
    quality = pseudo_quality(pseudo_of(), truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert quality.exported.recall.values.tolist() == [0, 0]
    assert np.isnan(quality.exported.precision.values).all()
    assert (quality.num_true, quality.num_images, quality.exported.num_boxes) == (3, 2, 0)


def test_precision_and_recall_of_each_finding() -> None:
    found = [SET[0], ("wide", LESION, 40, 30, 50, 40), ("flat", LESION, 42, 10, 60, 20)]
    quality = pseudo_quality(pseudo_of(*found), truth_of(*SET), num_resamples=20)
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
    quality = pseudo_quality(pseudo_of(SET[0], SET[0]), truth_of(SET[0]), num_resamples=20)
    assert quality is not None
    assert quality.exported.precision.values[0] == 0.5
    assert quality.exported.recall.values[0] == 1


def test_an_ignore_region_is_neither_a_hit_nor_a_false_alarm() -> None:
    boxes = [SET[0], ("wide", LESION, 0, 0, 60, 40), SET[1]]
    pseudo = pseudo_of(*boxes, ignored_by=["", "uncertain label", "low confidence"])
    quality = pseudo_quality(pseudo, truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert (quality.exported.precision.values[0], quality.exported.recall.values[0]) == (1, 0.5)
    assert (quality.unfiltered.precision.values[0], quality.unfiltered.recall.values[0]) == (1, 1)
    assert (quality.exported.num_boxes, quality.unfiltered.num_boxes) == (1, 2)
    assert quality.metrics()["pseudo_recall40_unfiltered/lung_lesion"] == 1


def test_dropped_boxes_count_as_unfiltered() -> None:
    dropped = boxes_table([(*SET[1], 0.1), ("wide", LESION, 40, 30, 50, 40, 0.1)])
    quality = pseudo_quality(pseudo_of(SET[0]), truth_of(*SET), dropped=dropped, num_resamples=20)
    assert quality is not None
    assert (quality.exported.precision.values[0], quality.exported.recall.values[0]) == (1, 0.5)
    assert quality.unfiltered.precision.values[0] == pytest.approx(2 / 3)
    assert quality.unfiltered.recall.values[0] == 1


def test_boxes_in_images_where_nobody_drew_the_finding_are_not_judged() -> None:
    quality = pseudo_quality(pseudo_of(SET[0], ("wide", EFFUSION, 0, 0, 9, 9)), truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert np.isnan(quality.exported.precision.values[1])


def test_true_boxes_of_images_that_were_left_out_are_missed() -> None:
    pseudo = pseudo_of(SET[0])
    only_wide = CocoBoxes(pseudo.images.iloc[:1], pseudo.boxes, pseudo.findings)
    quality = pseudo_quality(only_wide, truth_of(*SET), num_resamples=20)
    assert quality is not None
    assert quality.exported.recall.values.tolist() == [0.5, 0]


def test_statistics_count_findings_without_boxes_too(tmp_path: Path) -> None:
    coco = exported(training_set(tmp_path, [[1, 0], [1, -1]]), lit_maps(2)).coco
    rows = box_statistics(coco).to_numpy().tolist()
    assert rows[0] == [LESION, 2, 2, 0, pytest.approx(20 * 10 / (60 * 40)), pytest.approx(4.5 / 5.5)]
    assert rows[1][:4] == [EFFUSION, 0, 0, 1]
    assert np.isnan(rows[1][4]) and np.isnan(rows[1][5])


def test_statistics_of_nothing(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, []), lit_maps(0))
    assert box_statistics(pseudo.coco)["boxes"].tolist() == [0, 0]
    assert pseudo_gallery(pseudo).ndim == 3
    assert pseudo_table(pseudo).rows[0][:4] == [LESION, 0, 0, 0]


def test_the_table_names_methods_and_counts_what_is_no_box(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [0, 0], [-1, 0], [1, 1]])
    table = pseudo_table(exported(data, lit_maps(4, dark=[(3, 1)])))
    assert table.rows[0][:4] == [LESION, 1, 1, 1]
    assert table.rows[0][6] == "pcam"
    assert "1 images with boxes, 1 with ignore regions only, 1 without either." in table.note
    assert "Ignore regions: 1 uncertain label." in table.note
    assert "1 images, 1 a finding that the label affirms has no box by the rule." in table.note
    assert "learnt from 4 boxes" in table.note


def test_the_quality_table_shows_what_a_filter_was_worth(tmp_path: Path) -> None:
    box = ("i0", LESION, 10, 10, 30, 20, "")
    data = training_set(tmp_path, [[1, 0], [1, 0]], box)
    truth = ground_truth(data, FINDINGS, ReaderSettings(), split="train")
    pseudo = exported(data, lit_maps(2))
    assert quality_table(pseudo) is None
    table = quality_table(judged_by_truth(pseudo, truth, num_resamples=10))
    assert table is not None
    assert list(table.columns) == ["finding", "precision", "recall"]
    assert [row[0] for row in table.rows] == [LESION, EFFUSION, "mean"]
    assert str(table.rows[0][1]).startswith("1.000")
    filtered = exported(data, lit_maps(2), settings=PseudoLabelSettings(min_confidence=1))
    table = quality_table(judged_by_truth(filtered, truth, num_resamples=10))
    assert table is not None
    assert list(table.columns)[3:] == ["precision of all boxes", "recall of all boxes"]
    assert table.rows[0][1] is None and str(table.rows[0][2]).startswith("0.000")
    assert str(table.rows[0][4]).startswith("1.000")


def test_the_gallery_has_a_row_a_finding_and_shows_boxes_truth_and_regions(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, -1], [1, 1]], ("i2", LESION, 30, 25, 55, 35, ""))
    truth = ground_truth(data, FINDINGS, ReaderSettings(), split="train")
    pseudo = judged_by_truth(exported(data, lit_maps(3)), truth, num_resamples=10)
    picture = pseudo_gallery(pseudo)
    for colour in (GREEN, ORANGE, GREY):  # tiles are enlarged, so lines are smooth
        assert np.abs(picture.astype(int) - colour).max(axis=2).min() < 30
    one_row = pseudo_gallery(exported(training_set(tmp_path / "b", [[1, 0]]), lit_maps(1)))
    assert picture.shape[1] == one_row.shape[1]
    assert picture.shape[0] > 1.8 * one_row.shape[0]


def test_dashes_leave_gaps_and_stay_inside() -> None:
    blank = np.zeros((40, 60, 3), dtype=np.uint8)
    assert (draw_dashed(blank, np.zeros((0, 4))) == blank).all()
    drawn = draw_dashed(blank, [[5, 5, 200, 30]])
    top = (drawn[5, 5:60] == GREY).all(axis=1)
    assert 0 < top.sum() < 55
    assert top[0]
    assert not (drawn[:4] == GREY).any() and not (drawn[32:] == GREY).any()
    assert not blank.any()


def test_files_of_other_makers_without_confidence_can_be_shown(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, [[1, 0]]), lit_maps(1))
    plain = pseudo.coco.with_boxes(pseudo.coco.boxes[boxes_table().columns])
    assert box_statistics(plain).loc[0, "median_confidence"] == pytest.approx(0.9)
    assert isinstance(box_statistics(plain), pd.DataFrame)


def test_without_a_box_there_is_no_blank_gallery(tmp_path: Path) -> None:
    normal = exported(training_set(tmp_path / "a", [[0, 0]]), lit_maps(1))
    assert [type(block).__name__ for block in pseudo_blocks(tmp_path, normal)] == ["Table"]
    assert not (tmp_path / "pictures").exists()
    shown = exported(training_set(tmp_path / "b", [[1, 0]]), lit_maps(1))
    assert [type(block).__name__ for block in pseudo_blocks(tmp_path, shown)] == ["Table", "Figure"]
    assert (tmp_path / "pictures" / "pseudo_labels.jpg").is_file()
