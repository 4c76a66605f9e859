"""The work of sweep.py: trials, each a training in its own process and run folder, by one or several workers."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr.config import UserError, load_config
from cxr.progress import track
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.job_start import POLL_S, Job
from cxr.runs.jobs import failures_of, place_jobs, run_command, run_jobs
from cxr.runs.run_folder import FinishedRun, Run, atomic_write_text, open_run, start_run
from cxr.tracking import create_sweep, read_log, run_sweep_agent
from stage1_classify.experiments.sweep_report import Result, trials_table, write_best_settings, write_sweep_report
from stage1_classify.experiments.sweep_space import wandb_sweep_config
from stage1_classify.experiments.sweep_trials import Trial, Trials
from stage1_classify.settings.experiments import SweepSettings

TRAINING = Path(__file__).parents[1] / "run.py"
SCRIPT = Path(__file__).parents[1] / "sweep.py"

log = logging.getLogger("raybox")


class Sweep:
    """One sweep, with its settings and run folder. cluster: where its workers run; None for this machine."""

    def __init__(self, run: Run, settings: SweepSettings, *, cluster: ClusterSettings | None = None) -> None:
        self.run, self.settings, self._cluster = run, settings, cluster
        self.trials = Trials(run.dir / "trials", settings)

    def __call__(self) -> None:
        """Make the missing trials, choose the best one, and finish the run.

        Raises:
            UserError: no trial finished, one was killed, or workers ended before all trials were made.
        """
        with self.run.phase("trials"):
            if self.settings.backend == "wandb":
                self._ask_wandb()
            elif self._cluster is None and self.settings.num_parallel == 1:
                made = make_trials(self.trials, self.settings, wait=True)
                for _ in track(made, "trials", total=self.settings.num_trials - self._num_ended()):
                    pass
            else:
                self._start_workers()
        self._finish(self.trials.all())

    def _num_ended(self) -> int:
        return sum(trial.state != "running" for trial in self.trials.all())

    def _start_workers(self) -> None:
        folder, missing = self.run.dir / "workers", self.settings.num_trials - self._num_ended()
        for finished in folder.glob("*/manifest.json"):  # of an earlier call, whose other workers were interrupted
            finished.unlink()
        starter, num_parallel = place_jobs(
            self._cluster, self.run.dir / "cluster", num_parallel=self.settings.num_parallel
        )
        names = [f"{number:02d}" for number in range(1, min(num_parallel, missing) + 1)]
        jobs = [Job(f"worker {name}", folder / name, self._command(name), adds_out=False) for name in names]
        failures = failures_of(jobs, num_parallel=num_parallel, starter=starter)
        if missing := self.settings.num_trials - self._num_ended():
            problems = [f"{job.name}: {failures[job.out]} (log: {job.log_file})" for job in jobs if job.out in failures]
            raise UserError([*problems, f"{missing} trials are not made; run the same command again"])

    def _command(self, worker: str) -> tuple[str, ...]:
        return (str(SCRIPT), str(self.run.dir / "config.yaml"), "--out", str(self.run.dir), "--worker", worker)

    def _ask_wandb(self) -> None:
        """Ask the server for the missing trials. A trial that was interrupted is finished first, without the server."""
        while (interrupted := self.trials.take_interrupted()) is not None:
            make_trial(interrupted, self.trials, self.settings)
        known = self.run.dir / "wandb_sweep.txt"
        if not known.is_file():
            atomic_write_text(known, create_sweep(wandb_sweep_config(self.settings)))
        missing = self.settings.num_trials - len(self.trials.all())
        if missing > 0:
            run_sweep_agent(known.read_text(encoding="utf-8"), self._try, folder=self.run.dir, count=missing)
        running = [trial.number for trial in self.trials.all() if trial.state == "running"]
        if running:
            raise UserError(f"trial {running[0]} was interrupted; run the same command again to resume")

    def _try(self, values: dict[str, Any]) -> dict[str, float] | None:
        """Train what the server of wandb chose; returns its metric, or None where it failed."""
        trial = make_trial(self.trials.add(values), self.trials, self.settings)
        return None if trial.figure is None else {self.settings.metric: trial.figure}

    def _finish(self, trials: list[Trial]) -> None:
        finished = [trial for trial in trials if trial.figure is not None]
        if not finished:
            reasons = dict.fromkeys(trial.problem for trial in trials)
            raise UserError([f"sweep: all {len(trials)} trials failed", *(f"  {reason}" for reason in reasons)])
        sign = 1 if self.settings.direction == "maximize" else -1
        best = max(finished, key=lambda trial: sign * (trial.figure or 0.0))
        result = Result(trials, best, open_run(folder_of(self.trials, best), stage="stage1"), self.trials.importance())
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


def make_trials(trials: Trials, settings: SweepSettings, *, wait: bool) -> Iterator[Trial]:
    """Make trials until none is left that nobody works on; yields each when it has ended.

    wait: also wait for the trials of other processes, and resume those that are interrupted.
    """
    while True:
        if (trial := trials.take()) is not None:
            yield make_trial(trial, trials, settings)
        elif wait and any(trial.state == "running" for trial in trials.all()):
            time.sleep(POLL_S)
        else:
            return


def make_trial(trial: Trial, trials: Trials, settings: SweepSettings) -> Trial:
    """Train, or resume a training, and record how it ended."""
    changes = settings.overrides | trial.values
    if settings.backend == "wandb":
        changes |= {"tracking": "off"}  # the trial's wandb run is the agent's
    out = folder_of(trials, trial)
    (outcome,) = run_jobs([Job(f"trial {trial.number}", out, run_command(TRAINING, settings.base, changes))])
    figure = None if outcome.problem else kept_figure(open_run(out, stage="stage1"), settings.metric)
    if figure is not None and math.isfinite(figure):
        trial = replace(trial, state="finished", figure=figure)
    else:
        problem = outcome.problem or f"{settings.metric} does not exist in the epoch that the trial keeps"
        trial = replace(trial, state="failed", problem=problem)
    trials.end(trial)
    shown = f"{settings.metric} {trial.figure:.4f}" if trial.figure is not None else trial.problem
    log.info("trial %d of %d: %s  %s", trial.number + 1, settings.num_trials, shown, trial.values)
    return trial


def folder_of(trials: Trials, trial: Trial) -> Path:
    """Run folder of a trial."""
    return trials.folder / f"{trial.number:04d}"


def work(sweep: Path, settings: SweepSettings, name: str) -> Path:
    """As the worker `name`, make trials of the sweep that another call has begun in the folder `sweep`, until none is
    left to take. Returns the worker's run folder.

    Raises:
        UserError: there is no such sweep, it has other settings, or another worker has this name.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError(f"--worker {name}: expected a name for a folder, such as the machine's")
    begun = sweep / "config.yaml"
    if not begun.is_file():
        raise UserError(f"--out {sweep}: holds no sweep; begin it without --worker, then start workers")
    if load_config(SweepSettings, begun) != settings:
        raise UserError(f"--out {sweep}: its sweep has other settings; give {begun} as CONFIG")
    run = start_run(sweep / "workers" / name, stage="sweep_worker", settings=settings, inputs={"base": settings.base})
    if run.state != "finished":
        with run.phase("trials"):
            made = [trial.number for trial in make_trials(Trials(sweep / "trials", settings), settings, wait=False)]
        run.finish({"trials": len(made)}, {}, made=made)
    return run.dir


def kept_figure(run: FinishedRun, metric: str) -> float | None:
    """A validation metric of the epoch whose weights the run keeps; None where that epoch has no such metric."""
    kept = run.manifest["best_epoch"]
    entries = [entry for entry in read_log(run.dir) if entry["step"] == kept]
    if not entries:
        raise UserError(f"{run.dir / 'metrics.jsonl'}: has no step {kept}; remove that folder to train it again")
    return entries[0].get(metric)
