"""`eval/run.py radiologists`: F1 of decisions next to given figures, and every way to be wrong."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.cli import EXIT_DONE, EXIT_USER
from cxr.config import Settings, UserError
from cxr.runs.run_folder import FinishedRun, open_run, start_run
from eval.classification.radiologists import MEAN, compare_with_radiologists, comparison_table, read_f1
from eval.run import main
from tests.builders import write_rows

NUM = 40


def run_of(path: Path, *, threshold: bool = True) -> FinishedRun:
    """Edema: every decision is right. Fracture: of 20 positives 10 are found, and 10 negatives are called: F1 .5."""
    labels = np.arange(NUM) % 2
    half = (np.arange(NUM) // 2) % 2
    columns: dict[str, object] = {"image_id": [f"i{case}" for case in range(NUM)], "split": "test"}
    columns |= {"patient_id": "", "study_id": "", "num_views": 1}
    for name, calls in (("Edema", labels), ("Fracture", half)):
        columns |= {name: calls * 0.5, f"{name} label": labels, f"{name} call": calls if threshold else np.nan}
    run = start_run(path, stage="stage1", settings=Settings(), inputs={})
    table = pd.DataFrame(columns)
    pd.concat([table.assign(split="val", image_id="v" + table["image_id"]), table]).to_csv(
        path / "predictions.csv", index=False
    )
    run.finish({}, {"predictions": path / "predictions.csv"}, findings=["Edema", "Fracture"], synthetic=False)
    run.release()
    return open_run(path)


def figures_file(path: Path, *rows: tuple[str, object]) -> Path:
    write_rows(path, ["finding", "f1"], rows)
    return path


def test_exact_figures_and_verdicts(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    found = compare_with_radiologists(run, figures_file(tmp_path / "f1.csv", ("Fracture", ".45"), ("Edema", "0,8")))
    rows = {row[0]: row for row in comparison_table(found).rows}
    assert list(rows) == ["Fracture", "Edema", MEAN]
    assert rows["Edema"] == ["Edema", 20, "1.000 [1.000, 1.000]", 0.8, "better"]
    assert rows["Fracture"][2].startswith("0.500 [")  # type: ignore[union-attr]
    assert rows["Fracture"][4] == "no significant difference"
    assert found.figures["f1/mean"] == pytest.approx(0.75)
    assert found.of_radiologists(MEAN) == pytest.approx(0.625)
    higher = compare_with_radiologists(run, figures_file(tmp_path / "high.csv", ("Fracture", "0.95")))
    assert (higher.verdict("Fracture"), higher.verdict(MEAN)) == ("worse", "worse")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no row"),
        ([("Edema", "61 %")], "F1 of Edema is '61 %', expected a number from 0 to 1"),
        ([("Edema", "1.2")], "F1 of Edema is '1.2'"),
        ([("Edema", ".6"), ("Edema", ".7")], "Edema has two rows"),
    ],
)
def test_a_table_that_is_none_of_f1_is_refused(tmp_path: Path, rows: list[tuple[str, object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_f1(figures_file(tmp_path / "f1.csv", *rows))


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "f1.csv"
    path.write_text("finding,f1\nŒdème,.6\n", encoding="cp1252")
    assert read_f1(path, encoding="cp1252") == {"Œdème": 0.6}
    with pytest.raises(UserError, match="--encoding cp1252"):
        read_f1(path)


def test_what_the_classifier_cannot_be_compared_in_is_refused(tmp_path: Path) -> None:
    table = figures_file(tmp_path / "f1.csv", ("Edema", ".6"))
    with pytest.raises(UserError, match="no threshold for Edema"):
        compare_with_radiologists(run_of(tmp_path / "open", threshold=False), table)
    other = figures_file(tmp_path / "other.csv", ("Pneumonia", ".6"))
    with pytest.raises(UserError, match="Pneumonia"):
        compare_with_radiologists(run_of(tmp_path / "run"), other)


def test_the_command_writes_figures_and_a_chart(tmp_path: Path) -> None:
    run_of(tmp_path / "run")
    table = figures_file(tmp_path / "f1.csv", ("Edema", ".6"))
    assert main(["radiologists", str(tmp_path / "run"), "--figures", str(table)]) == EXIT_DONE
    out = tmp_path / "run_radiologists"
    figures = json.loads((out / "metrics.json").read_text())
    assert (figures["f1/edema"], figures["radiologists/f1/edema"]) == (1.0, 0.6)
    assert (out / "pictures" / "f1.png").is_file()
    assert main(["radiologists", str(tmp_path / "nothing"), "--figures", str(table)]) == EXIT_USER
