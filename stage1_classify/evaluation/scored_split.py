"""A split with what a classifier says of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stage1_classify.data.batches import Split


@dataclass(frozen=True)
class Scored:
    """Rows are the split's cases, columns the findings; probabilities in [0, 1], `raw` before calibration."""

    split: Split
    raw: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
