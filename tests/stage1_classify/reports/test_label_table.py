"""A whole table: its files, own findings, several processes, a kill in the middle."""

import csv
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.csv_table import CsvTableData
from cxr.labels import CHEXPERT_FINDINGS
from stage1_classify.reports import label_table as module
from stage1_classify.reports.label_table import RECORDS, Call, label_table, labeller_of
from stage1_classify.reports.records import RecordFile
from tests.builders import write_picture  # a small picture file

TEXTS = ("No pneumothorax. Small left effusion.", "Gros cœur, pas d'épanchement.", "Bases pulmonaires coupées.", "?")
FILES = ("labels.csv", "sides.csv", "evidence.jsonl", "report.html")


def write_table(path: Path, texts: Iterable[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["report_id", "report", "image"])
        writer.writerows([f"r{number}", text, f"{number}.png"] for number, text in enumerate(texts))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def given(row: dict[str, str]) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if cell and name not in ("report_id", "image")}


def test_a_table_without_reports(tmp_path: Path) -> None:
    label_table(Call(write_table(tmp_path / "r.csv", []), tmp_path / "out"))
    assert rows(tmp_path / "out" / "labels.csv") == rows(tmp_path / "out" / "sides.csv") == []
    assert "0 reports" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_call_that_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--workers 0: expected 1 or more"):
        label_table(Call(write_table(tmp_path / "r.csv", TEXTS), tmp_path / "out", num_workers=0))
    with pytest.raises(UserError, match="give the path of the table of reports"):
        label_table(Call(tmp_path / "none.csv", tmp_path / "out"))


