"""`eval/run.py readers`: both known layouts, exact figures, a slow form as oracle, and every way to be wrong."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.boxes import iou_matrix
from eval.readers.agreement import Reads, agreement_measures
from eval.readers.table import read_reader_table
from eval.run import main
from tests.builders import kaggle_folder, physionet_folder

HEADER = "image,reader,finding,x1,y1,x2,y2"
COLUMNS = ["image_id", "finding", "x1", "y1", "x2", "y2", "reader"]

# Image a: R1 and R2 mark Edema (IoU 2/3), R3 saw nothing; R1 alone a Nodule/Mass. b: nothing. c: one reader.
LINES = [
    "a,R1,Edema,0,0,10,4",
    "a,R2,Edema,2,0,12,4",
    "a,R3,No finding,,,,",
    "a,R1,Nodule/Mass,50,10,60,30",
    "b,R1,No finding,,,,",
    "b,R2,No finding,,,,",
    "c,R1,Edema,0,0,10,4",
]


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def figures_of(path: Path, out: Path, *options: str) -> dict[str, float | None]:
    assert main(["readers", str(path), "--out", str(out), *options]) == 0
    figures: dict[str, float | None] = json.loads((out / "metrics.json").read_text())
    return figures


def failure(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The lines that a wrong table brings, and no report."""
    assert main(["readers", str(path), "--out", str(path.parent / "out"), *options]) == 2
    assert not (path.parent / "out").exists()
    return capsys.readouterr().err.splitlines()


def test_readers_who_saw_nothing_have_no_figures_but_counts(tmp_path: Path) -> None:
    figures = figures_of(write(tmp_path, "a,R1,No finding,,,,", "a,R2,,,,,"), tmp_path / "out")
    assert {name: figures.pop(name) for name in ("images", "boxes", "readers", "readings")} == {
        "images": 1, "boxes": 0, "readers": 2, "readings": 2,
    }  # fmt: skip
    assert set(figures.values()) == {None}


def test_exact_figures_by_name(tmp_path: Path) -> None:
    figures = figures_of(write(tmp_path, *LINES), tmp_path / "out", "--rule", "union")
    expected = {
        "images": 3, "boxes": 4, "readers": 3, "readings": 6,
        # Ordered pairs: R1>R2, R1>R3, R2>R1, R2>R3 for Edema, R1>R2, R1>R3 for Nodule/Mass.
        "marks/edema": 1 / 2, "marks/nodule_mass": 0, "marks": 1 / 4,
        "found40/edema": 1 / 2, "found40/nodule_mass": 0,
        "mean_best_iou/edema": 2 / 3, "mean_best_iou/nodule_mass": None, "mean_best_iou": 2 / 3,
        # Edema: R1 and R2 find each other, R3 misses one. Nodule/Mass: R1's is false, R2 and R3 miss it.
        "precision40/human/edema": 1, "recall40/human/edema": 2 / 3, "ap40/human/edema": 67 / 101,
        "ap40/human/nodule_mass": 0, "ap40/human": 67 / 202,
    }  # fmt: skip
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert figures["found40/edema/low"] == figures["found40/edema/high"] == 0.5
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["synthetic"] is False
    readers = report["blocks"][-1]
    assert readers["rows"] == [["R1", 3, "75.0 %", 3, 2], ["R2", 1, "25.0 %", 2, 1], ["R3", 0, "0.0 %", 1, 0]]
    assert readers["note"] == "7 rows: 4 boxes, 3 without a finding."


def slow_figures(boxes: pd.DataFrame, readers_of: dict[str, list[str]], finding: str) -> list[float]:
    """marks, found40 and mean_best_iou as DESIGN words them, pair by pair."""
    marks, found, best = [], [], []
    for image_id, readers in readers_of.items():
        here = boxes[(boxes["image_id"] == image_id) & (boxes["finding"] == finding)]
        by = {name: here.loc[here["reader"] == name, ["x1", "y1", "x2", "y2"]].to_numpy(float) for name in readers}
        for first, second in permutations(readers, 2):
            marks += [len(by[second]) > 0] if len(by[first]) else []
            for box in by[first]:
                overlaps = iou_matrix([box], by[second])[0]
                found.append(bool((overlaps >= 0.4).any()))
                best += [overlaps.max()] if len(overlaps) else []
    return [np.mean(values) for values in (marks, found, best)]


