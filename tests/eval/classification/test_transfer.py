"""`eval/run.py transfer`: exact figures of a small matrix, pairs on common images, and every way to be wrong."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cxr.cli import EXIT_DONE, EXIT_USER
from cxr.config import Settings, UserError
from cxr.runs.run_folder import start_run
from eval.classification.transfer import Transfer, TransferSettings, transfer
from eval.classification.transfer_report import finding_table, gap_table, mean_matrix, mean_table
from eval.run import main

EDEMA, LESION = "Edema", "Lung Lesion"
GOOD, BAD, HALF = (0.1, 0.2, 0.8, 0.9), (0.9, 0.8, 0.2, 0.1), (0.1, 0.8, 0.2, 0.9)
"""Probabilities of two negative and two positive cases: AUROC 1, 0 and .75."""

Matrix = dict[str, dict[str, Path]]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def folder(
    path: Path,
    scores: dict[str, Sequence[float]],
    ids: str,
    *,
    of: Path | None = None,
    labels: Sequence[float] = (0, 0, 1, 1),
    change: Change = lambda table: table,
) -> Path:
    """A run with a test case for each letter of `ids`. of: the classifier's run, for one on another data set."""
    stage = "stage1" if of is None else "classifier_evaluation"
    run = start_run(path, stage=stage, settings=Settings(), inputs={} if of is None else {"classifier": of})
    facts = {"image_id": list(ids), "split": "test", "patient_id": list(ids), "study_id": "", "num_views": 1}
    table = pd.DataFrame(facts)
    for finding, values in scores.items():
        table[finding], table[f"{finding} label"], table[f"{finding} call"] = list(values), list(labels), 1
    whole = pd.concat([table.assign(split="val"), table])  # validation does not count
    change(whole).to_csv(path / "predictions.csv", index=False)
    run.finish({}, {"predictions": path / "predictions.csv"}, findings=list(scores), synthetic=False)
    return path


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    """Classifier a on both data sets, b on its own only. Only a on a has the lesion."""
    a = folder(tmp_path / "a", {EDEMA: GOOD, LESION: HALF}, "ABCD")
    b = folder(tmp_path / "b", {EDEMA: HALF}, "EFGH")
    return {"a": {"a": a, "b": folder(tmp_path / "a_on_b", {EDEMA: BAD}, "EFGH", of=a)}, "b": {"b": b}}


def made(classifiers: Matrix, **changes: object) -> Transfer:
    values = {"classifiers": classifiers, "min_positives": 2, "num_resamples": 50} | changes
    return transfer(TransferSettings.model_validate(values))


def test_the_mean_is_over_findings_that_all_cells_have(matrix: Matrix) -> None:
    result = made(matrix)
    assert (result.classifiers, result.data_sets, result.common) == (("a", "b"), ("a", "b"), (EDEMA,))
    np.testing.assert_array_equal(mean_matrix(result), [[1.0, 0.0], [np.nan, 0.75]])
    assert result.auroc["a", "a"].values.tolist() == [1.0, 0.75]
    assert mean_table(result).rows[1][1] is None
    assert [row[:2] for row in finding_table(result).rows] == [["a on a", 4], ["a on b", 4], ["b on b", 4]]
    assert finding_table(result).rows[2][3] is None


def test_the_own_classifier_is_compared_on_the_images_that_both_predicted(tmp_path: Path, matrix: Matrix) -> None:
    (gap,) = made(matrix).gaps
    assert (gap.data_set, gap.other, gap.num_cases) == ("b", "a", 4)
    assert gap.gap is not None and gap.gap.value == 0.75
    (row,) = gap_table(made(matrix)).rows
    assert row[:3] == ["b", "a", 4] and str(row[3]).startswith("+0.750")
    few = folder(tmp_path / "few", {EDEMA: BAD[1:]}, "FGH", of=matrix["a"]["a"], labels=(0, 1, 1))
    (gap,) = made(matrix | {"a": {"b": few}}).gaps
    assert gap.num_cases == 3
    assert gap.gap is not None and gap.gap.value == 0.5  # .5 of b on these three, 0 of a
    other = folder(tmp_path / "other", {EDEMA: BAD}, "WXYZ", of=matrix["a"]["a"])
    (gap,) = made(matrix | {"a": {"b": other}}).gaps
    assert (gap.num_cases, gap.gap) == (0, None)


