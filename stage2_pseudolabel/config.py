"""Settings of stage 2."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from cxr.config import Settings
from cxr.datasets import AnyData
from cxr.splits import SplitSettings
from stage2_pseudolabel.cam.options import CamOptions

Share = Annotated[float, Field(ge=0, le=1)]


class ReaderSettings(Settings):
    """How several readers' boxes become one ground truth (see cxr.boxes.fuse_readers)."""

    iou: float = Field(0.4, ge=0, le=1)
    """Two readers' boxes are one finding from this overlap on."""
    min_votes: PositiveInt = 1
    """Boxes marked by fewer readers are dropped. Data without readers (consensus) passes unchanged."""


class BoxSettings(Settings):
    """From maps to boxes: every combination below is tried on the tune split, a finding at a time."""

    rules: list[Literal["relative", "absolute", "bayes"]] = Field(
        ["relative", "absolute", "bayes"], min_length=1
    )
    """relative: components above shares of the map's own maximum. absolute: above quantiles of the finding's map
    values over the tune split, so that a weak map gives no box. bayes: the tune split's boxes as candidates, weighed by
    the map inside them (bayes_rule.py)."""
    relative_thresholds: list[Share] = [0.2, 0.35, 0.5, 0.7]
    absolute_quantiles: list[Share] = [0.8, 0.9, 0.96]
    bayes_betas: list[Annotated[float, Field(ge=0, le=100)]] = [0.0, 1.0, 2.0, 4.0, 8.0]
    max_candidates: PositiveInt = 200
    """Candidates of the Bayes rule a finding."""
    max_boxes: list[PositiveInt] = Field([1, 2], min_length=1)
    """Boxes an image and finding, the strongest first."""
    min_area: float = Field(0.002, ge=0, lt=1)
    """Smaller components, as a share of the network's input, are dropped."""
    upsample: PositiveInt = 8
    """Maps are enlarged bilinearly by this factor before a threshold, so that edges fall between cells."""

    @model_validator(mode="after")
    def _has_candidates(self) -> "BoxSettings":
        lists = {
            "relative": self.relative_thresholds,
            "absolute": self.absolute_quantiles,
            "bayes": self.bayes_betas,
        }
        empty = [name for name in self.rules if not lists[name]]
        if empty:
            raise ValueError(
                f"the rule {empty[0]!r} has no values to try; list some or take it out of `rules`"
            )
        return self


class PseudoLabelSettings(Settings):
    """Which boxes of the training images are exported."""

    min_probability: float = Field(0.0, ge=0, le=1)
    """A finding that the label affirms but the classifier puts below this gets no box; the image is left out of the
    export, named and counted, since it would be a false normal."""
    max_images: int | None = None


class Stage2Settings(Settings):
    data: AnyData
    """The data set with the readers' boxes."""
    split: SplitSettings
    """Must give a tune and a test part; nothing is chosen on the test part."""
    findings: list[str] | None = Field(None, min_length=1)
    """Findings to score; by default those that the classifier knows and the tune part has boxes of."""
    methods: list[str] = Field(min_length=1)
    cam: CamOptions = CamOptions()
    readers: ReaderSettings = ReaderSettings()
    boxes: BoxSettings = BoxSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    num_resamples: PositiveInt = 1000
    """Bootstrap resamples behind the 95 % intervals."""
    max_timing_images: PositiveInt = 16
    """Images on which time and memory of each method are measured, one method at a time."""
    seed: int = Field(0, ge=0, lt=2**32)
