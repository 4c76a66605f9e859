"""Command lines of stage 1's trainings and ensembles, as an ablation or a sweep starts them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.runs.jobs import run_command

TRAINING, ENSEMBLE = (Path(__file__).parents[1] / name for name in ("run.py", "ensemble.py"))


def training_command(base: Path, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """A training with the settings file `base`, changed by dotted key -> value."""
    return run_command(TRAINING, base, overrides)


def ensemble_command(config: Path, members: Sequence[Path], overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """An ensemble of finished runs."""
    return run_command(ENSEMBLE, config, overrides, sources=members)
