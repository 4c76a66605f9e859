"""Run folders keep a copy of the label file."""

from pathlib import Path

from cxr.config import Settings
from cxr.labels import BUILT_IN
from cxr.runs.label_files import keep_label_file, kept_label_file, label_file_of, terms_of, terms_of_outputs
from cxr.runs.run_folder import FinishedRun, open_run, start_run


def finished(out: Path, label_file: Path | None) -> FinishedRun:
    run = start_run(out, stage="stage1", settings=Settings(), inputs={})
    keep_label_file(label_file, out)
    run.finish({}, kept_label_file(out))
    return open_run(out)


def test_a_run_without_a_label_file_has_the_findings_that_ship(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", None)
    assert label_file_of(run) is None
    assert terms_of(run) is BUILT_IN
    assert terms_of_outputs({}) is BUILT_IN


def test_the_copy_stays_and_is_passed_on(tmp_path: Path) -> None:
    own = tmp_path / "labels.yaml"
    own.write_text("findings:\n  Wire:\n", encoding="utf-8")
    first = finished(tmp_path / "first", own)
    own.unlink()
    second = finished(tmp_path / "second", label_file_of(first))
    assert [terms_of(run).findings[-1] for run in (first, second)] == ["Wire", "Wire"]
    keep_label_file(label_file_of(second), second.dir)  # a run that is finished again
    assert terms_of_outputs(kept_label_file(second.dir)).findings[-1] == "Wire"
