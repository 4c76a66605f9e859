"""Settings of stage 2."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from cxr.config import Settings
from cxr.datasets import AnyData
from cxr.labels import nearest
from cxr.readers import ReaderSettings
from cxr.splits import SplitSettings
from eval.leaderboard.names import fused_name
from stage2_pseudolabel.settings.boxes import BoxSettings
from stage2_pseudolabel.settings.cam import CamOptions
from stage2_pseudolabel.settings.exported_boxes import PseudoLabelSettings


class TeacherSettings(Settings):
    """How the classifier computes maps. Its probabilities are always those of stage 1."""

    scales: list[PositiveFloat] = Field([1.0], min_length=1)
    """Maps are averaged over these sizes of the image, relative to the input of stage 1."""
    output_stride: Literal[8, 16] | None = None
    """Use dilation instead of stride in the last stages of the trained backbone: finer maps."""


class Stage2Settings(Settings):
    """Stage 2: score CAM methods on a stage 1 run (``--from``), and export pseudo-labels from the best one."""

    data: AnyData
    """The data set with the radiologists' boxes."""
    split: SplitSettings
    """Must give the parts tune and test. Nothing is chosen on the test part."""
    findings: list[str] | None = Field(None, min_length=1)
    """Findings to score. None: those of the classifier that have boxes in the tune part."""
    methods: list[str] = Field(min_length=1)
    """CAM methods to compare (see docs/stage2.md)."""
    fuse_maps: list[list[str]] = []
    """Several of `methods` as one more method: the mean of their maps, each divided by its root mean square. Its box
    rules are chosen as those of any method."""
    fuse_boxes: list[list[str]] = []
    """Several of `methods` as one more method: their boxes, each method with its own rules, by weighted boxes fusion. A
    box scores higher if more methods find it."""
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
    max_faithfulness_pairs: NonNegativeInt = 0
    """Test images with a finding on which the faithfulness of all maps is measured (deletion, insertion, ROAD); about
    30 forward passes per pair and method. 0: not measured."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of everything random in a run."""

    @field_validator("methods")
    @classmethod
    def _lists_each_once(cls, methods: list[str]) -> list[str]:
        twice = sorted({name for name in methods if methods.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} listed more than once; list each method once")
        return methods

    @model_validator(mode="after")
    def _fuses_listed_methods(self) -> "Stage2Settings":
        for key, fusions in (("fuse_maps", self.fuse_maps), ("fuse_boxes", self.fuse_boxes)):
            for place, fused in enumerate(fusions):
                if problem := self._problem_of(fused, fusions[:place]):
                    raise ValueError(f"{key}: [{', '.join(fused)}] {problem}")
        return self

    def _problem_of(self, fused: list[str], before: list[list[str]]) -> str:
        """What is wrong with the methods that are to be one; "" if nothing is."""
        for name in fused:
            if name not in self.methods:
                return f"has {name!r}, which is not in `methods`{nearest(name, self.methods)}; list it there too"
        if len(set(fused)) < len(fused):
            return "lists a method more than once; list each method once"
        if len(fused) < 2:
            return "is not several methods; list at least two"
        return "is listed twice; list it once" if set(fused) in map(set, before) else ""

    @property
    def fusions(self) -> list[str]:
        """Names of the entries of several methods."""
        maps = [fused_name("maps", fused) for fused in self.fuse_maps]
        return maps + [fused_name("boxes", fused) for fused in self.fuse_boxes]
