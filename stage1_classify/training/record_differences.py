"""Compare two recorded trainings step by step: which part differs first, and by how much."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cxr.metrics import Metrics
from stage1_classify.training.recording import Record, Step, largest_difference


@dataclass(frozen=True)
class Limits:
    """Largest tolerated relative differences.

    The limit of updates is wide, because optimizers such as Adam turn the rounding of a gradient near 0 into a step of
    the size of the learning rate. An update that is made twice or not at all differs by 1.
    """

    loss: float
    gradients: float
    statistics: float
    updates: float = 0.5


LIMITS = {"fp32": Limits(1e-5, 1e-2, 1e-4), "bf16": Limits(1e-2, 0.3, 1e-2), "fp16": Limits(1e-2, 0.3, 1e-2)}
"""By `TrainSettings.precision`."""

_PARTS = {"gradients": Record.gradients, "statistics": Record.statistics, "updates": Record.updates}


@dataclass(frozen=True)
class Difference:
    """moment: a step, or a validation. value: relative; 1 where things differ that must be equal. about: in words."""

    moment: str
    part: str
    value: float
    limit: float
    about: str = ""

    @property
    def is_tolerated(self) -> bool:
        """False for NaN too."""
        return self.value <= self.limit


def differences(one: Record, many: Record, limits: Limits) -> Iterator[Difference]:
    """Every comparison, in the order in which the trainings made them.

    Args:
        one: of a single process. many: of several processes with the same global batch.
    """
    yield from _of_figures("before training", one, many, limits)
    for epoch in sorted({step.name.split(" step ")[0] for step in one.steps + many.steps}):
        yield _of_coverage(epoch, one, many)
        for ours, theirs in zip(_steps(one, epoch), _steps(many, epoch), strict=False):
            name = ours.name
            yield _of_cases(name, ours.cases, theirs.cases)
            yield Difference(name, "loss", _relative(theirs.loss, ours.loss), limits.loss)
            for part, tensors in _PARTS.items():
                value, worst = largest_difference(tensors(one, ours), tensors(many, theirs))
                yield Difference(name, part, value, getattr(limits, part), f"most in {worst}" if worst else "")
        yield from _of_figures(f"after {epoch}", one, many, limits)


def _steps(record: Record, epoch: str) -> list[Step]:
    return [step for step in record.steps if step.name.startswith(f"{epoch} step ")]


def _of_coverage(epoch: str, one: Record, many: Record) -> Difference:
    """Each case of the epoch as often as with one process."""
    counts = [Counter(case for step in _steps(record, epoch) for case in step.cases) for record in (one, many)]
    missing, extra = counts[0] - counts[1], counts[1] - counts[0]
    about = f"{missing.total()} cases missing, {extra.total()} too many" if missing or extra else ""
    return Difference(epoch, "cases of the epoch", float(bool(about)), 0.0, about)


def _of_cases(name: str, ours: list[int], theirs: list[int]) -> Difference:
    about = "" if ours == theirs else f"{theirs[:8]}..., expected {ours[:8]}..."
    return Difference(name, "cases", float(bool(about)), 0.0, about)


def _of_figures(moment: str, one: Record, many: Record, limits: Limits) -> Iterator[Difference]:
    """Before training the weights are equal, so all validation results are too. Later the loss is compared alone: a
    rounding may exchange two ranks."""
    ours, theirs = one.figures[moment], many.figures[moment]
    is_first = moment == "before training"
    for name in ours if is_first else ("val/loss",):
        yield Difference(moment, name, _relative(_value(theirs, name), _value(ours, name)), limits.loss)


def _value(figures: Metrics, name: str) -> float:
    value = figures[name]
    return 0.0 if value is None else value


def _relative(value: float, expected: float) -> float:
    return abs(value - expected) / abs(expected) if value != expected else 0.0
