"""Files of a sweep: a table of its trials, the best settings, a report."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from cxr.runs.run_folder import FinishedRun, atomic_write_text
from eval.report.blocks import Block, Figure, Table, write_report
from eval.report.charts import plot_curves
from eval.report.format import Cell, with_interval
from stage1_classify.experiments.sweep_trials import Trial
from stage1_classify.settings.experiments import SweepSettings


class Result(NamedTuple):
    """All trials by number, the best one, its run, and the importance of each setting."""

    trials: Sequence[Trial]
    best: Trial
    run: FinishedRun
    importance: Mapping[str, float]


def trials_table(settings: SweepSettings, trials: Sequence[Trial]) -> pd.DataFrame:
    """One row per trial: trial, state, the metric, each searched setting, problem."""
    rows = [
        [trial.number, trial.state, trial.figure, *(trial.values[key] for key in settings.space), trial.problem]
        for trial in trials
    ]
    return pd.DataFrame(rows, columns=["trial", "state", settings.metric, *settings.space, "problem"])


def write_best_settings(path: Path, settings: SweepSettings, result: Result) -> None:
    """Write all settings of the best trial as a settings file of stage 1."""
    best = result.best
    header = (
        f"# The best of {len(result.trials)} trials by {settings.metric} ({best.figure:.4f}): trial {best.number}.\n"
        f"# Base: {settings.base}\n"
        f"# Command: python stage1_classify/run.py {path}\n\n"
    )
    atomic_write_text(path, header + yaml.safe_dump(dict(result.run.settings), sort_keys=False))


def write_sweep_report(run_dir: Path, settings: SweepSettings, result: Result) -> Path:
    """Write ``report.html``; returns its path."""
    blocks: list[Block] = [_ranking(settings, result)]
    if shares := result.importance:
        note = "Share of each setting in the differences between trials. With few trials this is only a hint."
        rows: list[list[Cell]] = [[key, share] for key, share in shares.items()]
        blocks.append(Table("Which settings mattered", ["setting", "importance"], rows, note))
    _plot_history(run_dir / "pictures" / "history.png", settings, result.trials)
    blocks.append(Figure("Metric of each trial", "pictures/history.png"))
    lead, synthetic = _lead(settings, result), bool(result.run.manifest["synthetic"])
    return write_report(run_dir, title="Stage 1: sweep", lead=lead, blocks=blocks, synthetic=synthetic)


def _lead(settings: SweepSettings, result: Result) -> str:
    metrics, best = result.run.metrics, result.best
    chosen = ", ".join(f"{key} {_shown(best.values[key])}" for key in settings.space)
    test = with_interval(*(metrics.get(f"auroc/mean{end}") for end in ("", "/low", "/high")))
    return (
        f"Trial {best.number} is the best of {len(result.trials)} by {settings.metric}, {best.figure:.3f}: "
        f"{chosen}.\n\n"
        f"On the test split, which was not used to choose, its mean AUROC is {test}. The validation figure of the best "
        "of many trials is too optimistic; the test figure is not."
    )


def _ranking(settings: SweepSettings, result: Result) -> Table:
    """Finished trials, the best one first, then failed ones with their problems."""
    sign = 1 if settings.direction == "minimize" else -1
    finished = [trial for trial in result.trials if trial.figure is not None]
    failed = [trial for trial in result.trials if trial.figure is None]
    rows: list[list[Cell]] = [
        [trial.number, trial.figure, *(_shown(trial.values[key]) for key in settings.space), trial.problem]
        for trial in [*sorted(finished, key=lambda trial: sign * (trial.figure or 0.0)), *failed]
    ]
    columns = ["trial", settings.metric, *settings.space, "problem"]
    if not failed:
        return Table("Trials", columns[:-1], [row[:-1] for row in rows], highlight=0)
    return Table("Trials", columns, rows, f"{len(failed)} of {len(result.trials)} trials failed.", highlight=0)


def _plot_history(path: Path, settings: SweepSettings, trials: Sequence[Trial]) -> None:
    better = max if settings.direction == "maximize" else min
    finished = [trial for trial in trials if trial.figure is not None]
    numbers = [float(trial.number) for trial in finished]
    figures = [float(trial.figure or 0.0) for trial in finished]
    so_far = list(accumulate(figures, better))
    curves = {"trial": (numbers, figures), "best so far": (numbers, so_far)}
    plot_curves(path, curves, labels=("trial", settings.metric))


def _shown(value: object) -> Cell:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
