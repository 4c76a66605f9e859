"""`eval/run.py label-forest`: a finding that follows from another label is predicted, one that does not is not."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cxr.cli import EXIT_DONE, EXIT_USER
from cxr.config import UserError, parse_settings
from eval.classification.label_forest import LabelForestSettings, label_forest
from eval.classification.label_forest_report import importance_table
from eval.run import main
from tests.builders import write_rows

HEAD = ["path", "patient", "heart", "fluid", "noise"]
FINDINGS = {"heart": "Cardiomegaly", "fluid": "Edema", "noise": "Fracture"}


def table(root: Path, *, num: int = 80, rows: Sequence[Sequence[object]] = ()) -> Path:
    """Labels of `num` patients with two images each; Cardiomegaly is Edema but for every tenth patient."""
    noise = np.random.default_rng(0).integers(0, 2, num).tolist()
    made: list[Sequence[object]] = []
    for patient in range(num):
        fluid = int(patient % 4 == 0)
        heart = 1 - fluid if patient % 10 == 0 else fluid
        made += [(f"{patient}_{image}.png", patient, heart, fluid, noise[patient]) for image in range(2)]
    write_rows(root / "labels.csv", HEAD, [*made, *rows])
    return root


def forest_settings(root: Path, **changes: object) -> LabelForestSettings:
    values = {
        "data": {
            "dataset": "csv_table",
            "root": str(root),
            "table": "labels.csv",
            "columns": {"image": "path", "patient": "patient"},
            "findings": FINDINGS,
            "check_files": "none",
        },
        "finding": "Cardiomegaly",
        "num_trees": 10,
        "num_folds": 3,
        "num_resamples": 50,
    }
    return parse_settings(LabelForestSettings, values | changes, source="test")


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image is left"):
        label_forest(forest_settings(table(tmp_path, num=0)))


def test_the_label_that_it_follows_from_is_the_most_important(tmp_path: Path) -> None:
    forest = label_forest(forest_settings(table(tmp_path)))
    assert forest.predictors == ("Edema", "Fracture")
    assert len(forest.labels) == len(forest.probabilities) == 160
    assert forest.importances.shape == (3, 2)
    np.testing.assert_allclose(forest.importances.sum(axis=1), 1)
    assert [row[0] for row in importance_table(forest).rows] == ["Edema", "Fracture"]
    right = (forest.probabilities >= 0.5) == (forest.labels == 1)
    assert right.mean() > 0.8


def test_a_patient_is_never_in_training_and_fold(tmp_path: Path) -> None:
    """With a label of its own for each patient, a forest that had seen the patient would know the answer."""
    root = tmp_path
    coins = np.random.default_rng(1).integers(0, 2, 60)
    names = [f"code{bit}" for bit in range(6)]
    rows = [
        (f"{patient}_{image}.png", patient, coins[patient], *(patient >> bit & 1 for bit in range(6)))
        for patient in range(60)
        for image in range(2)
    ]
    write_rows(root / "labels.csv", ["path", "patient", "heart", *names], rows)
    data = forest_settings(root).data.model_dump(mode="json")
    shipped = ["Edema", "Fracture", "Pneumonia", "Atelectasis", "Lung Lesion", "Pneumothorax"]
    data["findings"] = {"heart": "Cardiomegaly"} | dict(zip(names, shipped, strict=True))
    forest = label_forest(forest_settings(root, data=data, num_trees=30))
    assert ((forest.probabilities >= 0.5) == (forest.labels == 1)).mean() < 0.75


def test_uncertain_labels_count_as_the_settings_say(tmp_path: Path) -> None:
    root = table(tmp_path, rows=[("u.png", "u", -1, 1, 0), ("b.png", "b", "", 1, 0)])
    for uncertain, expected in (("zeros", [0, 0]), ("ones", [1, 0])):
        assert label_forest(forest_settings(root, uncertain=uncertain)).labels[-2:].tolist() == expected


def test_smote_makes_both_sides_equal_in_training(tmp_path: Path) -> None:
    """A rare finding that follows from nothing: without SMOTE its probability is its share, with it about a half."""
    rows = [(f"{patient}.png", patient, int(patient % 10 == 0), 1, patient // 10 % 2) for patient in range(200)]
    write_rows(tmp_path / "labels.csv", HEAD, rows)
    means = [label_forest(forest_settings(tmp_path, smote=smote)).probabilities.mean() for smote in (False, True)]
    assert means == pytest.approx([0.1, 0.5], abs=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finding": "Pneumonia"}, "Pneumonia"),
        ({"predictors": ["Cardiomegaly"]}, "Cardiomegaly"),
        ({"predictors": []}, "labels nothing but Cardiomegaly"),
        ({"num_folds": 30}, "patients are positive for Cardiomegaly, expected at least 60"),
    ],
)
def test_what_cannot_be_predicted_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        label_forest(forest_settings(table(tmp_path), **changes))


def test_the_command_draws_importances_and_roc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = forest_settings(table(tmp_path))
    config = tmp_path / "forest.yaml"
    config.write_text(json.dumps(settings.model_dump(mode="json")), encoding="utf-8")
    assert main(["label-forest", str(config), "--out", str(tmp_path / "out"), "--set", "num_trees=5"]) == EXIT_DONE
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert figures["auroc/cardiomegaly/low"] <= figures["auroc/cardiomegaly"] <= figures["auroc/cardiomegaly/high"]
    assert figures["importance/edema"] > figures["importance/fracture"]
    assert all((tmp_path / "out" / "pictures" / f"{name}.png").is_file() for name in ("importances", "roc"))
    assert "report.html" in capsys.readouterr().out
    assert main(["label-forest", str(config), "--set", "finding=Nothing"]) == EXIT_USER
