"""The report's part on pseudo-labels: statistics, tables and pictures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.coco import CocoBoxes, boxes_table
from cxr.readers import ReaderSettings
from eval.report.blocks import Table
from eval.report.pictures import GREEN, GREY, ORANGE
from stage2_pseudolabel.boxes.truth import ground_truth
from stage2_pseudolabel.pseudolabels.export import PseudoLabels
from stage2_pseudolabel.pseudolabels.quality import pseudo_label_quality
from stage2_pseudolabel.pseudolabels.report import (
    box_statistics,
    count_table,
    coverage_table,
    example_pictures,
    pseudo_label_blocks,
    quality_table,
)
from stage2_pseudolabel.settings.exported_boxes import PseudoLabelSettings
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import exported, lit_maps, training_set
from tests.stage2_pseudolabel.stage2_builders import FINDINGS

LESION, EFFUSION = FINDINGS


def test_statistics_count_findings_without_boxes_too(tmp_path: Path) -> None:
    coco = exported(training_set(tmp_path, [[1, 0], [1, -1]]), lit_maps(2)).coco
    rows = box_statistics(coco).to_numpy().tolist()
    assert rows[0] == [LESION, 2, 2, 0, pytest.approx(20 * 10 / (60 * 40)), pytest.approx(4.5 / 5.5)]
    assert rows[1][:4] == [EFFUSION, 0, 0, 1]
    assert np.isnan(rows[1][4]) and np.isnan(rows[1][5])


def test_statistics_of_nothing(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, []), lit_maps(0))
    assert box_statistics(pseudo.coco)["boxes"].tolist() == [0, 0]
    assert example_pictures(pseudo.coco, None).ndim == 3
    assert count_table(pseudo).rows[0][:4] == [LESION, 0, 0, 0]


def test_the_table_names_methods_and_counts_what_is_no_box(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [0, 0], [-1, 0], [1, 1]])
    table = count_table(exported(data, lit_maps(4, dark=[(3, 1)])))
    assert table.rows[0][:4] == [LESION, 2, 2, 1]
    assert table.rows[0][6] == "PCAM"
    assert "2 images with boxes, 1 with ignore regions only, 1 without either." in table.note
    assert "Ignore regions: 1 uncertain label; 1 affirmed, but no box by the rule." in table.note
    assert "4 boxes of the tune split, of which 2 match" in table.note


def test_the_coverage_says_why_positives_have_no_box(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, 0], [1, 1], [1, -1], [0, 0]])
    probability = np.full((5, 2), 0.9)
    probability[1, 0] = 0.1
    settings = PseudoLabelSettings(min_likelihood_ratio=1)
    maps = lit_maps(5, dark=[(2, 0)])
    pseudo = exported(data, maps, probability=probability, settings=settings, bad=["i3"])
    assert coverage_table(pseudo).rows == [[LESION, 0.8, 4, 1, 0.25, 1, 1, 0], [EFFUSION, 0.25, 1, 1, 1.0, 0, 0, 0]]
    assert pseudo.coverage.metrics() == {
        "pseudo_coverage": 0.625, "pseudo_coverage/lung_lesion": 0.25, "pseudo_coverage/pleural_effusion": 1.0,
    }  # fmt: skip
    low = exported(data, lit_maps(5), settings=PseudoLabelSettings(min_confidence=1))
    assert [row[3:] for row in coverage_table(low).rows] == [[0, 0.0, 0, 0, 4], [0, 0.0, 0, 0, 1]]


def quality_table_of(labels: PseudoLabels, truth: CocoBoxes) -> Table:
    quality = pseudo_label_quality(labels, truth, num_resamples=10)
    assert quality is not None
    return quality_table(quality)


def test_the_quality_table_shows_the_effect_of_a_filter(tmp_path: Path) -> None:
    box = ("i0", LESION, 10, 10, 30, 20, "")
    data = training_set(tmp_path, [[1, 0], [1, 0]], box)
    truth = ground_truth(data, FINDINGS, ReaderSettings(), split="train")
    pseudo = exported(data, lit_maps(2))
    table = quality_table_of(pseudo, truth)
    assert list(table.columns) == ["finding", "precision", "recall"]
    assert [row[0] for row in table.rows] == [LESION, EFFUSION, "mean"]
    assert str(table.rows[0][1]).startswith("1.000")
    filtered = exported(data, lit_maps(2), settings=PseudoLabelSettings(min_confidence=1))
    table = quality_table_of(filtered, truth)
    assert list(table.columns)[3:] == ["precision of all boxes", "recall of all boxes"]
    assert table.rows[0][1] == "–" and str(table.rows[0][2]).startswith("0.000")
    assert str(table.rows[0][4]).startswith("1.000")


def test_the_gallery_has_a_row_per_finding_and_shows_boxes_truth_and_regions(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, 0], [1, -1], [1, 1]], ("i2", LESION, 30, 25, 55, 35, ""))
    truth = ground_truth(data, FINDINGS, ReaderSettings(), split="train")
    picture = example_pictures(exported(data, lit_maps(3)).coco, truth)
    for colour in (GREEN, ORANGE, GREY):  # tiles are enlarged, so lines are smooth
        assert np.abs(picture.astype(int) - colour).max(axis=2).min() < 30
    one_row = example_pictures(exported(training_set(tmp_path / "b", [[1, 0]]), lit_maps(1)).coco, None)
    assert picture.shape[1] == one_row.shape[1]
    assert picture.shape[0] > 1.8 * one_row.shape[0]


def test_files_of_other_programs_without_confidence_can_be_shown(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, [[1, 0]]), lit_maps(1))
    plain = pseudo.coco.with_boxes(pseudo.coco.boxes[boxes_table().columns])
    assert box_statistics(plain).loc[0, "median_confidence"] == pytest.approx(0.9)
    assert isinstance(box_statistics(plain), pd.DataFrame)


def test_without_a_box_there_is_no_blank_gallery(tmp_path: Path) -> None:
    normal = exported(training_set(tmp_path / "a", [[0, 0]]), lit_maps(1))
    assert [type(block).__name__ for block in pseudo_label_blocks(tmp_path, normal, None)] == ["Table", "Table"]
    assert not (tmp_path / "pictures").exists()
    shown = exported(training_set(tmp_path / "b", [[1, 0]]), lit_maps(1))
    assert [type(block).__name__ for block in pseudo_label_blocks(tmp_path, shown, None)] == [
        "Table",
        "Table",
        "Figure",
    ]
    assert (tmp_path / "pictures" / "pseudo_labels.jpg").is_file()
