"""From logits to probabilities: sigmoid, hierarchy, calibration."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr.arrays import Float32s, Floats
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, atomic_write_text
from eval.classification.calibration import Calibration
from eval.stats.calibration import Curve
from stage1_classify.data.hierarchy import Hierarchy

OUTPUT = "calibration"
"""Name of the calibration among a run's outputs."""


@dataclass(frozen=True)
class Probabilities:
    """Turns the logits of one network into probabilities. The calibration is fitted to the result of `raw`."""

    hierarchy: Hierarchy
    calibration: Calibration

    def raw(self, logits: Float32s) -> Floats:
        """Logits (N, K) to probabilities in [0, 1], where a child's is multiplied by those of its ancestors."""
        return self.hierarchy.multiply(sigmoid(logits))

    def __call__(self, logits: Float32s) -> Floats:
        """Logits (N, K) to calibrated probabilities in [0, 1]."""
        return self.calibration.apply(self.raw(logits))


def sigmoid(logits: Float32s) -> Floats:
    """Probabilities in (0, 1), stable for large logits of either sign."""
    values = np.asarray(logits, dtype=np.float64)
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))


def uncalibrated(num_findings: int) -> Calibration:
    """The calibration that changes nothing."""
    return Calibration("none", (Curve(reason="none was fitted"),) * num_findings)


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write JSON that `calibration_of` reads back exactly."""
    atomic_write_text(path, json.dumps(calibration.as_dict(), indent=1) + "\n")


def calibration_of(run: FinishedRun, *, num_findings: int) -> Calibration:
    """The calibration of a finished stage 1 run; the identity in runs of older versions that had none.

    Raises:
        UserError: the file is damaged, or has another number of findings.
    """
    if OUTPUT not in run.manifest["outputs"]:
        return uncalibrated(num_findings)
    path = run.output(OUTPUT)
    try:
        calibration = Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"run {run.dir}: {path.name} is not JSON ({error}); run the stage again") from None
    if len(calibration.curves) != num_findings:
        raise UserError(
            f"run {run.dir}: {path.name} has {len(calibration.curves)} findings, expected {num_findings}; "
            "run the stage again"
        )
    return calibration
