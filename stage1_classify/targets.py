"""From a data set's labels (1, 0, -1 uncertain, NaN not mentioned) to training targets."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.labels import check_findings
from stage1_classify.config import LabelSettings, UncertainPolicy

UNCERTAIN = -1.0


def training_targets(labels: pd.DataFrame, settings: LabelSettings, *, seed: int) -> npt.NDArray[np.float32]:
    """Apply the policies for uncertain and unmentioned labels.

    Args:
        labels: (N, K) with values 1, 0, -1, NaN; columns are findings.

    Returns:
        (N, K) float32 in [0, 1], NaN where masked.
    """
    check_findings(settings.uncertain_by_finding, labels.columns, source="labels.uncertain_by_finding")
    values = labels.to_numpy(dtype=np.float32, copy=True)
    if settings.not_mentioned == "zeros":
        values[np.isnan(values)] = 0
    generator = np.random.default_rng(seed)
    for column, finding in enumerate(labels.columns):
        rows = values[:, column] == UNCERTAIN
        policy = settings.uncertain_by_finding.get(str(finding), settings.uncertain)
        values[rows, column] = _resolve(policy, int(rows.sum()), settings, generator)
    return values


def _resolve(
    policy: UncertainPolicy, count: int, settings: LabelSettings, generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    if policy == "smooth_ones":
        return generator.uniform(*settings.smooth_ones_range, count).astype(np.float32)
    if policy == "smooth_zeros":
        return generator.uniform(*settings.smooth_zeros_range, count).astype(np.float32)
    constant = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0}[policy]
    return np.full(count, constant, dtype=np.float32)


def evaluation_targets(labels: pd.DataFrame, settings: LabelSettings) -> npt.NDArray[np.float32]:
    """Targets for validation and test: certain labels only, (N, K) of 0, 1, NaN where uncertain."""
    values = labels.to_numpy(dtype=np.float32, copy=True)
    if settings.not_mentioned == "zeros":
        values[np.isnan(values)] = 0
    values[values == UNCERTAIN] = np.nan
    return values
