"""Settings of study.py: many trainings of stage 3 from one settings file, compared with one of them."""

from pathlib import Path

from pydantic import Field, PositiveInt, field_validator, model_validator

from cxr.config import Settings
from cxr.runs.jobs import Name, Overrides
from eval.stats.significance import needed_resamples

TEACHER, PRIOR, SUPERVISED = "teacher", "prior_", "supervised"


class CurveSettings(Settings):
    """A chart of AP40 against what variants differ in."""

    label: str
    """Of the x axis, for instance "true boxes"."""
    lines: dict[str, dict[Name, int | float | str]] = Field(min_length=1)
    """Name of a line -> its variants, each with its place on the x axis. Places stand side by side, numbers in their
    order and words such as "all" after them."""


class StudySettings(Settings):
    """Variants of stage 3 on one stage 2 run, which comes by --from."""

    base: Path
    """A stage 3 settings file."""
    overrides: Overrides = {}
    """Changes to `base` in all variants."""
    variants: dict[Name, Overrides] = Field(min_length=2)
    """Changes to the base. One named "supervised" is what shares are told of."""
    reference: str
    """The variant that the others are compared with."""
    seeds: list[int] = Field([0], min_length=1)
    """Each variant is trained once with each."""
    beside: dict[Name, Path] = {}
    """Name -> a finished stage 3 run, judged beside on the same test images and not compared; one named "supervised" is
    what shares are told of."""
    num_parallel: PositiveInt = 1
    """Trainings at a time."""
    num_threads: PositiveInt | None = None
    """Of each training; null: an even share of the processor, or what OMP_NUM_THREADS says."""
    num_resamples: PositiveInt = 2000
    """Of the bootstrap. A p-value is never below 2 / (num_resamples + 1), and the correction for many comparisons
    multiplies it."""
    curve: CurveSettings | None = None

    @field_validator("variants", "beside")
    @classmethod
    def _names_are_free(cls, value: dict[str, object]) -> dict[str, object]:
        taken = [name for name in value if name == TEACHER or name.startswith(PRIOR) or "_minus_" in name]
        if taken:
            raise ValueError(f"{', '.join(taken)}: such names have other figures; give another name")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("each seed must be given once")
        return value

    @model_validator(mode="after")
    def _names_are_known(self) -> "StudySettings":
        if self.reference not in self.variants:
            raise ValueError(f"reference {self.reference!r} is none of {', '.join(self.variants)}")
        twice = sorted(self.variants.keys() & self.beside.keys())
        if twice:
            raise ValueError(f"beside: {', '.join(twice)} is a variant already; give another name")
        placed = [name for line in (self.curve.lines.values() if self.curve else []) for name in line]
        unknown = [name for name in placed if name not in self.variants]
        if unknown:
            raise ValueError(f"curve: {', '.join(unknown)} is none of {', '.join(self.variants)}")
        return self

    @model_validator(mode="after")
    def _correction_leaves_room(self) -> "StudySettings":
        num = len(self.variants) - 1
        if self.num_resamples < needed_resamples(num):
            raise ValueError(
                f"num_resamples: {num} comparisons need {needed_resamples(num)} or more, or nothing could stay real "
                "after the correction for their number"
            )
        return self
