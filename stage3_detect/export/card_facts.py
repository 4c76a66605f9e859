"""The facts that a model card states, computed from a finished training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr.coco import CocoBoxes
from cxr.labels import slug
from cxr.metrics import ReadMetrics
from cxr.runs.run_folder import FinishedRun
from cxr.wording import counted
from eval.detection.points import never_found, read_points
from eval.report.format import figure_text
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection
from stage3_detect.settings.detector import Stage3Settings

SECOND_FILE = "_bin"
"""Ending of a name in `files` that is not a format: the weights that belong to an OpenVINO .xml file."""
FEW_BOXES = 20
"""With fewer test boxes, the AP of a finding depends on single boxes."""


@dataclass(frozen=True)
class CardFacts:
    """Everything that is known when a run ends.

    metrics: as in metrics.json. verdict: of the run. folder: the training images of the training that the weights are
    from. operating_points, correction (of the boxes): as in the manifest. files, notes, warnings: of `Exports`.
    """

    settings: Stage3Settings
    sources: Sources
    stage2: FinishedRun
    folder: YoloFolder
    metrics: ReadMetrics
    verdict: str
    weights: Path
    channels: int = 1
    operating_points: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
    correction: BoxCorrection = NO_CORRECTION

    @property
    def findings(self) -> tuple[str, ...]:
        return self.sources.labels.findings

    @property
    def test(self) -> CocoBoxes:
        return self.sources.test

    @property
    def synthetic(self) -> bool:
        """Whether the test images are computer-generated."""
        return bool(self.test.info.get("synthetic"))

    @property
    def architecture(self) -> str:
        """Name of the model's yaml or of the weights file that training started from; without its folder."""
        return Path(self.settings.model).stem

    @property
    def methods(self) -> Sequence[str]:
        """CAM methods whose maps the pseudo-boxes come from."""
        made_by = self.sources.labels.info.get("made_by", {})
        by_finding = made_by.get("methods") or self.stage2.manifest.get("methods_by_finding") or {}
        return list(dict.fromkeys(by_finding.values())) or [str(self.stage2.manifest["best_method"])]

    @property
    def box_source(self) -> str:
        """Where the training boxes come from, in a few words."""
        labels, true = self.settings.labels, self.sources.true
        corrected = "" if self.sources.corrections is None else ", and readers' corrections"
        if labels.source == "true_boxes":
            return "true boxes" + corrected
        if true is not None and labels.true_boxes.only:
            return "labels only; boxes of the tune split" + corrected
        tune = ", and true boxes of the tune split" if true is not None else ""
        return "pseudo-boxes from CAM maps" + tune + corrected

    @property
    def tested_on(self) -> str:
        """Images, patients and boxes of the test split."""
        num_boxes = len(self.test.without_ignored().boxes)
        patients = f" of {counted(len(set(self.test.groups)), 'patient')}" if self.knows_patients else ""
        images = counted(len(self.test.images), "image")
        return f"{named(self.test)}, {images}{patients}, {counted(num_boxes, 'true box')}"

    @property
    def knows_patients(self) -> bool:
        """Whether every test image has a patient."""
        images = self.test.images
        return "patient_id" in images and bool((images["patient_id"] != "").all())

    @property
    def formats(self) -> Sequence[str]:
        """Exported formats; the second file of OpenVINO is not one."""
        return [name for name in self.files if not name.endswith(SECOND_FILE)]

    @property
    def limits(self) -> Mapping[str, Sequence[str]]:
        """What limits the figures of some findings -> these findings; empty where a limit does not apply."""
        tested, trained = box_counts(self.test), self._training_boxes()
        limits = {
            "No test boxes and therefore no score": [f for f in self.findings if not tested.get(f)],
            f"Fewer than {FEW_BOXES} test boxes": [
                f"{f} ({tested[f]})" for f in self.findings if 0 < tested.get(f, 0) < FEW_BOXES
            ],
            "AP40 is not above the prior that uses no map, so the boxes say little more than where the finding usually "
            "is": [f for f in self.findings if self._is_below_no_map(f)],
            "No training boxes": [f for f in self.findings if not trained.get(f)],
        }
        for name, point in read_points(self.operating_points).items():
            limits |= {
                f"Operating point {name} never shows these findings, because no score met its condition on the tune "
                "split": [f for f in self.findings if not math.isfinite(point.scores.get(f, math.inf))],
                f"Operating point {name} found no test box of": list(never_found(point, self.metrics)),
            }
        return limits

    def _is_below_no_map(self, finding: str) -> bool:
        """Compares point estimates."""
        own, prior = (self.metrics.get(f"ap40/{name}/{slug(finding)}") for name in ("detector", "prior_no_map"))
        return own is not None and prior is not None and own <= prior

    def _training_boxes(self) -> Mapping[str, int]:
        sources = self.sources
        only_true = sources.true is not None and self.settings.labels.true_boxes.only
        used = (None if only_true else sources.labels, sources.true, sources.corrections)
        counts = [box_counts(coco) for coco in used if coco is not None]
        return {finding: sum(own[finding] for own in counts) for finding in self.findings}

    def figure(self, name: str) -> str:
        """ "0.412 [0.350, 0.470]" of a figure, a dash for none."""
        return figure_text(self.metrics, name)


def box_counts(coco: CocoBoxes) -> dict[str, int]:
    """Finding -> number of boxes, ignore regions excluded, in the order of the findings."""
    counts = coco.without_ignored().boxes["finding"].value_counts()
    return {finding: int(counts.get(finding, 0)) for finding in coco.findings}


def named(coco: CocoBoxes) -> str:
    """Data set and split, as the file says."""
    dataset, split = coco.info.get("dataset", "a data set without a name"), coco.info.get("split")
    return f"{dataset} ({split})" if split else str(dataset)
