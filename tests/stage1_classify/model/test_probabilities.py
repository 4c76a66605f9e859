"""From logits to probabilities: exact values, and what is read back is what was saved."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun
from eval.classification.calibration import Calibration
from eval.stats.calibration import Curve
from stage1_classify.data.hierarchy import Hierarchy
from stage1_classify.model.probabilities import Probabilities, calibration_of, save_calibration, sigmoid, uncalibrated

FLAT = Hierarchy((-1, -1))
CHILD_AND_PARENT = Hierarchy((1, -1))
LOGITS = np.array([[0.0, np.log(3.0)], [np.log(4.0), 0.0]], dtype=np.float32)
"""Probabilities .5 and .75; .8 and .5."""


def run_with(folder: Path, content: str | None) -> FinishedRun:
    outputs = {}
    if content is not None:
        (folder / "calibration.json").write_text(content)
        outputs["calibration"] = {"path": "calibration.json", "sha256": sha256_of(folder / "calibration.json")}
    return FinishedRun(folder, "stage1", {"outputs": outputs}, {}, {})


def test_nothing_stays_nothing() -> None:
    probabilities = Probabilities(CHILD_AND_PARENT, uncalibrated(2))
    assert probabilities(np.zeros((0, 2), dtype=np.float32)).shape == (0, 2)


def test_sigmoid_is_exact_and_stable() -> None:
    with np.errstate(all="raise", under="ignore"):
        values = sigmoid(np.array([[-1000, 0, 1000]], dtype=np.float32))
    assert values.tolist() == [[0.0, 0.5, 1.0]]


def test_a_childs_probability_is_multiplied_by_its_parents() -> None:
    flat, tree = Probabilities(FLAT, uncalibrated(2)), Probabilities(CHILD_AND_PARENT, uncalibrated(2))
    np.testing.assert_allclose(flat.raw(LOGITS), [[0.5, 0.75], [0.8, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(tree.raw(LOGITS), [[0.375, 0.75], [0.4, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(tree(LOGITS), tree.raw(LOGITS))


def test_calibration_comes_after_the_hierarchy() -> None:
    """Scale 2 squares the odds of .375 (3/5) to 9/25, which is 9/34; the parent is left alone."""
    calibration = Calibration("temperature", (Curve(scale=2.0), Curve(reason="too few")))
    both = Probabilities(CHILD_AND_PARENT, calibration)
    np.testing.assert_allclose(both(LOGITS)[0], [9 / 34, 0.75], rtol=1e-6)
    np.testing.assert_allclose(both.raw(LOGITS)[0], [0.375, 0.75], rtol=1e-6)


@pytest.mark.parametrize(
    "calibration",
    [
        uncalibrated(2),
        Calibration("platt", (Curve(0.1 + 0.2, -1 / 3), Curve(reason="2 positives"))),
        Calibration("isotonic", (Curve(knot_logits=(-27.6, 1e-300), knot_probabilities=(0.1, 2 / 3)), Curve())),
    ],
    ids=lambda c: c.kind,
)
def test_what_is_saved_is_read_back_exactly(tmp_path: Path, calibration: Calibration) -> None:
    save_calibration(tmp_path / "saved.json", calibration)
    run = run_with(tmp_path, (tmp_path / "saved.json").read_text())
    assert calibration_of(run, num_findings=2) == calibration


def test_a_run_without_calibration_keeps_its_probabilities(tmp_path: Path) -> None:
    calibration = calibration_of(run_with(tmp_path, None), num_findings=2)
    values = np.array([[0.0, 1.0], [0.3, 1e-20]])
    np.testing.assert_array_equal(calibration.apply(values), values)


def test_a_damaged_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"calibration\.json is not JSON"):
        calibration_of(run_with(tmp_path, "{"), num_findings=2)
    with pytest.raises(UserError, match="damaged"):
        calibration_of(run_with(tmp_path, "{}"), num_findings=2)
    three = json.dumps(uncalibrated(3).as_dict())
    with pytest.raises(UserError, match="3 findings, expected 2"):
        calibration_of(run_with(tmp_path, three), num_findings=2)
