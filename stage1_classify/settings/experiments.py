"""Settings of sweep.py and ablate.py, which train stage 1 many times from one settings file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from cxr.config import Settings
from cxr.runs.jobs import Name, Overrides
from eval.experiments.settings import ExperimentSettings, check_reference
from stage1_classify.settings.classifier import Combine, Flip


class Range(Settings):
    """Numbers to search, from `low` to `high`."""

    low: float
    high: float
    log: bool = False
    """Sample evenly in the logarithm."""
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
    """Values to choose among."""

    choices: list[Any] = Field(min_length=1)


def _kind_of_domain(value: Any) -> str:
    return "choices" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "range"


def _kind_of_variant(value: Any) -> str:
    is_ensemble = isinstance(value, EnsembleVariant) or (isinstance(value, dict) and "ensemble" in value)
    return "ensemble" if is_ensemble else "overrides"


Domain = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind_of_domain)]


class SweepSettings(Settings):
    """A search of settings of stage 1 by a validation metric."""

    base: Path
    """Settings file of stage 1. Each trial is a training with some of its settings changed."""
    overrides: Overrides = {}
    """Changes to `base` in all trials."""
    space: dict[str, Domain] = Field(min_length=1)
    """Where to search: dotted key -> ``{low, high, log, integer}`` or ``{choices: [...]}``."""
    num_trials: PositiveInt
    num_parallel: PositiveInt = 1
    """Workers that run trials at the same time. Several search less well than one: they learn of each other's trials
    only when these have ended."""
    metric: Literal["val/auroc", "val/f1", "val/auprc", "val/loss"] = "val/auroc"
    """Validation metric of the epoch that the trial keeps, from its ``metrics.jsonl``. The test split is never used to
    choose."""
    direction: Literal["maximize", "minimize"] = "maximize"
    backend: Literal["optuna", "wandb"] = "optuna"
    """optuna: a tree-structured Parzen estimator (Bergstra et al. 2011), offline. wandb: Bayesian search by the server
    of Weights & Biases, which needs an account and receives settings and metrics."""
    sampler_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of optuna's sequence of trials."""

    @model_validator(mode="after")
    def _one_agent(self) -> "SweepSettings":
        if self.backend == "wandb" and self.num_parallel > 1:
            raise ValueError("num_parallel: got more than 1 with wandb, whose agent runs one trial at a time; set 1")
        return self

    @model_validator(mode="after")
    def _direction_fits(self) -> "SweepSettings":
        if (self.metric == "val/loss") != (self.direction == "minimize"):
            raise ValueError("direction: val/loss must be minimized, every other metric maximized")
        return self


class EnsembleVariant(Settings):
    """Runs of other variants combined into one classifier."""

    ensemble: list[str] = Field(min_length=1)
    """Names of variants of the same group, or GROUP/VARIANT of another: their runs with the same seed. "all seeds of
    VARIANT" means all its runs."""
    combine: Combine = "mean"
    flips: list[Flip] = Field(["none"], min_length=1)
    """Test-time augmentation. A single member with several flips is that member with test-time augmentation."""


Variant = Annotated[
    Annotated[Overrides, Tag("overrides")] | Annotated[EnsembleVariant, Tag("ensemble")],
    Discriminator(_kind_of_variant),
]


class GroupSettings(Settings):
    """Variants that are compared with one of them."""

    reference: str
    """The variant that the others are compared with."""
    variants: dict[Name, Variant] = Field(min_length=2)
    """Changes to the base, or an ensemble. The value ``"{run:VARIANT}"`` stands for the run folder of another variant
    with the same seed, which is trained first."""

    @model_validator(mode="after")
    def _reference_is_known(self) -> "GroupSettings":
        check_reference(self.reference, self.variants)
        return self


class AblationSettings(ExperimentSettings):
    """Groups of variants of stage 1."""

    renamed: ClassVar[Mapping[str, str]] = {"jobs": "num_parallel"}

    groups: dict[Name, GroupSettings] = Field(min_length=1)
    num_resamples: PositiveInt = 4000
    """As in `ExperimentSettings`; higher, because an ablation compares many variants."""

    @property
    def num_comparisons(self) -> int:
        return sum(len(group.variants) - 1 for group in self.groups.values())
