"""Measures against the masks of findings, for ground truth that has some."""

import numpy as np

from cxr.boxes import Boxes
from cxr.masks import Mask, Pixels, pixels_of, union_of
from eval.detection.indexed import IndexedDetections, top_boxes
from eval.stats.measures import Measure, share_measure


def mask_iou_measure(boxes: IndexedDetections) -> Measure:
    """Mean over the images with masks of a class of the IoU between the best-scored box, filled, and the union of the
    masks; 0 for an image without a box.

    Masks are seldom rectangles, so a perfect box stays below 1: the figure compares predictions with each other.
    Images whose true boxes of the class have no mask do not count.
    """
    masks = boxes.true.masks
    cases = np.zeros(boxes.true.shape)
    cases.ravel()[list(masks)] = 1.0
    overlaps = np.zeros_like(cases)
    for index in top_boxes(boxes.cell, boxes.scores):
        cell = int(boxes.cell[index])
        if cell in masks:
            overlaps.ravel()[cell] = filled_iou(boxes.boxes[index], masks[cell])
    return share_measure("mask_iou", boxes.true.findings, overlaps, cases)


def filled_iou(box: Boxes, masks: list[Mask]) -> float:
    """IoU of the pixels whose centres lie in the box (4,) with the union of masks of one size."""
    pixels: Pixels = pixels_of(union_of(masks))
    height, width = pixels.shape
    left, top, right, bottom = np.ceil(np.clip(box, 0, [width, height, width, height]) - 0.5).astype(int)
    shared = int(pixels[top:bottom, left:right].sum())
    total = int(pixels.sum()) + max(0, bottom - top) * max(0, right - left) - shared
    return shared / total if total else 0.0
