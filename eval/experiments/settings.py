"""Settings that all experiments share: the base file, the changes that make the variants, seeds and the bootstrap."""

from abc import abstractmethod
from collections.abc import Collection
from pathlib import Path

from pydantic import Field, PositiveInt, field_validator, model_validator

from cxr.config import Settings
from cxr.runs.jobs import Overrides
from eval.stats.paired import needed_resamples


class ExperimentSettings(Settings):
    """Variants of a training, each trained with every seed. A subclass adds the variants."""

    base: Path
    """Settings file of the stage."""
    overrides: Overrides = {}
    """Changes to `base` in all variants."""
    seeds: list[int] = Field([0], min_length=1)
    """Each variant is trained once per seed."""
    num_parallel: PositiveInt = 1
    """Trainings at the same time."""
    num_threads: PositiveInt | None = None
    """Threads of each training. null: an equal share of the processor's cores, or OMP_NUM_THREADS where it is set."""
    num_resamples: PositiveInt = 2000
    """Bootstrap resamples. A p-value is never below 2 / (num_resamples + 1), and the correction for multiple
    comparisons multiplies it."""

    @property
    @abstractmethod
    def num_comparisons(self) -> int:
        """How many variants are compared with a reference."""

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("each seed must be given once")
        return value

    @model_validator(mode="after")
    def _resamples_suffice(self) -> "ExperimentSettings":
        needed = needed_resamples(self.num_comparisons)
        if self.num_resamples < needed:
            raise ValueError(
                f"num_resamples: {self.num_comparisons} comparisons need {needed} or more; with fewer, no difference "
                "can stay significant after the correction for multiple comparisons"
            )
        return self


def check_reference(reference: str, variants: Collection[str]) -> None:
    """Raise a ValueError where `reference` is not one of the variants."""
    if reference not in variants:
        raise ValueError(f"reference {reference!r} is none of {', '.join(variants)}")
