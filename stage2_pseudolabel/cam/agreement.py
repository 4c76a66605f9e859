"""How similar two stacks of maps are."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rank correlation over the positions of a map, mean over images and classes, in [-1, 1].

    first, second: (N, K, h, w), arrays or tensors on the CPU. Equal values share their mean rank. Maps constant in
    either stack are excluded; NaN if none is left.
    """
    stacks = [np.asarray(maps) for maps in (first, second)]
    assert stacks[0].shape == stacks[1].shape, f"maps of {stacks[0].shape} and {stacks[1].shape}"
    ranks = [_centred_ranks(maps.reshape(-1, maps.shape[-2] * maps.shape[-1])) for maps in stacks]
    norms = [np.linalg.norm(rows, axis=1) for rows in ranks]
    varied = (norms[0] > 0) & (norms[1] > 0)
    if not varied.any():
        return float("nan")
    products = (ranks[0] * ranks[1]).sum(axis=1)
    return float(np.mean(products[varied] / (norms[0] * norms[1])[varied]))


def _centred_ranks(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks within each row of (n, positions) minus their mean; a constant row gives zeros."""
    if rows.size == 0:
        return np.zeros(rows.shape)
    return np.asarray(rankdata(rows, axis=1) - (rows.shape[1] + 1) / 2)
