"""Predictor of a finished run: radiograph in, boxes with calibrated confidences out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.boxes import Boxes
from cxr.imaging.files import Pixels, Region, cut_region
from cxr.runs.run_folder import FinishedRun
from eval.detection.confidence import Confidence
from eval.detection.operating_points import OperatingPoint
from stage3_detect.export.formats import open_network
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


class BoxPredictor:
    """Finds boxes on one image after the other. It keeps the network, and nothing of the images."""

    def __init__(
        self, run: FinishedRun, point: OperatingPoint, *, format: str = "pytorch", device: str = "cpu"
    ) -> None:
        """Open the run's network in one of its export formats. device: as in `open_network`.

        Raises:
            UserError: the run does not have the format, or its files or curves are damaged.
        """
        self._settings = PredictSettings(**run.settings["predict"])
        self._regions = regions_of(run)
        curves = run.manifest.get("score_curves")
        self._confidence = Confidence.from_dict(curves) if curves else None
        self._point = point
        self._correction = BoxCorrection.from_dict(run.manifest.get("box_correction", {}))
        self._network: Network = open_network(run, format, device=device)
        self.findings = self._network.findings

    def predict(self, image: Pixels) -> list[FoundBox]:
        """Find the boxes of one image (H, W), decoded by `cxr.imaging.files` with bright bone; highest score first."""
        rows: list[tuple[str, Box, float]] = []
        for region in self._regions:
            found = detect(cut_region(image, region), self._network, self._settings, self._correction)
            corners = boxes_in_whole(found.xyxy, region, width=image.shape[1])
            names = [self.findings[index] for index in found.classes]
            rows += zip(names, map(tuple, corners.tolist()), found.scores.tolist(), strict=True)
        rows.sort(key=lambda row: -row[2])
        return [
            FoundBox(finding, xyxy, score, confidence, self._is_shown(finding, score))
            for (finding, xyxy, score), confidence in zip(rows, self._confidences(rows), strict=True)
        ]

    def _is_shown(self, finding: str, score: float) -> bool:
        return score >= self._point.scores.get(finding, math.inf)

    def _confidences(self, rows: Sequence[tuple[str, Box, float]]) -> list[float | None]:
        if self._confidence is None:
            return [None] * len(rows)
        table = pd.DataFrame({"finding": [row[0] for row in rows], "score": [row[2] for row in rows]})
        values: list[float | None] = self._confidence.of(table).tolist()
        return values


def regions_of(run: FinishedRun) -> tuple[Region, ...]:
    """The parts of an image that the detector takes as input: the whole image, or both halves where it was trained on
    halves."""
    halves = {"left", "right_mirrored"} & set(run.manifest.get("regions", ()))
    return ("left", "right_mirrored") if halves else ("full",)


def boxes_in_whole(xyxy: Boxes, region: Region, *, width: int) -> Boxes:
    """Convert boxes (N, 4) from pixels of `region` to pixels of the whole image, which is `width` wide."""
    if region != "right_mirrored":
        return xyxy
    return np.stack([width - xyxy[:, 2], xyxy[:, 1], width - xyxy[:, 0], xyxy[:, 3]], axis=1)
