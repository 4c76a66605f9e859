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
    """How the classifier computes maps. Its probabilities are always those of stage 1."""

    scales: list[PositiveFloat] = Field([1.0], min_length=1)
    """Maps are averaged over these sizes of the image, relative to the input of stage 1."""
    output_stride: Literal[8, 16] | None = None
    """Use dilation instead of stride in the last stages of the trained backbone: finer maps."""


class Stage2Settings(Settings):
    data: AnyData
    """The data set with the radiologists' boxes."""
    split: SplitSettings
    """Must give the parts tune and test. Nothing is chosen on the test part."""
    findings: list[str] | None = Field(None, min_length=1)
    """Findings to score. None: those of the classifier that have boxes in the tune part."""
    methods: list[str] = Field(min_length=1)
    """CAM methods to compare (see docs/stage2.md)."""
    choose: Literal["one", "per_finding"] = "one"
    """The method for the pseudo-labels. one: the best on the tune split, mean over findings. per_finding: the best for
    each finding."""
    teacher: TeacherSettings = TeacherSettings()
    cam: CamOptions = CamOptions()
    readers: ReaderSettings = ReaderSettings()
    boxes: BoxSettings = BoxSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    num_resamples: PositiveInt = 1000
    """Bootstrap resamples for the 95 % intervals."""
    max_timing_images: PositiveInt = 16
    """Images for measuring time and memory of each method."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of everything random in a run."""

    @field_validator("methods")
    @classmethod
    def _lists_each_once(cls, methods: list[str]) -> list[str]:
        twice = sorted({name for name in methods if methods.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} listed more than once; list each method once")
        return methods
