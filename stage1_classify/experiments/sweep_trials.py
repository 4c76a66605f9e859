"""The trials of a sweep, in Optuna's journal, which many processes on many machines share.

A process that works on a trial holds the lock of ``0007.lock``. So a trial that runs and whose lock is free was
interrupted, and the next process resumes it.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from cxr.config import UserError
from cxr.json_lines import drop_incomplete_line
from cxr.runs.lock import locked, try_lock
from stage1_classify.experiments.sweep_space import params_of, suggest
from stage1_classify.settings.experiments import SweepSettings

_ENOUGH_FOR_IMPORTANCE = 10
_VALUES, _PROBLEM = "values", "problem"

optuna.logging.set_verbosity(optuna.logging.WARNING)

State = Literal["running", "finished", "failed"]
_STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "running",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Trial:
    """One choice of settings. figure: validation metric of a finished trial. problem: of a failed trial."""

    number: int
    values: dict[str, Any]
    state: State = "running"
    figure: float | None = None
    problem: str = ""


class Trials:
    """All trials of the sweep in `folder`, seen from one process."""

    def __init__(self, folder: Path, settings: SweepSettings) -> None:
        """UserError for a journal that Optuna cannot read."""
        self.folder, self._settings = folder, settings
        self._journal = folder / "journal.log"
        self._mine: dict[int, IO[str]] = {}
        folder.mkdir(exist_ok=True)
        with self._alone():
            try:
                storage = JournalStorage(JournalFileBackend(str(self._journal)))
                self._study = optuna.create_study(
                    study_name="sweep", storage=storage, direction=settings.direction, load_if_exists=True
                )
            except (ValueError, KeyError) as error:
                raise UserError(f"sweep: {self._journal} is damaged ({error!r}); give another --out") from None

    def all(self) -> list[Trial]:
        """All trials so far, by number."""
        with self._alone():
            return [_trial_of(frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def take(self) -> Trial | None:
        """A trial to work on: one that was interrupted, or else a new one. None where others work on all that are left.

        New values come from a tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24). They depend only on
        the settings, the number of the trial and the earlier trials, of which those that still run count as bad ones.
        The first ten trials are random.
        """
        with self._alone():
            if (interrupted := self._take_interrupted()) is not None:
                return interrupted
            if len(self._study.get_trials(deepcopy=False)) >= self._settings.num_trials:
                return None
            trial = self._study.ask()
            self._claim(trial.number)
            return self._with_values(trial)

    def take_interrupted(self) -> Trial | None:
        """As `take`, but no new trial."""
        with self._alone():
            return self._take_interrupted()

    def add(self, values: dict[str, Any]) -> Trial:
        """A new trial with given values, to work on."""
        with self._alone():
            self._study.enqueue_trial(params_of(self._settings, values), user_attrs={_VALUES: values})
            trial = self._study.ask()
            self._claim(trial.number)
            suggest(trial, self._settings)
        return Trial(trial.number, values)

    def end(self, trial: Trial) -> None:
        """Record how a trial that was taken has ended."""
        with self._alone():
            if trial.problem:
                self._open(trial.number).set_user_attr(_PROBLEM, trial.problem)
            state = TrialState.FAIL if trial.figure is None else TrialState.COMPLETE
            self._study.tell(trial.number, trial.figure, state=state)
        self._mine.pop(trial.number).close()

    def importance(self) -> dict[str, float]:
        """Importance of each setting for the metric, highest first; shares that sum to 1 (PED-ANOVA, Watanabe et al.
        2023, arXiv:2304.10255). Empty for a single setting, for fewer than 10 finished trials, and where all trials are
        equal."""
        figures = [trial.figure for trial in self.all() if trial.state == "finished"]
        if len(self._settings.space) < 2 or len(figures) < _ENOUGH_FOR_IMPORTANCE or len(set(figures)) < 2:
            return {}
        found = optuna.importance.get_param_importances(
            self._study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
        return {key: float(share) for key, share in found.items() if math.isfinite(share)}

    def _take_interrupted(self) -> Trial | None:
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if frozen.number not in self._mine and self._claim(frozen.number):
                is_whole = _VALUES in frozen.user_attrs
                return _trial_of(frozen) if is_whole else self._with_values(self._open(frozen.number))
        return None

    def _with_values(self, trial: optuna.Trial) -> Trial:
        """Suggest values; those that a killed process has already recorded stay as they are."""
        seed = zlib.crc32(f"{self._settings.sampler_seed} {trial.number}".encode())
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        values = suggest(trial, self._settings)
        trial.set_user_attr(_VALUES, values)
        return Trial(trial.number, values)

    def _open(self, number: int) -> optuna.Trial:
        """A trial of the journal that can be written; Optuna has no public way by number."""
        return optuna.Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)

    def _claim(self, number: int) -> bool:
        file = try_lock(self.folder / f"{number:04d}.lock")
        if file is not None:
            self._mine[number] = file
        return file is not None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time. What a killed one has left half-written is removed, because Optuna cannot read it."""
        with locked(self.folder / "journal.lock"):
            drop_incomplete_line(self._journal)
            yield


def _trial_of(frozen: FrozenTrial) -> Trial:
    attributes = frozen.user_attrs
    figure = frozen.value if frozen.state == TrialState.COMPLETE else None
    values = attributes.get(_VALUES, {})
    return Trial(frozen.number, values, _STATES[frozen.state], figure, attributes.get(_PROBLEM, ""))
