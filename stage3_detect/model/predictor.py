"""Radiograph in, boxes with calibrated confidences out. Needs neither torch nor pandas."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cxr.boxes import Boxes
from cxr.imaging.files import Pixels, Region, cut_region
from eval.detection.curves import Confidence
from eval.detection.points import OperatingPoint
from stage3_detect.model.boxes import detect
from stage3_detect.model.correction import BoxCorrection
from stage3_detect.model.network import Network
from stage3_detect.settings.detector import PredictSettings

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class FoundBox:
    """One box, xyxy in original pixels of the image.

    score: of the network, in [0, 1]. confidence: calibrated probability that a reader would mark the box, in [0, 1];
    None where the run had no true boxes to calibrate on. shown: the score reaches the operating point of its finding.
    """

    finding: str
    xyxy: Box
    score: float
    confidence: float | None
    shown: bool


def hidden(boxes: Iterable[FoundBox]) -> list[FoundBox]:
    """The boxes with none of them shown, as on an image on which the detector abstains."""
    return [replace(box, shown=False) for box in boxes]


@dataclass(frozen=True)
class PredictorFacts:
    """What turns the network's output into boxes, as the run found it on its tune split.

    regions: the parts of an image that are the network's inputs. confidence: None where the run had no true boxes.
    """

    settings: PredictSettings
    regions: tuple[Region, ...]
    confidence: Confidence | None
    correction: BoxCorrection

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> "PredictorFacts":
        """Read the facts from the manifest of a stage 3 run or of a bundle.

        Raises:
            UserError: the curves are damaged.
        """
        curves = manifest.get("score_curves")
        halves = {"left", "right_mirrored"} & set(manifest.get("regions", ()))
        return cls(
            PredictSettings(**manifest["settings"]["predict"]),
            ("left", "right_mirrored") if halves else ("full",),
            Confidence.from_dict(curves) if curves else None,
            BoxCorrection.from_dict(manifest.get("box_correction", {})),
        )


class BoxPredictor:
    """Finds boxes on one image after the other. It keeps the network, and nothing of the images."""

    def __init__(self, network: Network, facts: PredictorFacts) -> None:
        self._network, self._facts = network, facts
        self.findings, self.regions = network.findings, facts.regions

    def predict(self, image: Pixels, point: OperatingPoint) -> list[FoundBox]:
        """Find the boxes of one image (H, W), decoded by `cxr.imaging.files` with bright bone; highest score first."""
        rows: list[tuple[str, Box, float]] = []
        for region in self._facts.regions:
            found = detect(cut_region(image, region), self._network, self._facts.settings, self._facts.correction)
            corners = boxes_in_whole(found.xyxy, region, width=image.shape[1])
            names = [self.findings[index] for index in found.classes]
            rows += zip(names, map(tuple, corners.tolist()), found.scores.tolist(), strict=True)
        rows.sort(key=lambda row: -row[2])
        return [
            FoundBox(finding, xyxy, score, confidence, score >= point.scores.get(finding, math.inf))
            for (finding, xyxy, score), confidence in zip(rows, self._confidences(rows), strict=True)
        ]

    def _confidences(self, rows: Sequence[tuple[str, Box, float]]) -> list[float | None]:
        if self._facts.confidence is None:
            return [None] * len(rows)
        scores = np.array([row[2] for row in rows], dtype=np.float64)
        values: list[float | None] = self._facts.confidence.of_scores([row[0] for row in rows], scores).tolist()
        return values


def boxes_in_whole(xyxy: Boxes, region: Region, *, width: int) -> Boxes:
    """Convert boxes (N, 4) from pixels of `region` to pixels of the whole image, which is `width` wide."""
    if region != "right_mirrored":
        return xyxy
    return np.stack([width - xyxy[:, 2], xyxy[:, 1], width - xyxy[:, 0], xyxy[:, 3]], axis=1)