def test_files_of_a_table(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = label_table(Call(write_table(tmp_path / "r.csv", TEXTS), out))
    assert "4 reports" in summary
    assert "1 in no known language" in summary
    labels = rows(out / "labels.csv")
    assert list(labels[0])[: 3 + len(CHEXPERT_FINDINGS)] == ["report_id", "image", "language", *CHEXPERT_FINDINGS]
    assert [row["image"] for row in labels] == ["0.png", "1.png", "2.png", "3.png"]
    assert [given(row) for row in labels] == [
        {"language": "en", "Pneumothorax": "0", "Pleural Effusion": "1"},
        {"language": "fr", "Cardiomegaly": "1", "Pleural Effusion": "0"},
        {"language": "fr", "cut_off_bases": "1"},
        {},
    ]
    sides = [{"report_id": "r0", "finding": "Pleural Effusion", "side": "L", "zone": ""}]
    assert rows(out / "sides.csv") == sides
    first = json.loads((out / "evidence.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == {
        "report_id": "r0",
        "finding": "Pneumothorax",
        "verdict": "absent",
        "reason": "negation",
        "sentence": "No pneumothorax.",
        "cue": "No",
        "places": [],
        "marks": [],
    }


def test_a_corrected_label_file_is_taken_for_the_same_folder(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    call = Call(write_table(tmp_path / "r.csv", ["There is bronchiectasis."]), tmp_path / "out", label_file=own)
    own.write_text("findings: {Bronchiectasis: {en: [bronchiectasis|dilated bronchi]}}", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        label_table(call)
    (problem,) = caught.value.problems
    assert str(own) in problem and "'bronchiectasis|dilated bronchi'" in problem
    labeller_of.cache_clear()
    own.write_text('findings: {Bronchiectasis: {en: ["(bronchiectasis|dilated bronchi)"]}}', encoding="utf-8")
    label_table(call)
    assert given(rows(tmp_path / "out" / "labels.csv")[0]) == {"language": "en", "Bronchiectasis": "1"}


@pytest.mark.parametrize("name", ["language", "compared", "poor_quality"])
def test_a_finding_with_the_name_of_another_column_is_refused(tmp_path: Path, name: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"findings: {{{name}: {{en: [water]}}}}", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        label_table(Call(write_table(tmp_path / "r.csv", TEXTS), tmp_path / "out", label_file=own))
    (problem,) = caught.value.problems
    assert str(own) in problem and repr(name) in problem


def test_short_reports_are_read_in_the_language_of_the_others(tmp_path: Path) -> None:
    texts = ["Normal.", "Pas de pneumothorax.", "Gros cœur.", "No effusion.", "xyzzy"]
    label_table(Call(write_table(tmp_path / "r.csv", texts), tmp_path / "out"))
    labels = rows(tmp_path / "out" / "labels.csv")
    assert [row["language"] for row in labels] == ["fr", "fr", "fr", "en", ""]
    assert given(labels[0]) == {"language": "fr", "No Finding": "1"}


def test_a_table_in_the_encoding_of_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes("report_id;report\n1;Pas de fracture\n2;Épanchement à gauche\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"see row 3; .* --encoding cp1252"):
        label_table(Call(path, tmp_path / "out"))
    with pytest.raises(UserError, match="unknown encoding 'cp12520'"):
        label_table(Call(path, tmp_path / "out", encoding="cp12520"))
    label_table(Call(path, tmp_path / "out", encoding="cp1252"))
    assert rows(tmp_path / "out" / "labels.csv")[1]["Pleural Effusion"] == "1"


def test_stage_1_reads_the_labels(tmp_path: Path) -> None:
    label_table(Call(write_table(tmp_path / "r.csv", TEXTS), tmp_path / "out"))
    for number in range(len(TEXTS)):
        write_picture(tmp_path / "images" / f"{number}.png", (8 + number, 6))
    values = {
        "root": tmp_path / "images",
        "table": tmp_path / "out" / "labels.csv",
        "columns": {"image": "image"},
        "findings": {name: name for name in CHEXPERT_FINDINGS},
    }
    data = CsvTableData.model_validate(values).read()
    assert data.labels["Pleural Effusion"].tolist()[:2] == [1, 0]
    assert data.labels.isna().all(axis=1).tolist() == [False, False, True, True]


def test_own_findings_have_a_column(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("findings: {Bronchiectasis: {en: [bronchiectasis]}}\n", encoding="utf-8")
    table = write_table(tmp_path / "r.csv", ["There is no bronchiectasis."])
    label_table(Call(table, tmp_path / "out", label_file=own))
    (row,) = rows(tmp_path / "out" / "labels.csv")
    assert row["Bronchiectasis"] == "0"
    assert list(row).index("Bronchiectasis") > list(row).index("Hernia")


def killed_in_the_middle(call: Call, *, after: int) -> None:
    """Run `call` in a process of its own, which is killed while it writes a line, after so many chunks."""
    child = os.fork()
    if child == 0:
        add, left = RecordFile.add, [after]

        def last_add(self: RecordFile, lines: Iterable[str]) -> None:
            left[0] -= 1
            if left[0] < 0:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write('{"report_id": "r')
                os.kill(os.getpid(), signal.SIGKILL)
            add(self, lines)

        RecordFile.add = last_add  # type: ignore[method-assign]
        label_table(call)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_killed_run_goes_on_and_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    table = write_table(tmp_path / "r.csv", [f"{TEXTS[number % 4]} {number}" for number in range(20)])
    whole, broken = Call(table, tmp_path / "whole"), Call(table, tmp_path / "broken")
    label_table(whole)
    killed_in_the_middle(broken, after=2)
    assert RecordFile(broken.out / RECORDS).num_done == 6
    assert not (broken.out / "labels.csv").exists()
    label_table(broken)
    for name in FILES:
        assert (whole.out / name).read_bytes() == (broken.out / name).read_bytes(), name
    assert not (broken.out / RECORDS).exists()


def test_a_finished_run_is_not_repeated_and_another_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "r.csv", TEXTS)
    call = Call(table, tmp_path / "out")
    label_table(call)
    stamp = (tmp_path / "out" / "labels.csv").stat().st_mtime_ns
    label_table(call)
    assert (tmp_path / "out" / "labels.csv").stat().st_mtime_ns == stamp
    write_table(table, TEXTS[:2])
    with pytest.raises(UserError, match="reports"):
        label_table(call)
