"""A split with the predictions of a classifier."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stage1_classify.data.batches import Split


@dataclass(frozen=True)
class Scored:
    """raw: (cases, K) probabilities in [0, 1] before calibration. probabilities: the same after calibration."""

    split: Split
    raw: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        """(cases, K) 1, 0 or NaN."""
        return self.split.targets.astype(np.float64)
