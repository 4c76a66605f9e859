"""Array types that every package shares, and the mean over classes without NaN."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def mean_over_classes(values: Floats) -> Floats:
    """(..., K) -> (...): mean over the classes that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    num = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(num > 0, total / np.maximum(num, 1), np.nan)
