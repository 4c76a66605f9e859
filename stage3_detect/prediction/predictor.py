"""Predictor of a finished run: radiograph in, boxes with calibrated confidences out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.boxes import Boxes
from cxr.config import UserError
from cxr.imaging.files import Pixels, Region, cut_region
from cxr.runs.run_folder import FinishedRun
from eval.detection.confidence import Confidence
from eval.detection.operating_points import BEST_F1, OperatingPoint, read_points
from stage3_detect.export.formats import open_network
from stage3_detect.model.boxes import detect
from stage3_detect.model.correction import BoxCorrection
from stage3_detect.model.network import Network
from stage3_detect.settings.detector import PredictSettings

STATED_SCORE = 0.25
"""Used where a run chose no operating point; the default of ultralytics."""


def open_point(run: FinishedRun, wanted: str | None) -> OperatingPoint:
    """The run's operating point named `wanted`, or the score `wanted` for all findings. None means the operating point
    of the best F1 where the run chose one, else `STATED_SCORE`.

    Raises:
        UserError: `wanted` is neither a name that the run has nor a number from 0 to 1.
    """
    known = read_points(run.manifest.get("operating_points", {}))
    if wanted is None:
        wanted = BEST_F1 if BEST_F1 in known else str(STATED_SCORE)
    if wanted in known:
        return known[wanted]
    try:
        score = float(wanted)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise UserError(f"--points {wanted}: expected one of {', '.join([*known, 'a score from 0 to 1'])}")
    return OperatingPoint(wanted, "one score for all findings", dict.fromkeys(run.manifest["findings"], score))


def remark(run: FinishedRun, point: OperatingPoint, *, asked: bool) -> str:
    """A warning about the operating point in one line; "" for none."""
    if not asked and not run.manifest.get("operating_points"):
        return f"the run has no operating points: boxes with a score of {point.name} or more are shown"
    never = [name for name in run.manifest["findings"] if not math.isfinite(point.scores.get(name, math.inf))]
    if never:
        names = ", ".join(never)
        return f"operating point {point.name} never shows {names}: none of its boxes on the tune split was correct"
    return ""


def words_of(point: OperatingPoint) -> str:
    """ "operating point f1", or "score 0.25"."""
    is_number = point.name.replace(".", "", 1).isdigit()
    return f"score {point.name}" if is_number else f"operating point {point.name}"


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
            FoundBox(finding, xyxy, score, confidence, score >= self._point.scores.get(finding, math.inf))
            for (finding, xyxy, score), confidence in zip(rows, self._confidences(rows), strict=True)
        ]

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
