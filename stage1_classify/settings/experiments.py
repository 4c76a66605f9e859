"""Settings of sweep.py and ablate.py: many trainings of stage 1 from one settings file."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from cxr.config import Settings
from cxr.runs.jobs import Name, Overrides
from eval.stats.significance import needed_resamples
from stage1_classify.settings.classifier import Combine, Flip


class Range(Settings):
    low: float
    high: float
    log: bool = False
    """Even in the logarithm."""
    integer: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("log needs a low above 0")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("integer needs whole numbers as low and high")
        return self


class Choices(Settings):
    choices: list[Any] = Field(min_length=1)


def _kind_of_domain(value: Any) -> str:
    return "choices" if isinstance(value, Choices) or "choices" in _keys(value) else "range"


def _kind_of_variant(value: Any) -> str:
    return "ensemble" if isinstance(value, EnsembleVariant) or "ensemble" in _keys(value) else "overrides"


def _keys(value: Any) -> Collection[Any]:
    return value if isinstance(value, dict) else ()


Domain = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind_of_domain)
]


class SweepSettings(Settings):
    base: Path
    """A stage 1 settings file; each trial is a training with some of its settings changed."""
    overrides: Overrides = {}
    """Changes to `base` in all trials."""
    space: dict[str, Domain] = Field(min_length=1)
    """What is searched: ``{low, high, log, integer}`` or ``{choices: [...]}`` by dotted key."""
    num_trials: PositiveInt
    metric: Literal["val/auroc", "val/f1", "val/auprc", "val/loss"] = "val/auroc"
    """Of the epoch that the trial keeps, from its ``metrics.jsonl``. Figures of the test split choose nothing."""
    direction: Literal["maximize", "minimize"] = "maximize"
    backend: Literal["optuna", "wandb"] = "optuna"
    """optuna: here, without a network, by a tree-structured Parzen estimator (Bergstra et al. 2011). wandb: chosen by
    the server of Weights & Biases (Bayesian), which needs an account and learns settings and figures."""
    sampler_seed: int = Field(0, ge=0, lt=2**32)
    """optuna: other values, another sequence of trials."""

    @model_validator(mode="after")
    def _direction_fits(self) -> "SweepSettings":
        if (self.metric == "val/loss") != (self.direction == "minimize"):
            raise ValueError("direction: val/loss is to be minimized, every other figure to be maximized")
        return self


class EnsembleVariant(Settings):
    """Runs of other variants as one classifier."""

    ensemble: list[str] = Field(min_length=1)
    """Variants of the same group, or of another as GROUP/VARIANT: those runs that have the same seed. "all seeds of
    VARIANT": every run of it."""
    combine: Combine = "mean"
    flips: list[Flip] = Field(["none"], min_length=1)
    """Test-time augmentation; a single member with both forms is that member with it."""


Variant = Annotated[
    Annotated[Overrides, Tag("overrides")] | Annotated[EnsembleVariant, Tag("ensemble")],
    Discriminator(_kind_of_variant),
]


class GroupSettings(Settings):
    """Variants that are compared with one of them."""

    reference: str
    variants: dict[Name, Variant] = Field(min_length=2)
    """Changes to the base, or an ensemble. The value ``"{run:VARIANT}"`` stands for the run folder of another variant
    with the same seed, which is then trained before."""

    @model_validator(mode="after")
    def _reference_is_there(self) -> "GroupSettings":
        if self.reference not in self.variants:
            raise ValueError(f"reference {self.reference!r} is none of {', '.join(self.variants)}")
        return self


class AblationSettings(Settings):
    base: Path
    """A stage 1 settings file."""
    overrides: Overrides = {}
    """Changes to `base` in all variants."""
    seeds: list[int] = Field([0], min_length=1)
    """Each variant is trained once with each."""
    jobs: PositiveInt = 1
    """Trainings at a time, on shares of the processor's cores."""
    num_resamples: PositiveInt = 4000
    """Of the bootstrap. A p-value is never below 2 / (num_resamples + 1), and the correction for many comparisons
    multiplies it."""
    groups: dict[Name, GroupSettings] = Field(min_length=1)

    @property
    def num_comparisons(self) -> int:
        """Every variant with its group's reference."""
        return sum(len(group.variants) - 1 for group in self.groups.values())

    @model_validator(mode="after")
    def _seeds_differ(self) -> "AblationSettings":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: each must be given once")
        return self

    @model_validator(mode="after")
    def _correction_leaves_room(self) -> "AblationSettings":
        needed = needed_resamples(self.num_comparisons)
        if self.num_resamples < needed:
            raise ValueError(
                f"num_resamples: {self.num_comparisons} comparisons need {needed} or more, or nothing could stay real "
                "after the correction for their number"
            )
        return self