def test_figures_agree_with_the_slow_form_on_random_readers() -> None:
    rng = np.random.default_rng(3)
    readers_of = {f"i{i}": [f"R{r}" for r in rng.choice(5, size=rng.integers(1, 5), replace=False)] for i in range(30)}
    rows = [
        (image_id, finding, x, y, x + w, y + h, reader)
        for image_id, readers in readers_of.items() for reader in readers for finding in ("Edema", "Mass")
        for x, y, w, h in rng.uniform((0, 0, 20, 10), (15, 10, 40, 20), size=(rng.integers(3), 4))
    ]  # fmt: skip
    boxes = pd.DataFrame(rows, columns=COLUMNS)
    readings = pd.DataFrame([(i, r) for i, names in readers_of.items() for r in names], columns=["image_id", "reader"])
    measures = agreement_measures(Reads(boxes, readings, list(readers_of), ["Edema", "Mass"]))
    assert [item.name for item in measures] == ["marks", "found40", "mean_best_iou"]
    for k, finding in enumerate(("Edema", "Mass")):
        fast = [item.values(len(readers_of))[k] for item in measures]
        assert fast == pytest.approx(slow_figures(boxes, readers_of, finding))
        assert 0 < min(fast) < max(fast) < 1


def test_kaggles_and_physionets_layouts_are_recognised(tmp_path: Path) -> None:
    table = read_reader_table(kaggle_folder(tmp_path / "kaggle") / "train.csv")
    assert (table.image_ids, table.findings) == (["a", "b", "c"], ["Cardiomegaly", "Nodule/Mass"])
    assert (len(table.boxes), len(table.readings), table.num_no_finding) == (3, 9, 6)
    assert table.boxes.iloc[2].tolist() == ["c", "Nodule/Mass", 1.5, 2.5, 9.5, 8.5, "R8"]
    folder = physionet_folder(tmp_path / "physionet") / "annotations"
    table = read_reader_table(folder / "annotations_train.csv")
    assert (len(table.boxes), len(table.readings)) == (2, 4)
    assert (table.num_no_finding, table.num_whole_image) == (1, 1)
    figures = figures_of(tmp_path / "kaggle" / "train.csv", tmp_path / "out")
    assert figures["marks/cardiomegaly"] == pytest.approx(1 / 2)
    assert figures["marks/nodule_mass"] == 0


def test_a_consensus_has_no_readers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = physionet_folder(tmp_path) / "annotations" / "annotations_test.csv"
    (line,) = failure(path, capsys)
    assert "no recognised column for reader (a consensus has no readers, so no agreement)" in line
    assert "--columns reader=HEADER" in line


