"""Predictions for images that the model has not seen: of a small model in folds of patients, and of finished runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.config import Settings, UserError
from cxr.runs.run_folder import start_run
from cxr.tables import NOT_ASKED
from eval.audit.out_of_fold import MIN_CASES, predictions_of_runs, predictions_of_small_model, targets_of
from tests.eval.audit.audit_builders import data_set

NAN = float("nan")


@pytest.mark.parametrize(("rule", "blank"), [("zeros", 0.0), ("ignore", NAN)])
def test_targets(rule: str, blank: float) -> None:
    labels = pd.DataFrame({"Edema": [1, 0, -1, NAN, NOT_ASKED]})
    expected = np.array([[1], [0], [NAN], [blank], [NAN]])
    np.testing.assert_array_equal(targets_of(labels, not_mentioned=rule), expected)


def small_model(targets: Sequence[float], *, bright: Sequence[float], patients: Sequence[str] = ()) -> list[float]:
    """Predictions for pictures whose left half is as bright as told; the last one cannot be decoded."""
    num = len(targets)
    random = np.random.default_rng(0)
    thumbnails = random.integers(0, 100, size=(num, 64, 64), dtype=np.uint8)
    thumbnails[:, :, :32] += np.array([round(100 * level) for level in bright], dtype=np.uint8)[:, None, None]
    data = data_set(labels={"Edema": targets}, patient_id=patients or [""] * num)
    has = np.arange(num) < num - 1
    made = predictions_of_small_model(data, thumbnails[has], has, np.array(targets, dtype=float)[:, None])
    return [float(value) for value in made.probabilities[:, 0]]


def test_no_images() -> None:
    data = data_set(labels={"Edema": []})
    nothing = np.zeros((0, 64, 64), dtype=np.uint8)
    made = predictions_of_small_model(data, nothing, np.zeros(0, dtype=bool), np.zeros((0, 1)))
    assert made.probabilities.shape == (0, 1)


def test_a_difference_that_can_be_seen_is_learned() -> None:
    labels = [0, 1] * 20 + [NAN, 1]
    found = np.array(small_model(labels, bright=[0, 1] * 20 + [0, 1]))
    assert (found[:40:2] < 0.5).all()
    assert (found[1:40:2] > 0.5).all()
    assert np.isnan(found[40:]).all()  # without a target, without a picture


FEW = [[0.0] * 30, [1.0] * (MIN_CASES - 1) + [0.0] * 30]


@pytest.mark.parametrize("labels", FEW, ids=["one kind", "few positives"])
def test_too_few_labels_are_not_predicted(labels: list[float]) -> None:
    assert np.isnan(small_model(labels, bright=labels)).all()


def test_a_patient_is_in_one_fold() -> None:
    """All positives are of one patient: the fold without it has one kind of label only, so nothing is predicted."""
    labels = [1.0] * 12 + [0.0] * 20
    patients = ["p"] * 12 + [f"q{number}" for number in range(20)]
    assert np.isnan(small_model(labels, bright=labels, patients=patients)).all()
    assert not np.isnan(small_model(labels, bright=labels)[:-1]).any()


def finished_run(path: Path, scores: dict[str, float], *, finding: str = "Edema") -> Path:
    run = start_run(path, stage="stage1", settings=Settings(), inputs={})
    facts = {"image_id": list(scores), "split": "test", "patient_id": "", "study_id": "", "num_views": 1}
    pd.DataFrame(facts).assign(**{finding: list(scores.values())}).to_csv(path / "predictions.csv", index=False)
    run.finish({}, {"predictions": path / "predictions.csv"}, findings=[finding], synthetic=False)
    return path


def test_predictions_of_runs_are_averaged(tmp_path: Path) -> None:
    data = data_set(labels={"Mass": [0, 0, 0], "Edema": [0, 1, 0]})
    runs = [
        finished_run(tmp_path / "1", {"a": 0.25, "other": 0.1}),
        finished_run(tmp_path / "2", {"a": 0.75, "b": 1.0}),
    ]
    found = predictions_of_runs(runs, data, ["Mass", "Edema"])
    np.testing.assert_array_equal(found.probabilities, [[NAN, 0.5], [NAN, 1], [NAN, NAN]])
    assert "2 of 3 images" in found.source


def test_runs_on_other_data_are_refused(tmp_path: Path) -> None:
    data = data_set(labels={"Edema": [0]})
    for number, run in enumerate(
        [finished_run(tmp_path / "1", {"x": 0.5}), finished_run(tmp_path / "2", {"a": 0.5}, finding="Mass")]
    ):
        with pytest.raises(UserError, match=f"--run .*{number + 1}"):
            predictions_of_runs([run], data, ["Edema"])
