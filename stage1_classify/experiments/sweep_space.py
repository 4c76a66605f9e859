"""The search space of a sweep: checks, and the space for Optuna and for the server of wandb."""

from collections.abc import Mapping
from typing import Any

import optuna
import yaml

from cxr.config import UserError, load_config
from cxr.runs.jobs import override
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.experiments import Choices, Domain, SweepSettings


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


def suggest(trial: optuna.Trial, settings: SweepSettings) -> dict[str, Any]:
    """Settings of a trial, by Optuna's sampler."""
    return {key: _suggest(trial, key, domain) for key, domain in settings.space.items()}


def _suggest(trial: optuna.Trial, key: str, domain: Domain) -> Any:
    if isinstance(domain, Choices):
        return yaml.safe_load(trial.suggest_categorical(key, [_as_text(choice) for choice in domain.choices]))
    if domain.integer:
        return trial.suggest_int(key, int(domain.low), int(domain.high), log=domain.log)
    return trial.suggest_float(key, domain.low, domain.high, log=domain.log)


def params_of(settings: SweepSettings, values: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's parameters from settings. A value from wandb may lie just outside its range after rounding."""
    return {
        key: _as_text(values[key]) if isinstance(domain, Choices) else min(max(values[key], domain.low), domain.high)
        for key, domain in settings.space.items()
    }


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


def _as_text(choice: Any) -> str:
    """YAML of a choice, because Optuna accepts no lists as choices."""
    return override("", choice).removeprefix("=")
