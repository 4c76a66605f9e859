"""Where a sweep searches: the space is checked, Optuna or wandb's server chooses in it."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from cxr.config import UserError, load_config
from cxr.runs.jobs import override
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.experiments import Choices, Domain, SweepSettings

ENOUGH_FOR_IMPORTANCE = 10
GOLDEN = 0.618

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Trial:
    """One choice of settings. figure: on validation, of a finished trial. problem: of a failed one."""

    number: int
    values: dict[str, Any]
    state: Literal["running", "finished", "failed"] = "running"
    figure: float | None = None
    problem: str = ""


def check_space(settings: SweepSettings) -> None:
    """Raise a UserError where values of the space are no settings of stage 1, alone or beside each other."""
    tried = {key: _samples(domain) for key, domain in settings.space.items()}
    problems: list[str] = []
    for index in range(max(map(len, tried.values()))):
        values = settings.overrides | {key: values[index % len(values)] for key, values in tried.items()}
        try:
            load_config(Stage1Settings, settings.base, [override(*item) for item in values.items()])
        except UserError as error:
            problems += [f"space: {problem}" for problem in error.problems]
    if problems:
        raise UserError(list(dict.fromkeys(problems)))


def _samples(domain: Domain) -> list[Any]:
    """Every choice; of a range both ends, and a value between them that is no whole number unless it must be one."""
    if isinstance(domain, Choices):
        return domain.choices
    if domain.integer:
        return [int(domain.low), int(domain.high)]
    return [domain.low, domain.high, domain.low + GOLDEN * (domain.high - domain.low)]


def suggest(settings: SweepSettings, earlier: Sequence[Trial]) -> dict[str, Any]:
    """Values of the next trial by a tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24).

    They depend on the settings and on the trials before alone, so an interrupted sweep goes on as if it had not been.
    The first ten trials are drawn at random.
    """
    distributions = {key: _distribution(domain) for key, domain in settings.space.items()}
    chosen = _study(settings, earlier).ask(distributions).params
    return {
        key: yaml.safe_load(chosen[key]) if isinstance(domain, Choices) else chosen[key]
        for key, domain in settings.space.items()
    }


def importance(settings: SweepSettings, trials: Sequence[Trial]) -> dict[str, float]:
    """Share of each setting in what makes a trial good, highest first (PED-ANOVA, Watanabe et al. 2023,
    arXiv:2304.10255); empty where there is one setting, or too few trials or too even ones to tell."""
    figures = [trial.figure for trial in trials if trial.state == "finished"]
    if len(settings.space) < 2 or len(figures) < ENOUGH_FOR_IMPORTANCE or len(set(figures)) < 2:
        return {}
    found = optuna.importance.get_param_importances(
        _study(settings, trials), evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    return {key: float(share) for key, share in found.items() if math.isfinite(share)}


def wandb_sweep_config(settings: SweepSettings) -> dict[str, Any]:
    """The same search in wandb's words (https://docs.wandb.ai/models/sweeps/sweep-config-keys)."""
    return {
        "method": "bayes",
        "metric": {"name": settings.metric, "goal": settings.direction},
        "run_cap": settings.num_trials,
        "parameters": {key: _wandb_parameter(domain) for key, domain in settings.space.items()},
    }


def _wandb_parameter(domain: Domain) -> dict[str, Any]:
    if isinstance(domain, Choices):
        return {"values": domain.choices}
    number = int if domain.integer else float
    ends = {"min": number(domain.low), "max": number(domain.high)}
    if domain.integer and domain.log:
        return {"distribution": "q_log_uniform_values", "q": 1, **ends}
    if domain.integer:
        return {"distribution": "int_uniform", **ends}
    return {"distribution": "log_uniform_values" if domain.log else "uniform", **ends}


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choices):
        return CategoricalDistribution([_as_text(choice) for choice in domain.choices])
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _as_text(choice: Any) -> str:
    """Optuna takes no lists as choices."""
    return override("", choice).removeprefix("=")


def _study(settings: SweepSettings, trials: Sequence[Trial]) -> optuna.Study:
    """A study that knows `trials`. It lives for one question: what lasts is the trials' own files."""
    seed = zlib.crc32(f"{settings.sampler_seed} {len(trials)}".encode())
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction=settings.direction, sampler=sampler)
    for trial in trials:
        study.add_trial(
            create_trial(
                params={key: _known(trial.values[key], domain) for key, domain in settings.space.items()},
                distributions={key: _distribution(domain) for key, domain in settings.space.items()},
                value=trial.figure,
                state=TrialState.COMPLETE if trial.state == "finished" else TrialState.FAIL,
            )
        )
    return study


def _known(value: Any, domain: Domain) -> Any:
    """A trial's value as Optuna has it; wandb's may lie outside of a range by rounding."""
    return _as_text(value) if isinstance(domain, Choices) else min(max(value, domain.low), domain.high)
