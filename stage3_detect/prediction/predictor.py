"""A finished run as a reader of radiographs: picture in, boxes with their chance of being right out."""

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
    """One box, xyxy in the picture's own pixels.

    score: of the network, in [0, 1]. confidence: calibrated chance that a reader would mark it, in [0, 1]; None where
    the run had no boxes to learn that from. shown: its score reaches the operating point of its finding.
    """

    finding: str
    xyxy: Box
    score: float
    confidence: float | None
    shown: bool


class BoxReader:
    """Reads one picture after the other; holds a network and nothing of the pictures."""

    def __init__(
        self, run: FinishedRun, point: OperatingPoint, *, format: str = "pytorch", device: str = "cpu"
    ) -> None:
        """Open the run's network in one of its formats; `device` as in `open_network`.

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

    def read(self, image: Pixels) -> list[FoundBox]:
        """Boxes of one picture (H, W), as `cxr.imaging.files` reads it, bone bright; the highest score first."""
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
    """The parts of a picture that the detector takes for an image: the whole, or both halves where it learned from
    halves."""
    halves = {"left", "right_mirrored"} & set(run.manifest.get("regions", ()))
    return ("left", "right_mirrored") if halves else ("full",)


def boxes_in_whole(xyxy: Boxes, region: Region, *, width: int) -> Boxes:
    """(N, 4) boxes in the pixels of `region` to those of the whole picture, which is `width` wide."""
    if region != "right_mirrored":
        return xyxy
    return np.stack([width - xyxy[:, 2], xyxy[:, 1], width - xyxy[:, 0], xyxy[:, 3]], axis=1)
