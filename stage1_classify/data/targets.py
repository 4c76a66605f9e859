"""From a data set's labels (1, 0, -1 uncertain, NaN not mentioned, NOT_ASKED) to training targets."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.arrays import Float32s, Floats
from cxr.labels import check_findings
from cxr.splits import hash_to_unit
from cxr.tables import NOT_ASKED
from stage1_classify.settings.classifier import LabelSettings, UncertainPolicy

UNCERTAIN = -1.0


def policies(findings: Sequence[str], settings: LabelSettings) -> dict[str, UncertainPolicy]:
    """The policy for uncertain labels per finding. UserError if `uncertain_by_finding` names another finding."""
    check_findings(settings.uncertain_by_finding, findings, source="labels.uncertain_by_finding")
    return {finding: settings.uncertain_by_finding.get(finding, settings.uncertain) for finding in findings}


def three_class_columns(findings: Sequence[str], settings: LabelSettings) -> list[int]:
    """The columns of the findings with the policy three_class."""
    by_finding = policies(findings, settings)
    return [column for column, finding in enumerate(findings) if by_finding[finding] == "three_class"]


def training_targets(
    labels: pd.DataFrame, settings: LabelSettings, *, seed: int, teacher: Floats | None = None
) -> Float32s:
    """Apply the policies for uncertain and unmentioned labels. What was not asked is masked under every policy.

    The random targets of smooth_* depend on (seed, finding, image) only, not on other findings or images.

    Args:
        labels: (N, K) with values 1, 0, -1, NaN, NOT_ASKED; columns are findings, the index image ids.
        teacher: (N, K) probabilities for the policy self_train; only values at uncertain labels are used.

    Returns:
        (N, K) float32 in [0, 1]; NaN where masked; -1 where uncertain with the policy three_class.
    """
    findings = [str(name) for name in labels.columns]
    values = _mentioned(labels, settings)
    for column, (finding, policy) in enumerate(policies(findings, settings).items()):
        rows = np.flatnonzero(values[:, column] == UNCERTAIN)
        if policy == "self_train":
            assert teacher is not None, "self_train without a teacher's probabilities"
            values[rows, column] = teacher[rows, column]
            assert not np.isnan(values[rows, column]).any(), f"{finding}: the teacher lacks some"
        elif policy in ("smooth_ones", "smooth_zeros"):
            low, high = getattr(settings, f"{policy}_range")
            ids = labels.index[rows]
            smooth = [low + (high - low) * hash_to_unit(f"{finding} of {image_id}", seed) for image_id in ids]
            values[rows, column] = smooth
        else:
            constants = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0, "three_class": UNCERTAIN}
            values[rows, column] = constants[policy]
    return values


def evaluation_targets(labels: pd.DataFrame, settings: LabelSettings) -> Float32s:
    """Targets for validation and test, (N, K): 0, 1, and NaN where uncertain or not asked."""
    values = _mentioned(labels, settings)
    values[values == UNCERTAIN] = np.nan
    return values


def _mentioned(labels: pd.DataFrame, settings: LabelSettings) -> Float32s:
    """(N, K) 1, 0, -1 uncertain, NaN masked: what is not mentioned by the policy, what was not asked always masked."""
    values = labels.to_numpy(dtype=np.float32, copy=True)
    if settings.not_mentioned == "zeros":
        values[np.isnan(values)] = 0
    values[values == NOT_ASKED] = np.nan
    return values
