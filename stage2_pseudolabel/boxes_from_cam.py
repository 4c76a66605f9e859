"""Boxes from a class activation map: threshold, connected components, one box each."""

from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes

Map = npt.NDArray[np.float32]


class Rule(Protocol):
    """How a map of one finding becomes boxes; `exclude` names the patient that the map is of where its own boxes
    must not help. str() is for people, as_dict() for the manifest."""

    def boxes(self, cam: Map, *, exclude: str = "") -> tuple[Boxes, npt.NDArray[np.float64]]: ...

    def as_dict(self) -> dict[str, str | float]: ...


@dataclass(frozen=True)
class ComponentRule:
    """Threshold and connected components.

    normalization: "relative": `threshold` is a share of the map's own maximum; "absolute": a value of the map.
    max_boxes: the strongest components that are kept.
    min_area: smallest component, as a share of the whole map.
    upsample: bilinear enlargement before the threshold.
    """

    normalization: Literal["relative", "absolute"]
    threshold: float
    max_boxes: int = 1
    min_area: float = 0.002
    upsample: int = 8

    def boxes(self, cam: Map, *, exclude: str = "") -> tuple[Boxes, npt.NDArray[np.float64]]:  # noqa: ARG002
        """Boxes (N, 4) in shares of the map, strongest first, and their evidence (N,) in (0, 1]."""
        return component_boxes(cam, self)

    def as_dict(self) -> dict[str, str | float]:
        """For the manifest."""
        return {
            "rule": "components",
            "normalization": self.normalization,
            "threshold": self.threshold,
            "max_boxes": self.max_boxes,
        }

    def __str__(self) -> str:
        return f"{self.normalization} threshold {self.threshold:.3g}, up to {self.max_boxes}"


def component_boxes(cam: Map, rule: ComponentRule) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """Boxes around the connected components of one map.

    Args:
        cam: (h, w), absolute values; what is not above zero is no evidence.

    Returns:
        boxes (N, 4) in shares of the map's width and height, strongest first, and their evidence (N,) in (0, 1]:
        the component's mean over the map's maximum. None of a map that is constant, or nowhere above zero.
    """
    peak = float(cam.max(initial=0.0))
    if peak <= 0 or not np.isfinite(peak) or float(cam.min()) == peak:
        return np.zeros((0, 4)), np.zeros(0)
    fine = enlarge(cam, rule.upsample)
    level = rule.threshold * peak if rule.normalization == "relative" else rule.threshold
    mask = (fine >= max(level, np.finfo(np.float32).tiny)).astype(np.uint8)
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    sums = np.bincount(labels.ravel(), weights=fine.ravel(), minlength=num_labels)[1:]
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    evidence = sums / areas / peak
    large = np.flatnonzero(areas >= rule.min_area * fine.size)
    strongest = large[np.argsort(-evidence[large], kind="stable")][: rule.max_boxes]
    corners = stats[1:, :4][strongest].astype(np.float64)
    corners[:, 2:] += corners[:, :2]
    height, width = fine.shape
    return corners / [width, height, width, height], np.minimum(evidence[strongest], 1.0)


def enlarge(cam: Map, factor: int) -> Map:
    """Bilinear enlargement; a cell covers the same share of the map before and after."""
    if factor == 1:
        return cam
    height, width = cam.shape
    size_wh = (width * factor, height * factor)
    return np.asarray(cv2.resize(cam, size_wh, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
