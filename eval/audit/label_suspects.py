"""Labels that contradict good predictions: confident learning (Northcutt et al. 2021, arXiv:1911.00068) by cleanlab."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from cxr.arrays import Floats, Ints
from cxr.config import UserError

COLUMNS = ("finding", "image_id", "label", "probability")
"""A suspect: the label is 1 or 0, the probability is that of a model that was not trained on the image."""

CHECKED_COLUMNS = ("finding", "checked", "auroc", "judged", "suspects")

MIN_AUROC = 0.8
"""With weaker predictions most contradictions are the model's mistakes: such findings are not judged."""


def find_suspects(
    image_ids: Sequence[str], findings: Sequence[str], targets: Floats, probabilities: Floats
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Suspects (`COLUMNS`), the least likely labels first within each finding; and for each finding (`CHECKED_COLUMNS`)
    the number of images that could be checked, the AUROC of the predictions there (NaN if there is only one label),
    whether it is at least `MIN_AUROC`, and the number of suspects.

    targets, probabilities: (N, K), NaN where unknown; only images with both are checked, and only findings with
    positives and negatives among them.

    Raises:
        UserError: cleanlab is not installed.
    """
    suspects: list[tuple[str, str, int, float]] = []
    checked: list[tuple[str, int, float, bool, int]] = []
    for k, finding in enumerate(findings):
        rows = np.flatnonzero(~np.isnan(targets[:, k]) & ~np.isnan(probabilities[:, k]))
        labels, scores = targets[rows, k].astype(np.int64), probabilities[rows, k]
        if len(set(labels.tolist())) < 2:
            checked.append((finding, 0, np.nan, False, 0))
            continue
        auroc = float(roc_auc_score(labels, scores))
        worst = _worst_first(labels, scores) if auroc >= MIN_AUROC else []
        suspects += [(finding, image_ids[rows[i]], int(labels[i]), float(scores[i])) for i in worst]
        checked.append((finding, len(rows), auroc, auroc >= MIN_AUROC, len(worst)))
    return pd.DataFrame(suspects, columns=list(COLUMNS)), pd.DataFrame(checked, columns=list(CHECKED_COLUMNS))


def _worst_first(labels: Ints, scores: Floats) -> list[int]:
    """Rows of the suspects of one finding."""
    try:
        from cleanlab.filter import find_label_issues  # takes seconds to load, and is optional
    except ImportError:
        raise UserError('label suspects: the package cleanlab is missing; run pip install -e ".[audit]"') from None
    both = np.stack([1 - scores, scores], axis=1)
    found = find_label_issues(labels, both, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [int(row) for row in found]
