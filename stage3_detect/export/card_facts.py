"""What a model card is made of, and the words that its parts share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr.coco import CocoBoxes
from cxr.runs.run_folder import FinishedRun
from eval.report.format import with_interval
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection
from stage3_detect.settings.detector import DetectSettings

Metrics = Mapping[str, float | None]

SECOND_FILE = "_bin"
"""Ending of a name in `files` that is no form of its own: the weights beside an OpenVINO .xml."""


@dataclass(frozen=True)
class CardFacts:
    """Everything that is known when a run ends.

    metrics: as in metrics.json. verdict: the run's. folder: of the training that the weights are of.
    operating_points: as in the manifest. files, notes, warnings: of `forms.Exports`.
    correction: of the boxes, as in the manifest.
    """

    settings: DetectSettings
    sources: Sources
    stage2: FinishedRun
    folder: YoloFolder
    metrics: Metrics
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
        """Whether the test pictures are drawn."""
        return bool(self.test.info.get("synthetic"))

    @property
    def architecture(self) -> str:
        """Of the yaml, or of the weights file that was begun with; no path."""
        return Path(self.settings.model).stem

    @property
    def start(self) -> str:
        """What training began with."""
        name = Path(self.settings.model).name
        return f"trained further from {name}" if self.settings.from_weights else "trained from scratch"

    @property
    def methods(self) -> Sequence[str]:
        """CAM methods whose maps the boxes came from."""
        made_by = self.sources.labels.info.get("made_by", {})
        by_finding = made_by.get("methods") or self.stage2.manifest.get("methods_by_finding") or {}
        return list(dict.fromkeys(by_finding.values())) or [str(self.stage2.manifest["best_method"])]

    @property
    def learned_boxes(self) -> str:
        """Whose boxes, in a few words."""
        labels, true = self.settings.labels, self.sources.true
        if labels.source == "true_boxes":
            return "true boxes"
        if true is not None and labels.true_boxes.only:
            return "its labels only; boxes of the tune split"
        return "pseudo-boxes from CAM maps" + (
            ", and true boxes of the tune split" if true is not None else ""
        )

    @property
    def judged_on(self) -> str:
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
    def interval_words(self) -> str:
        """What the brackets are."""
        drawn = "patients" if self.knows_patients else "images, since the data names no patients"
        return f"In brackets 95 % intervals from {self.settings.num_resamples:,} resamples of {drawn}."

    @property
    def chose_epoch(self) -> str:
        """What the epoch was chosen by, a sentence."""
        count = self.folder.num_held_out
        if self.settings.data.validate_on == "tune_boxes":
            return f"The best epoch was chosen on {counted(count, 'image')} of the tune split."
        return f"The best epoch was chosen on {counted(count, 'held-out training image')}."

    @property
    def num_rounds(self) -> int:
        """Trainings, one where there were no rounds of relabelling."""
        return int(self.metrics.get("rounds/num") or 1)

    @property
    def best_round(self) -> int:
        """Number of the training that won, from 0."""
        return int(self.metrics.get("rounds/best") or 0)

    @property
    def forms(self) -> Sequence[str]:
        """Exported forms; OpenVINO's second file is part of its form."""
        return [name for name in self.files if not name.endswith(SECOND_FILE)]

    def with_interval(self, name: str) -> str:
        """ "0.412 [0.350, 0.470]" of a figure, a dash for none."""
        value, low, high = (self.metrics.get(f"{name}{end}") for end in ("", "/low", "/high"))
        return with_interval(value, low, high) if value is not None else "–"

    def test_boxes(self) -> Mapping[str, int]:
        """Finding -> true boxes of the test split."""
        return box_counts(self.test)


def box_counts(coco: CocoBoxes) -> dict[str, int]:
    """Finding -> boxes that are no ignore regions, in the order of the findings."""
    counts = coco.without_ignored().boxes["finding"].value_counts()
    return {finding: int(counts.get(finding, 0)) for finding in coco.findings}


def named(coco: CocoBoxes) -> str:
    """Data set and split, as the files say."""
    dataset, split = coco.info.get("dataset", "a data set without a name"), coco.info.get("split")
    return f"{dataset} ({split})" if split else str(dataset)


def counted(count: int, thing: str) -> str:
    """ "1 image", "1,200 images", "2 boxes"."""
    plural = thing + ("es" if thing.endswith("x") else "s")
    return f"{count:,} {thing if count == 1 else plural}"
