"""stage1_classify.evaluation.failures: which failures are listed, in which order, and how they are shown."""

import csv
from pathlib import Path

import numpy as np
import pytest

from eval.report.blocks import Figure, Table, Text, write_report
from stage1_classify.evaluation.failures import FILE, Failure, failure_blocks, failure_gallery, worst_failures
from tests.builders import write_picture
from tests.stage1_classify.evaluation.scored_builders import FINDINGS, NAN, scored

HALF = np.array([0.5, 0.5])


def listed(failures: list[Failure]) -> list[tuple[str, str, str]]:
    return [(item.finding, item.kind, item.image_id) for item in failures]


def test_no_cases_and_no_failures(tmp_path: Path) -> None:
    nothing = scored(tmp_path, np.zeros((0, 2)), np.zeros((0, 2)))
    assert worst_failures(nothing, HALF, FINDINGS) == []
    right = scored(tmp_path, [[1, 0], [0, 1]], [[0.5, 0.4], [0.4, 0.9]])
    assert worst_failures(right, HALF, FINDINGS) == []
    (block,) = failure_blocks(right, [], tmp_path)
    assert isinstance(block, Text)
    assert block.body.startswith("None")
    assert len((tmp_path / FILE).read_text().splitlines()) == 1


def test_failures_by_finding_and_kind_furthest_from_the_threshold_first(tmp_path: Path) -> None:
    part = scored(
        tmp_path,
        [[0, 1], [0, 1], [1, 0], [1, 0], [0, 1], [1, 1]],
        [[0.6, 0.1], [0.9, 0.8], [0.1, 0.2], [0.3, 0.1], [0.4, 0.3], [0.5, 0.29]],
    )
    failures = worst_failures(part, np.array([0.5, 0.3]), FINDINGS)
    assert listed(failures) == [
        ("Edema", "false positive", "p001"),
        ("Edema", "false positive", "p000"),
        ("Edema", "false negative", "p002"),
        ("Edema", "false negative", "p003"),
        ("Lung Lesion", "false negative", "p000"),
        ("Lung Lesion", "false negative", "p005"),
    ]
    assert failures[0] == Failure("p001", "Edema", 0.9, target=0, threshold=0.5, case=1)


def test_equally_far_ones_keep_the_order_of_the_split_and_the_number_is_limited(tmp_path: Path) -> None:
    part = scored(tmp_path, [[0, 0]] * 5, [[0.7, 0.1]] * 5)
    failures = worst_failures(part, HALF, FINDINGS, per_finding=3)
    assert [item.case for item in failures] == [0, 1, 2]


def test_unknown_labels_and_findings_without_a_threshold_are_no_failures(tmp_path: Path) -> None:
    part = scored(tmp_path, [[NAN, 1], [NAN, 0]], [[0.9, 0.1], [0.1, 0.9]])
    assert worst_failures(part, np.array([0.5, NAN]), FINDINGS) == []


def test_the_table_holds_all_failures_with_their_full_ids(tmp_path: Path) -> None:
    odd = ["<b>x</b>", 'a,"b"', "line\nbreak", "ünï", "=1+1"]
    part = scored(tmp_path, [[0, 0]] * 5, [[0.9 - 0.01 * row, 0] for row in range(5)], images={"image_id": odd})
    failures = worst_failures(part, HALF, FINDINGS, per_finding=5)
    blocks = failure_blocks(part, failures, tmp_path)
    with (tmp_path / FILE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == [*odd[:-1], "'=1+1"]
    assert rows[1] | {"image_id": ""} == {
        "number": "2", "finding": "Edema", "kind": "false positive", "probability": "0.89",
        "threshold": "0.5", "target": "0", "image_id": "",
    }  # fmt: skip
    page = write_report(tmp_path, title="", lead="", blocks=blocks, synthetic=False).read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x" not in page


def test_the_page_shows_two_of_each_kind_under_the_numbers_of_the_table(tmp_path: Path) -> None:
    part = scored(tmp_path, [[0, 0]] * 3 + [[1, 0]] * 3, [[0.9, 0]] * 3 + [[0.1, 0]] * 3)
    figure, table = failure_blocks(part, worst_failures(part, HALF, FINDINGS), tmp_path)
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    assert [(row[0], row[2], row[6]) for row in table.rows] == [
        (1, "false positive", "p000"),
        (2, "false positive", "p001"),
        (3, "false negative", "p003"),
        (4, "false negative", "p004"),
    ]


@pytest.mark.parametrize("num_findings", [1, 2])
def test_each_finding_has_a_row_of_the_gallery(tmp_path: Path, num_findings: int) -> None:
    part = scored(tmp_path, [[0, 0]] * 3, [[0.9, 0.9 * (num_findings - 1)]] * 3)
    gallery = failure_gallery(part, worst_failures(part, HALF, FINDINGS))
    one = failure_gallery(part, worst_failures(part, np.array([0.5, NAN]), FINDINGS))
    assert gallery.shape[0] == num_findings * one.shape[0]
    assert gallery.shape[1] == one.shape[1]


def test_pictures_are_shown_as_in_their_files(tmp_path: Path) -> None:
    """Upright, in their own aspect, though the network sees them squashed."""
    part = scored(tmp_path, [[0, 0]], [[0.9, 0]])
    write_picture(tmp_path / "images/000.png", (300, 120), bright_xyxy=(0, 200, 60, 300))
    gallery = failure_gallery(part, worst_failures(part, HALF, FINDINGS))
    tile = gallery[:272, :272].astype(int)
    rows, columns = np.nonzero(tile.min(axis=2) < 200)  # neither white margin nor the bright corner
    assert rows.min() == pytest.approx(6, abs=1)
    assert columns.max() - columns.min() == pytest.approx(260 * 120 / 300, abs=2)
    bottom_left = tile[200:260, 90:125]
    assert bottom_left.min() > 200
