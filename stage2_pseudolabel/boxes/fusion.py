"""Fuse overlapping boxes of several CAM methods."""

from collections.abc import Sequence

import numpy as np

from cxr.arrays import Floats, Ints
from cxr.boxes import fused_clusters
from stage2_pseudolabel.boxes.rule import Boxes, Found, nothing_found

FUSION_IOU = 0.5
"""Boxes of several methods that overlap by more than this are one."""


def fuse_methods(parts: Sequence[Found], *, iou: float = FUSION_IOU) -> Found:
    """Weighted boxes fusion of what several CAM methods find in the same images.

    Boxes that overlap by more than `iou` become their mean weighted by evidence. Its evidence is the mean over all
    methods of their strongest box there, 0 for a method without one, so it grows with the number of methods that agree.
    (The mean over all boxes times the share of methods, as in the paper, is lower where a method also gives weak boxes
    at the same place.) The boxes of one method alone stay as they are.

    Returns:
        boxes grouped by image, the strongest first.
    """
    if len(parts) == 1:
        return parts[0]
    image, boxes, evidence = (
        np.concatenate(values) for values in zip(*((one.image, one.boxes, one.evidence) for one in parts), strict=True)
    )
    if not len(image):
        return nothing_found()
    method = np.repeat(np.arange(len(parts)), [len(one) for one in parts])
    cluster, fused = fused_clusters(boxes, evidence, image, iou=iou)
    strongest = np.zeros((len(fused), len(parts)))
    np.maximum.at(strongest, (cluster, method), evidence)
    return _ordered(_first_of(image, cluster, len(fused)), fused, strongest.mean(axis=1))


def _first_of(image: Ints, cluster: Ints, count: int) -> Ints:
    """(count,) the image of each cluster."""
    of_cluster = np.zeros(count, dtype=np.int64)
    of_cluster[cluster] = image
    return of_cluster


def _ordered(image: Ints, boxes: Boxes, evidence: Floats) -> Found:
    order = np.lexsort((-evidence, image))
    return Found(image[order], boxes[order], evidence[order])
