"""The search space of a sweep: checks, Optuna's suggestions, and the same space for the server of wandb."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from cxr.config import UserError, load_config
from cxr.runs.jobs import override
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.experiments import Choices, Domain, SweepSettings

_ENOUGH_FOR_IMPORTANCE = 10

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Trial:
    """One choice of settings. figure: validation metric of a finished trial. problem: of a failed trial."""

    number: int
    values: dict[str, Any]
    state: Literal["running", "finished", "failed"] = "running"
    figure: float | None = None
    problem: str = ""


def check_space(settings: SweepSettings) -> None:
    """Raise a UserError where values of the space are no valid settings of stage 1, alone or together."""
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
    """All choices; of a range its ends and, unless it holds integers, a number between them."""
    if isinstance(domain, Choices):
        return domain.choices
    if domain.integer:
        return [int(domain.low), int(domain.high)]
    return [domain.low, domain.high, domain.low + 0.618 * (domain.high - domain.low)]


def suggest(settings: SweepSettings, earlier: Sequence[Trial]) -> dict[str, Any]:
    """Values of the next trial by a tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24).

    They depend only on the settings and the earlier trials, so an interrupted sweep resumes with the same trials. The
    first ten trials are random.
    """
    distributions = {key: _distribution(domain) for key, domain in settings.space.items()}
    chosen = _study(settings, earlier).ask(distributions).params
    return {
        key: yaml.safe_load(chosen[key]) if isinstance(domain, Choices) else chosen[key]
        for key, domain in settings.space.items()
    }


def importance(settings: SweepSettings, trials: Sequence[Trial]) -> dict[str, float]:
    """Importance of each setting for the metric, highest first; shares that sum to 1 (PED-ANOVA, Watanabe et al. 2023,
    arXiv:2304.10255). Empty for a single setting, for fewer than 10 trials, and where all trials are equal."""
    figures = [trial.figure for trial in trials if trial.state == "finished"]
    if len(settings.space) < 2 or len(figures) < _ENOUGH_FOR_IMPORTANCE or len(set(figures)) < 2:
        return {}
    found = optuna.importance.get_param_importances(
        _study(settings, trials), evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    return {key: float(share) for key, share in found.items() if math.isfinite(share)}


def wandb_sweep_config(settings: SweepSettings) -> dict[str, Any]:
    """The same search as a configuration of wandb (https://docs.wandb.ai/models/sweeps/sweep-config-keys)."""
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
    """YAML of a choice, because Optuna accepts no lists as choices."""
    return override("", choice).removeprefix("=")


def _study(settings: SweepSettings, trials: Sequence[Trial]) -> optuna.Study:
    """An Optuna study with `trials`. It is built anew for each suggestion."""
    seed = zlib.crc32(f"{settings.sampler_seed} {len(trials)}".encode())
    study = optuna.create_study(direction=settings.direction, sampler=optuna.samplers.TPESampler(seed=seed))
    distributions = {key: _distribution(domain) for key, domain in settings.space.items()}
    for trial in trials:
        params = {key: _known(trial.values[key], domain) for key, domain in settings.space.items()}
        state = TrialState.COMPLETE if trial.state == "finished" else TrialState.FAIL
        study.add_trial(create_trial(params=params, distributions=distributions, value=trial.figure, state=state))
    return study


def _known(value: Any, domain: Domain) -> Any:
    """A trial's value for Optuna. A value from wandb may lie just outside its range after rounding."""
    return _as_text(value) if isinstance(domain, Choices) else min(max(value, domain.low), domain.high)
