"""Settings of stage 3: the labels, how the loss allows for label noise, and self-training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cxr.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]
NumBoxes = Annotated[int, Field(ge=0)] | Literal["all"]


class TrueBoxSettings(Settings):
    """Training on a few of the radiologists' boxes of the tune split in addition to the pseudo-labels.

    The rest of the tune split then chooses operating points, calibration and the end of self-training.
    """

    renamed: ClassVar[Mapping[str, str]] = {"number": "num_boxes", "alone": "only"}

    num_boxes: NumBoxes = 0
    """Number of boxes. Whole images are taken in a fixed order until they have this many; 25 boxes are part of 100."""
    repeat: Annotated[int, Field(ge=1)] = 4
    """How many times per epoch the detector sees an image with radiologists' boxes (others: once)."""
    only: bool = False
    """Train on these boxes only. Their images are repeated until an epoch is as long as with the pseudo-labels."""

    @model_validator(mode="after")
    def _has_boxes(self) -> Self:
        if self.only and self.num_boxes == 0:
            raise ValueError("only: there are no boxes to train on; set num_boxes to a number, or to all")
        return self


class CorrectionSettings(Settings):
    """Training on readers' corrections from the reading page, in addition to the labels.

    They replace the labels of the same images. Images of the tune and test split are refused.
    """

    path: Path | None = None
    """corrections.json, as `stage3_detect/corrections.py` writes it. null: no corrections."""
    repeat: Annotated[int, Field(ge=1)] = 4
    """How many times per epoch the detector sees a corrected image (others: once)."""


class LabelSettings(Settings):
    """Which boxes the detector is trained on."""

    renamed: ClassVar[Mapping[str, str]] = {"min_pseudo_score": "min_score", "parents_boxes": "parent_boxes"}

    source: Literal["pseudo_labels", "true_boxes"] = "pseudo_labels"
    """pseudo_labels: the boxes of stage 2. true_boxes: radiologists' boxes of the same images (`gt_train` of stage 2),
    where the data set has them. They train the supervised detector that others are compared with."""
    min_score: Share = 0.0
    """Pseudo-labels with a lower score become ignore regions: neither lesion nor background."""
    parent_boxes: bool = True
    """A pseudo-label is also a box of the finding's parent (a consolidation is a lung opacity) where the radiologists
    of the tune split mark both."""
    normals_per_positive: Annotated[float, Field(ge=0)] = 0.5
    """Images without boxes per image with boxes, as far as there are enough."""
    true_boxes: TrueBoxSettings = TrueBoxSettings()
    corrections: CorrectionSettings = CorrectionSettings()


class NoiseSettings(Settings):
    """How the loss allows for label noise. With everything off it is the loss of ultralytics."""

    renamed: ClassVar[Mapping[str, str]] = {"class_balance": "class_balance_power"}

    box_weights: bool = True
    """Weight each box in the loss by its confidence (calibrated in stage 2), scaled to mean 1."""
    ignore_regions: bool = True
    """Predictions of a class inside one of its ignore regions have no loss. Off: the regions are dropped, and so are
    images that have nothing else."""
    image_labels: bool = True
    """Use the image label for the background loss. A class that the label denies is background everywhere, an uncertain
    one without an ignore region is masked, and the next two settings weight the others. Off: everything without a box
    is background."""
    unmentioned_weight: Share = 0.0
    """Background weight of a class that the label does not mention: 0 masks it, 1 treats it as absent."""
    affirmed_weight: Share = 0.5
    """Background weight, outside its boxes, of a class that the label affirms. Pseudo-labels miss lesions; 1 treats
    them as complete."""
    class_balance_power: Share = 0.0
    """Weight classes by (1 / number of boxes) to this power, scaled to mean 1. 0: off."""
    shared_boxes_iou: Annotated[float, Field(ge=0.5, le=1)] | None = 0.8
    """Boxes of two findings (such as parent and child) with at least this IoU share their anchors. Without this, YOLO
    assigns each anchor to one box and treats the other finding as absent there. null: off."""


class SelfTrainingSettings(Settings):
    """CAM teacher and detector relabel the training images together, and the detector is trained again."""

    max_rounds: Annotated[int, Field(ge=0)] = 0
    """Most rounds of relabelling after the first training. 0: train once."""
    num_epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of each later round. null: as many as the first."""
    start_from: Literal["student", "beginning"] = "student"
    """A later round starts from the averaged weights of the round before, or from what the first round started from."""
    teacher_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the CAM teacher's boxes when boxes are fused."""
    student_weight: Annotated[float, Field(gt=0)] = 2.0
    """Weight of the detector's boxes when boxes are fused."""
    fusion_iou: Share = 0.3
    """Boxes of one finding with a higher IoU are fused (weighted boxes fusion)."""
    min_confidence: Share = 0.3
    """Fused boxes with a lower calibrated confidence become ignore regions, except the best box of a finding that the
    label affirms."""
    min_gain: Annotated[float, Field(ge=0)] = 0.0
    """Self-training ends when AP40 on the tune split exceeds the best round so far by no more than this."""
