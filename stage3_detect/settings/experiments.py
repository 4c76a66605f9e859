"""Settings of study.py, which trains variants of stage 3 from one settings file and compares them with one of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from cxr.config import Settings
from cxr.runs.jobs import Name, Overrides
from eval.experiments.settings import ExperimentSettings, check_reference

TEACHER, PRIOR, SUPERVISED = "teacher", "prior_", "supervised"


class CurveSettings(Settings):
    """A chart of AP40 against the setting in which the variants differ."""

    label: str
    """Label of the x axis, for instance "true boxes"."""
    lines: dict[str, dict[Name, int | float | str]] = Field(min_length=1)
    """Name of a line -> its variants, each with its place on the x axis. Places are evenly spaced: numbers in ascending
    order, then words such as "all"."""


class DetectorExperimentSettings(ExperimentSettings):
    """Variants of stage 3 on one stage 2 run, which ``--from`` gives."""

    renamed: ClassVar[Mapping[str, str]] = {"beside": "compare_with"}

    variants: dict[Name, Overrides] = Field(min_length=2)
    """Changes to the base. A variant named "supervised" is the detector that shares refer to."""
    reference: str
    """The variant that the others are compared with."""
    compare_with: dict[Name, Path] = {}
    """Name -> finished stage 3 run. It is evaluated on the same test images and listed next to the variants. A run
    named "supervised" is the detector that shares refer to."""
    curve: CurveSettings | None = None

    @property
    def num_comparisons(self) -> int:
        return len(self.variants) - 1

    @field_validator("variants", "compare_with")
    @classmethod
    def _names_are_free(cls, value: dict[str, object]) -> dict[str, object]:
        taken = [name for name in value if name == TEACHER or name.startswith(PRIOR) or "_minus_" in name]
        if taken:
            raise ValueError(f"{', '.join(taken)}: other metrics have this name; give another one")
        return value

    @model_validator(mode="after")
    def _names_are_known(self) -> "DetectorExperimentSettings":
        check_reference(self.reference, self.variants)
        twice = sorted(self.variants.keys() & self.compare_with.keys())
        if twice:
            raise ValueError(f"compare_with: {', '.join(twice)} is already a variant; give another name")
        placed = [name for line in (self.curve.lines.values() if self.curve else []) for name in line]
        unknown = [name for name in placed if name not in self.variants]
        if unknown:
            raise ValueError(f"curve: {', '.join(unknown)} is none of {', '.join(self.variants)}")
        return self
