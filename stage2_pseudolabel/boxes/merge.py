"""Fuse overlapping boxes of one map."""

import numpy as np
import numpy.typing as npt

from cxr.boxes import weighted_boxes_fusion
from stage2_pseudolabel.boxes.rule import Found, joined
from stage2_pseudolabel.settings.boxes import Merge


def merge_boxes(found: Found, merge: Merge, *, iou: float) -> Found:
    """Merge "wbf": boxes of a map that overlap by more than `iou` become their mean weighted by evidence, with the mean
    evidence. "none" changes nothing. Boxes are grouped by image, the strongest first, before and after.
    """
    touched = _overlapping_images(found, iou) if merge != "none" else np.zeros(0, dtype=np.int64)
    if not len(touched):
        return found
    alone = ~np.isin(found.image, touched)
    parts = [(-1, found.boxes[:0], found.evidence[:0])]
    for row in touched.tolist():
        boxes, evidence = found.of(row)
        parts.append((row, *weighted_boxes_fusion(boxes, evidence, iou=iou)[:2]))
    merged = joined(parts)
    image = np.concatenate([found.image[alone], merged.image])
    order = np.argsort(image, kind="stable")
    return Found(
        image[order],
        np.concatenate([found.boxes[alone], merged.boxes])[order],
        np.concatenate([found.evidence[alone], merged.evidence])[order],
    )


def _overlapping_images(found: Found, iou: float) -> npt.NDArray[np.int64]:
    """Images with two boxes that overlap by more than `iou`: most maps have none and need no loop."""
    boxes, hits = found.boxes, [found.image[:0]]
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    for lag in range(1, len(found)):
        same = np.flatnonzero(found.image[lag:] == found.image[:-lag])
        if not len(same):
            break  # images are grouped, so none has more boxes than this
        first, second = boxes[same], boxes[same + lag]
        shared = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
        both = np.clip(shared, 0, None).prod(axis=1)
        hits.append(found.image[same[both > iou * (areas[same] + areas[same + lag] - both)]])
    return np.unique(np.concatenate(hits))
