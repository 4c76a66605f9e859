"""Settings of stage 3 about labels: what the detector is told, how doubts count, and rounds in which labels change."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from cxr.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]
NumBoxes = Annotated[int, Field(ge=0)] | Literal["all"]


class TrueBoxSettings(Settings):
    """Few-box mode: radiologists' boxes of the tune split learned from beside the pseudo-labels.

    Whatever is chosen on the tune split (stop of rounds, operating points, calibration) then uses the rest of it.
    """

    number: NumBoxes = 0
    """How many boxes: whole images are taken, in a fixed order, until so many are reached; 25 are part of 100."""
    repeat: Annotated[int, Field(ge=1)] = 4
    """How many times an epoch an image with radiologists' boxes is shown; one with pseudo-labels is shown once."""
    alone: bool = False
    """Learn from them only. Their images are then repeated until an epoch is as long as with the pseudo-labels."""

    @model_validator(mode="after")
    def _some_to_learn_from(self) -> Self:
        if self.alone and self.number == 0:
            raise ValueError("alone: there is nothing to learn from; set number to some boxes, or to all")
        return self


class LabelSettings(Settings):
    """Which boxes the detector learns from."""

    source: Literal["pseudo", "true"] = "pseudo"
    """pseudo: stage 2's. true: the radiologists' boxes of the same images, where the data has any (`gt_train` of stage
    2): the supervised detector that the pseudo-labelled one is compared with."""
    min_pseudo_score: Share = 0.0
    """Pseudo-boxes below this score become ignore regions: nothing is learned from them, nor from their place."""
    parents_boxes: bool = True
    """A pseudo-box of a finding is also one of its parent (a consolidation is a lung opacity) where the readers of the
    tune split draw both."""
    normals_per_positive: Annotated[float, Field(ge=0)] = 0.5
    """Images without any box for each image with one (as far as there are enough)."""
    true_boxes: TrueBoxSettings = TrueBoxSettings()

    @field_validator("source", mode="before")
    @classmethod
    def _yaml_takes_true_for_yes(cls, value: object) -> object:
        return "true" if value is True else value


class NoiseSettings(Settings):
    """How the detector is told of the labels' doubts. With everything off the loss is ultralytics' own."""

    box_weights: bool = True
    """A box counts in the loss in proportion to its confidence (calibrated in stage 2), on average 1."""
    ignore_regions: bool = True
    """Inside an ignore region a class is not penalised. Off: images that have nothing else are left out."""
    image_labels: bool = True
    """A class that the image's label denies is background everywhere; the next two settings say what holds for one that
    it does not mention and for one that it affirms; a doubted one without a region is masked. Off: whatever has no box
    is background."""
    unmentioned_weight: Share = 0.0
    """How much a class that the label does not mention counts as background: 0 masks it, 1 takes it for absent."""
    affirmed_weight: Share = 0.5
    """How much the rest of an image counts as background of a class that the label affirms: pseudo-boxes miss
    things, so what lies outside of them may be one. 1 takes the boxes for complete."""
    class_balance: Share = 0.0
    """Power p of class weights (1 / number of boxes)^p in the classification loss, on average 1; 0 is off."""
    shared_boxes_iou: Annotated[float, Field(ge=0.5, le=1)] | None = 0.8
    """Boxes of two findings (a parent and its child, say) that overlap at least so much share their anchors; without it
    YOLO gives each anchor to one box and calls the other finding absent there. null: off."""


class RoundSettings(Settings):
    """Teacher and student: the detector relabels its training images together with the CAM teacher and learns again."""

    max_rounds: Annotated[int, Field(ge=0)] = 0
    """Rounds of relabelling after the first training; 0: train once."""
    num_epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of a later round; null: as many as the first."""
    start_from: Literal["student", "beginning"] = "student"
    """A later round goes on from the last student's averaged weights, or from what the first round started from."""
    teacher_weight: Annotated[float, Field(gt=0)] = 1.0
    student_weight: Annotated[float, Field(gt=0)] = 2.0
    """Say of the CAM teacher's and the student's boxes when they are fused."""
    fusion_iou: Share = 0.3
    """Boxes of one finding that overlap by more than this become one by weighted boxes fusion."""
    min_confidence: Share = 0.3
    """A fused box below this calibrated confidence becomes an ignore region, but the best of a finding that the label
    affirms stays a box."""
    min_gain: Annotated[float, Field(ge=0)] = 0.0
    """Rounds end when AP40 on the tune split grows by no more than this over the best round so far."""
