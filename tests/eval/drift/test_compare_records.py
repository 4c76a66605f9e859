"""Drift: what differs is found and named, equal images give no alarm, other gates are not compared."""

import json
from pathlib import Path

import pytest

from cxr.config import UserError
from eval.drift.compare_records import ALL, MIN_IMAGES, drift_figures, find_drift, report_drift, verdict_text
from eval.drift.records import ImageRecords, read_records
from eval.report.blocks import read_report
from eval.run import main
from tests.eval.drift.record_builders import records, write_lines


def table(path: Path, **given: object) -> ImageRecords:
    return read_records(write_lines(path, records(60, **given)), option="--current")  # type: ignore[arg-type]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    few = read_records(write_lines(tmp_path / "few.jsonl", records(MIN_IMAGES - 1, seed=0)), option="--current")
    with pytest.raises(UserError, match=f"--current .*{MIN_IMAGES - 1} images"):
        find_drift(table(tmp_path / "a.jsonl", seed=1), few)


def test_brighter_images_are_named(tmp_path: Path) -> None:
    result = find_drift(table(tmp_path / "a.jsonl", seed=1), table(tmp_path / "b.jsonl", seed=2, brightness=0.6))
    assert [shift.name for shift in result.clear] == [ALL, "brightness"]
    figures = drift_figures(result)
    assert (figures["drift"], figures["num_reference"], figures["num_current"]) == (1, 60, 60)
    assert figures["auroc/brightness/low"] > 0.8
    assert verdict_text(result).startswith("Drift")
    assert "brightness" in verdict_text(result)


def test_images_of_one_kind_give_no_alarm(tmp_path: Path) -> None:
    result = find_drift(table(tmp_path / "a.jsonl", seed=1), table(tmp_path / "b.jsonl", seed=2))
    assert result.clear == ()
    assert verdict_text(result).startswith("No drift")
    assert {shift.name for shift in result.shifts} == {
        ALL, "refused", "brightness", "contrast", "unlikeness", "feature 1", "feature 2", "score Edema",
    }  # fmt: skip


def test_numbers_of_another_gate_are_not_compared(tmp_path: Path) -> None:
    result = find_drift(table(tmp_path / "a.jsonl", seed=1), table(tmp_path / "b.jsonl", seed=2, gate="h"))
    assert result.not_compared == ("refused", "unlikeness", "feature 1", "feature 2")
    assert {shift.name for shift in result.shifts} == {ALL, "brightness", "contrast", "score Edema"}


def test_records_that_share_nothing_are_refused(tmp_path: Path) -> None:
    reference = table(tmp_path / "a.jsonl", seed=1)
    other = records(20, seed=2, gate="h")
    for number, record in enumerate(other):
        record["scores"], record["quality"]["statistics"] = {}, {"sharpness": number}
    with pytest.raises(UserError, match=r"--current .*b\.jsonl"):
        find_drift(reference, read_records(write_lines(tmp_path / "b.jsonl", other), option="--current"))


def test_the_command_writes_a_report_that_begins_with_pictures(tmp_path: Path) -> None:
    reference = write_lines(tmp_path / "a.jsonl", records(40, seed=1))
    current = write_lines(tmp_path / "b.jsonl", records(40, seed=2, brightness=0.7))
    out = tmp_path / "out"
    assert main(["drift", "--reference", str(reference), "--current", str(current), "--out", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text())["drift"] == 1
    report = read_report(out)
    assert report is not None
    assert [type(block).__name__ for block in report.blocks] == ["Figure", "Figure", "Verdict", "Table"]
    with pytest.raises(UserError):
        report_drift(reference, tmp_path / "gone", out=out)
