"""Do two samples come from one distribution? Tests for single numbers and for vectors, and the size of a difference.

- A single number: the test of Kolmogorov and Smirnov, which assumes nothing about the distribution.
- Vectors: a classifier that separates the samples (Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, ICLR
  2017). It is fitted on one half of each sample and tested on the other half, so its p-value is exact for the test.
- The size of a difference is an AUROC: the probability that a value of the second sample is above one of the first,
  half of the ties counted. .5 is no difference.

Rabanser, Guennemann and Lipton (Failing Loudly, NeurIPS 2019) compare such tests on images: single tests with a
correction for their number find most shifts as well as multivariate ones.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import ks_2samp, rankdata

from cxr.arrays import Floats
from eval.stats.bootstrap import CONFIDENCE, Estimate

_Z = float(ndtri((1 + CONFIDENCE) / 2))
_TINY = 1e-9


@dataclass(frozen=True)
class TwoSamples:
    """p: that samples of one distribution differ so much. auroc: see the docstring of this module."""

    p: float
    auroc: Estimate


def compare_numbers(first: Floats, second: Floats) -> TwoSamples:
    """Compare (M,) with (N,) numbers, M and N at least 1; none is NaN."""
    return TwoSamples(float(ks_2samp(first, second).pvalue), auroc_interval(first, second))


def compare_vectors(first: Floats, second: Floats, *, seed: int) -> TwoSamples:
    """Compare (M, D) with (N, D) vectors, M and N at least 4, by a logistic regression on their ranks and squares.

    p: one-sided, since a classifier below chance has found nothing (Mann and Whitney's test).
    """
    from sklearn.linear_model import LogisticRegression  # takes seconds

    rng = np.random.default_rng(seed)
    vectors = _with_squares(np.concatenate([first, second]))
    is_second = np.repeat([False, True], [len(first), len(second)])
    in_fit = np.zeros(len(vectors), dtype=bool)
    for rows in (np.flatnonzero(~is_second), np.flatnonzero(is_second)):
        in_fit[rng.permutation(rows)[: len(rows) // 2]] = True
    classifier = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    classifier.fit(vectors[in_fit], is_second[in_fit])
    scores = classifier.decision_function(vectors)
    tested = [scores[~in_fit & ~is_second], scores[~in_fit & is_second]]
    auroc = auroc_interval(tested[0], tested[1])
    m, n = len(tested[0]), len(tested[1])
    deviation = ((m + n + 1) / (12 * m * n)) ** 0.5
    return TwoSamples(float(ndtr((0.5 - auroc.value) / deviation)), auroc)


def auroc_interval(first: Floats, second: Floats) -> Estimate:
    """Probability that a value of `second` is above one of `first`, with its 95 % interval.

    The interval holds the values whose distance from the estimate is within 1.96 of their own standard deviation, so
    it does not collapse where the samples do not overlap (Newcombe, Statistics in Medicine 25, 2006, method 5).
    """
    m, n = len(first), len(second)
    ranks = rankdata(np.concatenate([first, second]))
    value = float((ranks[m:].sum() - n * (n + 1) / 2) / (m * n))
    common = (m + n) / 2 - 1

    def excess(auroc: float) -> float:
        """Squared distance less the squared limit; negative inside the interval."""
        variance = auroc * (1 - auroc) * (1 + common * ((1 - auroc) / (2 - auroc) + auroc / (1 + auroc))) / (m * n)
        return (auroc - value) ** 2 - _Z**2 * variance

    inside = min(max(value, _TINY), 1 - _TINY)  # at 0 and 1 the variance is 0
    low = brentq(excess, 0.0, inside) if value > _TINY else 0.0
    high = brentq(excess, inside, 1.0) if value < 1 - _TINY else 1.0
    return Estimate(value, float(low), float(high))


def _with_squares(vectors: Floats) -> Floats:
    """(N, 2 D): normal scores of each column's ranks, and their squares, which show a change of spread."""
    scores = ndtri((rankdata(vectors, axis=0) - 0.5) / len(vectors))
    return np.concatenate([scores, scores**2], axis=1)
