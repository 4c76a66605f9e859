"""The work of sweep.py: trials one after another, each a training in its own process and run folder.

``trials/0007.json`` says what trial 7 tries and how it ended. It is written atomically before and after the training,
and is all that a later call needs to resume.
"""

import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cxr.config import UserError
from cxr.progress import track
from cxr.runs.job_start import Job
from cxr.runs.jobs import run_command, run_jobs
from cxr.runs.run_folder import FinishedRun, Run, atomic_write_text, open_run
from cxr.tracking import create_sweep, read_log, run_sweep_agent
from stage1_classify.experiments.sweep_report import Result, trials_table, write_best_settings, write_sweep_report
from stage1_classify.experiments.sweep_space import Trial, suggest, wandb_sweep_config
from stage1_classify.settings.experiments import SweepSettings

TRAINING = Path(__file__).parents[1] / "run.py"

log = logging.getLogger("raybox")


class Sweep:
    """One sweep, with its settings and run folder."""

    def __init__(self, run: Run, settings: SweepSettings) -> None:
        self.run, self.settings = run, settings
        self._folder = run.dir / "trials"

    def __call__(self) -> None:
        """Make the missing trials, choose the best one, and finish the run.

        Raises:
            UserError: no trial finished, or one was killed.
        """
        with self.run.phase("trials"):
            if self.settings.backend == "wandb":
                self._ask_wandb()
            else:
                self._ask_optuna()
        self._finish(self._trials())

    def _ask_optuna(self) -> None:
        for number in track(range(self.settings.num_trials), "trials"):
            trials = self._trials()
            if number == len(trials):
                trials.append(Trial(number, suggest(self.settings, trials)))
            if trials[number].state == "running":
                self._make(trials[number])

    def _ask_wandb(self) -> None:
        """Ask the server for the missing trials. A trial that was interrupted is finished first, without the server."""
        for trial in self._trials():
            if trial.state == "running":
                self._make(trial)
        known = self.run.dir / "wandb_sweep.txt"
        if not known.is_file():
            atomic_write_text(known, create_sweep(wandb_sweep_config(self.settings)))
        missing = self.settings.num_trials - len(self._trials())
        if missing > 0:
            run_sweep_agent(known.read_text(encoding="utf-8"), self._try, folder=self.run.dir, count=missing)
        interrupted = [trial.number for trial in self._trials() if trial.state == "running"]
        if interrupted:
            raise UserError(f"trial {interrupted[0]} was interrupted; give the same command again to resume")

    def _try(self, values: dict[str, Any]) -> dict[str, float] | None:
        """Train what the server of wandb chose; returns its metric, or None where it failed."""
        trial = self._make(Trial(len(self._trials()), values))
        return None if trial.figure is None else {self.settings.metric: trial.figure}

    def _make(self, trial: Trial) -> Trial:
        """Train, or resume a training, and save how it ended."""
        self._save(trial)
        changes = self.settings.overrides | trial.values
        if self.settings.backend == "wandb":
            changes |= {"tracking": "off"}  # the trial's wandb run is the agent's
        out = self._folder / f"{trial.number:04d}"
        job = Job(f"trial {trial.number}", out, run_command(TRAINING, self.settings.base, changes))
        (outcome,) = run_jobs([job])
        figure = None if outcome.problem else kept_figure(open_run(out, stage="stage1"), self.settings.metric)
        if figure is not None and math.isfinite(figure):
            trial = replace(trial, state="finished", figure=figure)
        else:
            problem = outcome.problem or f"{self.settings.metric} does not exist in the epoch that the trial keeps"
            trial = replace(trial, state="failed", problem=problem)
        self._save(trial)
        shown = f"{self.settings.metric} {trial.figure:.4f}" if trial.figure is not None else trial.problem
        log.info("trial %d of %d: %s  %s", trial.number + 1, self.settings.num_trials, shown, trial.values)
        return trial

    def _save(self, trial: Trial) -> None:
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{trial.number:04d}.json"
        atomic_write_text(path, json.dumps(asdict(trial), indent=1) + "\n")

    def _trials(self) -> list[Trial]:
        """All trials so far, by number."""
        records = sorted(self._folder.glob("[0-9]*.json"))
        return [Trial(**json.loads(path.read_text(encoding="utf-8"))) for path in records]

    def _finish(self, trials: list[Trial]) -> None:
        finished = [trial for trial in trials if trial.figure is not None]
        if not finished:
            reasons = dict.fromkeys(trial.problem for trial in trials)
            raise UserError([f"sweep: all {len(trials)} trials failed", *(f"  {reason}" for reason in reasons)])
        sign = 1 if self.settings.direction == "maximize" else -1
        best = max(finished, key=lambda trial: sign * (trial.figure or 0.0))
        result = Result(trials, best, open_run(self._folder / f"{best.number:04d}", stage="stage1"))
        outputs = {"trials": self.run.dir / "trials.csv", "best": self.run.dir / "best.yaml"}
        trials_table(self.settings, trials).to_csv(outputs["trials"], index=False)
        write_best_settings(outputs["best"], self.settings, result)
        outputs["report"] = write_sweep_report(self.run.dir, self.settings, result)
        counts = {"trials": len(trials), "trials/failed": len(trials) - len(finished)}
        self.run.finish(
            result.run.metrics | {self.settings.metric: best.figure} | counts,
            outputs,
            best_trial=best.number,
            chosen_by=self.settings.metric,
            findings=result.run.manifest["findings"],
            synthetic=result.run.manifest["synthetic"],
        )


def kept_figure(run: FinishedRun, metric: str) -> float | None:
    """A validation metric of the epoch whose weights the run keeps; None where that epoch has no such metric."""
    kept = run.manifest["best_epoch"]
    (entry,) = [entry for entry in read_log(run.dir) if entry["step"] == kept]
    return entry.get(metric)
