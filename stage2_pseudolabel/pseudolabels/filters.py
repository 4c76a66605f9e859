"""Pseudo-boxes that are too unsure. Each filter is a pure function: boxes in, (N,) true where the box does not pass.

A box that `below_confidence` finds becomes an ignore region. One that `further_below_confidence` finds is dropped,
since its image has a better box of the finding.
"""

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats

LOW_CONFIDENCE = "low confidence"
"""Why a box became an ignore region, in `ignored_by`."""

_KEY = ["image_id", "finding"]


def below_confidence(confidence: Floats, minimum: float) -> Bools:
    """(N,) confidence below `minimum`."""
    return np.asarray(confidence < minimum)


def further_below_confidence(boxes: pd.DataFrame, confidence: Floats, minimum: float) -> Bools:
    """(N,) confidence below `minimum`, where the image has a box of the finding with a better score; on ties
    the first counts as better.

    Args:
        boxes: table with image_id, finding and score. confidence: (N,) of them.
    """
    place = boxes.groupby(_KEY)["score"].rank(ascending=False, method="first")
    return np.asarray((place.to_numpy(dtype=np.float64) > 1) & (confidence < minimum))
