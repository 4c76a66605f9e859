"""Settings of stage 2."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from cxr.config import Settings
from cxr.datasets import AnyData
from cxr.readers import ReaderSettings
from cxr.splits import SplitSettings
from stage2_pseudolabel.settings.boxes import BoxSettings
from stage2_pseudolabel.settings.cam import CamOptions
from stage2_pseudolabel.settings.pseudolabels import PseudoLabelSettings


class TeacherSettings(Settings):
    """How the classifier looks at a picture when it makes maps; the probabilities are always those of stage 1."""

    scales: list[PositiveFloat] = Field([1.0], min_length=1)
    """Sizes of the picture, in terms of stage 1's input, whose maps are averaged; [1, 1.5] also looks finer."""
    output_stride: Literal[8, 16] | None = None
    """The backbone's last stages with dilation instead of stride, with the trained weights: finer maps."""


class Stage2Settings(Settings):
    data: AnyData
    """The data set with the readers' boxes."""
    split: SplitSettings
    """Must give a tune and a test part; nothing is chosen on the test part."""
    findings: list[str] | None = Field(None, min_length=1)
    """Findings to score; by default those that the classifier knows and the tune part has boxes of."""
    methods: list[str] = Field(min_length=1)
    choose: Literal["one", "per_finding"] = "one"
    """The method that makes the pseudo-boxes: the best on the tune split in the mean, or the best of each finding."""
    teacher: TeacherSettings = TeacherSettings()
    cam: CamOptions = CamOptions()
    readers: ReaderSettings = ReaderSettings()
    boxes: BoxSettings = BoxSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    num_resamples: PositiveInt = 1000
    """Bootstrap resamples behind the 95 % intervals."""
    max_timing_images: PositiveInt = 16
    """Images on which time and memory of each method are measured, one method at a time."""
    seed: int = Field(0, ge=0, lt=2**32)

    @field_validator("methods")
    @classmethod
    def _lists_each_once(cls, methods: list[str]) -> list[str]:
        twice = sorted({name for name in methods if methods.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} listed more than once; list each method once")
        return methods
