"""Does an image make a finding more likely than it is on average? A rule that is as strict for rare findings as for
frequent ones.

A calibrated probability of .3 is little for a finding that every second image has, and much for one that every
fiftieth image has. So the probability is compared with the share of positive labels, both as odds p / (1 - p): by
Bayes' theorem, their ratio is the likelihood ratio of the image, the factor by which seeing it changes the odds.
"""

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from stage1_classify.settings.classifier import NotMentioned


def base_rates(labels: pd.DataFrame, *, not_mentioned: NotMentioned) -> Floats:
    """(K,) share of positive labels among the certain ones of each column; NaN without any.

    Args:
        labels: (N, K) 1, 0, -1 or NaN. not_mentioned: whether NaN counts as 0, as in the classifier's training.
    """
    values = labels.to_numpy(dtype=np.float64)
    if not_mentioned == "zeros":
        values = np.nan_to_num(values, nan=0.0)
    positives, certain = (values == 1).sum(axis=0), np.isin(values, (0, 1)).sum(axis=0)
    return np.where(certain > 0, positives / np.maximum(certain, 1), np.nan)


def too_unlikely(probabilities: Floats, rates: Floats, minimum: float) -> Bools:
    """(N, K) whether the likelihood ratio of the image is below `minimum`.

    False where all certain labels of the finding are equal or there is none, because there is no ratio.

    Args:
        probabilities: (N, K) calibrated. rates: (K,) of `base_rates`.
    """
    has_ratio = (rates > 0) & (rates < 1)
    return np.asarray(has_ratio & (probabilities * (1 - rates) < minimum * rates * (1 - probabilities)))