@pytest.mark.parametrize("share_labels", [True, False])
def test_pairs_need_the_same_labels(tmp_path: Path, matrix: Matrix, share_labels: bool) -> None:
    labels = (0, 0, 1, 1) if share_labels else (0, 1, 0, 1)
    cell = folder(tmp_path / "cell", {EDEMA: BAD}, "EFGH", of=matrix["a"]["a"], labels=labels)
    given = matrix | {"a": {"b": cell}}
    if share_labels:
        assert made(given).gaps[0].num_cases == 4
        return
    with pytest.raises(UserError, match="other labels"):
        made(given)


def test_cells_of_a_row_must_come_from_one_classifier(matrix: Matrix) -> None:
    wrong = {"b": {"b": matrix["b"]["b"], "a": matrix["a"]["b"]}}
    with pytest.raises(UserError, match=r"classifiers\.b: a .* is of another classifier than b"):
        made(wrong)


CHANGED: dict[str, tuple[Change, str]] = {
    "an image twice": (lambda table: pd.concat([table, table[-1:]]), "1 images twice in a split, for instance 'H' in"),
    "no labels": (lambda table: table.drop(columns=f"{EDEMA} label"), f"has no column '{EDEMA} label'"),
    "no ids": (lambda table: table.drop(columns="image_id"), "has no column 'image_id'"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_table_without_one_row_an_image_is_refused(tmp_path: Path, matrix: Matrix, case: str) -> None:
    """Before, an image that a cell named twice counted by its last row when classifiers were compared."""
    change, message = CHANGED[case]
    cell = folder(tmp_path / "cell", {EDEMA: BAD}, "EFGH", of=matrix["a"]["a"], change=change)
    with pytest.raises(UserError) as caught:
        made(matrix | {"a": {"b": cell}})
    assert message in caught.value.problems[0]
    assert str(cell) in caught.value.problems[0]


def test_findings_without_enough_positives_are_not_common(matrix: Matrix) -> None:
    with pytest.raises(UserError) as caught:
        made(matrix, min_positives=3)
    assert caught.value.problems[0] == "a on a: no finding"


def test_only_folders_of_classifiers_count(tmp_path: Path, matrix: Matrix) -> None:
    run = start_run(tmp_path / "detector", stage="stage3", settings=Settings(), inputs={})
    run.finish({}, {})
    with pytest.raises(UserError, match=r"classifiers\.a\.b: .* is a run of stage3"):
        made(matrix | {"a": {"b": tmp_path / "detector"}})


def test_the_command_writes_picture_page_and_figures(
    tmp_path: Path, matrix: Matrix, capsys: pytest.CaptureFixture[str]
) -> None:
    classifiers = {row: {column: str(path) for column, path in paths.items()} for row, paths in matrix.items()}
    config = tmp_path / "matrix.yaml"
    config.write_text(yaml.safe_dump({"classifiers": classifiers, "min_positives": 2, "num_resamples": 50}))
    assert main(["transfer", str(config)]) == EXIT_DONE
    out = tmp_path / "matrix"
    assert "0.750" in capsys.readouterr().out
    figures = json.loads((out / "metrics.json").read_text())
    assert (figures["auroc/a/b"], figures["auroc/a/a"], figures["auroc/a/a/lung_lesion"]) == (0.0, 1.0, 0.75)
    assert figures["own_minus/a/b"] == 0.75
    assert {"auroc/b/b/low", "own_minus/a/b/high", "own_minus/a/b/p_holm"} <= figures.keys()
    assert (out / "pictures" / "transfer.png").is_file()
    blocks = json.loads((out / "report.json").read_text())["blocks"]
    assert [block["kind"] for block in blocks] == ["figure", "verdict", "table", "table", "table"]
    assert main(["transfer", str(tmp_path / "gone.yaml")]) == EXIT_USER