def test_other_headers_are_named_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, *LINES, header="scan,who,Finding,X1,left,x2,y2")
    (line,) = failure(path, capsys)
    assert "column for image, reader, y1; it has scan, who, Finding, X1, left, x2, y2" in line
    columns = ["--columns", "image=scan", "reader=who", "y1=left"]
    assert figures_of(path, tmp_path / "named", *columns)["found40/edema"] == 0.5
    lines = failure(path, capsys, "--columns", "image=scam", "eye=who", "x2=x2", "x2=y2")
    assert [part in line for part, line in zip(
        ("no column 'scam' (nearest: 'scan')", "expected FIELD=HEADER", "x2 is given twice"), lines, strict=True
    )] == [True] * 3  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no rows below its header"),
        (["a,R1,Edema,0,0,10,4", "b,R2,Edema,0,0,10,4"], "no image that two readers read"),
        ([*LINES, "a,R1,Edema,0,0,ten,4", "a,R1,Edema,0,,9,4"], "2 rows whose box is not four numbers: row 9, 10 (the"),
        ([*LINES, "a,R1,Edema,0,0,inf,4"], "1 row whose box is not four numbers: row 9 "),
        ([*LINES, "a,R1,Edema,10,0,0,4"], "1 row whose box is inverted or empty (x2 <= x1 or y2 <= y1): row 9 "),
        ([*LINES, "a,R2,Edema,,,,"], "1 row without a box, of a class that has boxes in other rows: row 9 "),
        ([*LINES, "a,R1,No finding,0,0,5,4"], "1 row with a box but without a finding: row 9 "),
        ([",R1,Edema,0,0,5,4", *LINES], "1 row without an image: row 2 "),
        (["a, ,Edema,0,0,5,4", *LINES], "1 row without a reader: row 2 "),
        (["a,R1,Edema,5,0,5,4"] * 12, "row 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"),
        (["a,R1,Edema,0,0,5,4,7"], "line 2 has 8 cells"),
        ([*LINES, "a,R1,Edema,0,0,5,4,7"], "has 8 cells"),
        ([*LINES, "b,r2,Edema,0,0,5,4"], "reader 'R2' and 'r2' differ only in case"),
        ([*LINES, "b,R2,edema,0,0,5,4"], "finding 'Edema' and 'edema' differ only in case"),
    ],
)  # fmt: skip
def test_a_bad_table_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], message: str
) -> None:
    (line,) = failure(write(tmp_path, *lines), capsys)
    assert message in line


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_cells_that_may_have_decimal_commas(tmp_path: Path, separator: str) -> None:
    points = [line.replace("10", "10.5") for line in LINES]
    header, *lines = [line.replace(",", separator) for line in (HEADER, *points)]
    expected = figures_of(write(tmp_path, *points), tmp_path / "points")
    commas = [line.replace("10.5", "10,5") for line in lines]
    assert figures_of(write(tmp_path, *commas, header=header), tmp_path / "commas") == expected


def test_a_table_in_another_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.csv"
    lines = [HEADER, "a,R1,Épanchement,0,0,9,4", "a,R2,Épanchement,0,0,9,4"]
    path.write_text("\n".join(lines), encoding="cp1252")
    assert "--encoding cp1252" in failure(path, capsys)[0]
    assert figures_of(path, tmp_path / "out", "--encoding", "cp1252")["marks"] == 1


def test_a_class_called_mean_has_its_own_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a,R1,mean,0,0,9,4", "a,R2,mean,0,0,9,4", "b,R1,Edema,0,0,9,4", "b,R2,No finding,,,,"]
    figures_of(write(tmp_path, *lines), tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["blocks"][0]["rows"]
    assert [row[:3] for row in rows] == [["mean", 3, 2], ["Edema", 1, 1], ["mean", 2, 1]]


def test_a_missing_file_a_run_folder_and_a_bad_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no table" in failure(tmp_path / "absent.csv", capsys)[0]
    assert "min_votes: got 0" in failure(write(tmp_path, *LINES), capsys, "--min-votes", "0")[0]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    assert main(["readers", str(write(tmp_path, *LINES)), "--out", str(tmp_path / "run")]) == 2
    assert "is the folder of a run" in capsys.readouterr().err


def test_classes_whose_slugs_fall_together_keep_their_own_figures(tmp_path: Path) -> None:
    lines = ["a,R1,Nodule/Mass,0,0,9,4", "a,R2,Nodule/Mass,0,0,9,4", "a,R1,Nodule Mass,0,0,9,4", "a,R1,low,0,0,9,4"]
    figures = figures_of(write(tmp_path, *lines), tmp_path / "out")
    assert {figures["marks/nodule_mass"], figures["marks/nodule_mass_2"]} == {0, 1}
    assert figures["marks/low_3"] == 0


def test_a_table_of_the_phantom_is_labelled_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "vindr" / "annotations"
    folder.mkdir(parents=True)
    (tmp_path / "vindr" / "phantom.json").write_text("{}")
    figures_of(write(folder, *LINES), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["synthetic"] is True
