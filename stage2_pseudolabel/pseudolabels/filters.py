"""What speaks against a pseudo-box. Each filter is a pure function: boxes in, (N,) true where the box does not pass.

A box that one of FILTERS takes out is not deleted: it becomes an ignore region. Only `further_below_confidence` leaves
nothing, since its image has a better box of the finding.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.boxes import CORNERS, Boxes, iou_matrix

LOW_CONFIDENCE = "low confidence"
NO_AGREEMENT = "another method does not agree"
IMPLAUSIBLE = "implausible position"
FILTERS = (LOW_CONFIDENCE, NO_AGREEMENT, IMPLAUSIBLE)

_MAX_PAIRS = 1_000_000
"""Pairs of boxes that are compared at a time; bounds the memory to some 100 MB."""

_KEY = ["image_id", "finding"]


def below_confidence(confidence: Floats, minimum: float) -> Bools:
    """(N,) confidence below `minimum`."""
    return np.asarray(confidence < minimum)


def further_below_confidence(boxes: pd.DataFrame, confidence: Floats, minimum: float) -> Bools:
    """(N,) confidence below `minimum`, where the image has a box of the finding with a better score (of equals the
    first counts as better).

    Args:
        boxes: table with image_id, finding and score. confidence: (N,) of them.
    """
    place = boxes.groupby(_KEY)["score"].rank(ascending=False, method="first")
    return np.asarray((place.to_numpy(dtype=np.float64) > 1) & (confidence < minimum))


def without_agreement(boxes: pd.DataFrame, others: pd.DataFrame, *, iou: float) -> Bools:
    """(N,) boxes that no box of `others`, of the same image and finding, overlaps by `iou` or more.

    Args:
        boxes, others: tables with image_id, finding and corners in pixels.
    """
    other_of = {name: part[CORNERS].to_numpy(dtype=np.float64) for name, part in others.groupby(_KEY)}
    corners = boxes[CORNERS].to_numpy(dtype=np.float64)
    alone = np.ones(len(boxes), dtype=bool)
    for name, rows in boxes.reset_index(drop=True).groupby(_KEY).indices.items():
        if name in other_of:
            alone[rows] = _resembles_none(corners[rows], other_of[name], iou)
    return alone


def implausible(shares: Boxes, findings: npt.ArrayLike, places: Mapping[str, Boxes], *, iou: float) -> Bools:
    """(N,) boxes that no known true box of their finding overlaps by `iou` or more.

    Args:
        shares: (N, 4) boxes in shares of the map, so that images of other sizes compare. findings: (N,) of them.
        places: finding -> (M, 4) true boxes in shares of the map; a finding without any passes, as nothing is known.
    """
    names = np.asarray(findings, dtype=object)
    strange = np.zeros(len(names), dtype=bool)
    for finding, known in places.items():
        own = names == finding
        if len(known) and own.any():
            strange[own] = _resembles_none(shares[own], known, iou)
    return strange


def first_filter(against: Mapping[str, Bools], num_boxes: int) -> npt.NDArray[np.object_]:
    """(N,) name of the first filter that a box does not pass, "" for a box that passes all."""
    reasons = np.full(num_boxes, "", dtype=object)
    for name, caught in against.items():
        reasons[caught & (reasons == "")] = name
    return reasons


def _resembles_none(boxes: Boxes, known: Boxes, iou: float) -> Bools:
    step = max(1, _MAX_PAIRS // len(known))
    parts = [
        iou_matrix(boxes[start : start + step], known).max(axis=1) < iou
        for start in range(0, len(boxes), step)
    ]
    return np.concatenate([np.zeros(0, dtype=bool), *parts])
