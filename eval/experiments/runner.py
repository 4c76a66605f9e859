"""The one experiment runner: make the missing runs of a plan, score them, compare the variants of each group.

The stage's trainings are command lines of the plan. How a finished run is scored is a function that the stage gives.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cxr.config import UserError
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.jobs import failures_of, place_jobs
from cxr.runs.run_folder import Run, open_run
from eval.experiments.comparison import Figures, Row, Trainings, compare, correct, mean_of
from eval.experiments.plan import Plan, Runs, name_of
from eval.experiments.settings import ExperimentSettings
from eval.stats.bootstrap import Estimate

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Trained:
    """The finished runs of an experiment.

    runs: group -> variant -> run folders by seed, without variants of which a run failed. failed: group -> variant ->
    problem. problems: one line per failed run. synthetic: some run was trained on phantom images.
    """

    runs: Mapping[str, Mapping[str, Runs]]
    failed: Mapping[str, Mapping[str, str]]
    problems: tuple[str, ...]
    num_jobs: int
    synthetic: bool

    def refuse_failures(self, stage: str) -> None:
        """Raise a UserError where runs failed. The same command then tries them again."""
        if self.problems:
            first = f"{stage}: {len(self.problems)} of {self.num_jobs} runs failed; the tables lack them"
            raise UserError([first, *self.problems])


@dataclass(frozen=True)
class Group:
    """Variants that are compared with one of them.

    rows: the reference first. figures: of each row, the mean of its trainings. failed: variant -> problem. cases: the
    test data in words. others: name -> estimates of what is listed next to the variants and not compared with the
    reference.
    """

    reference: str
    rows: tuple[Row, ...]
    figures: Mapping[str, Figures]
    failed: Mapping[str, str]
    cases: str
    others: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)


Score = Callable[[Mapping[str, Runs]], tuple[Mapping[str, Trainings], str]]
"""Runs of a group's variants -> their figures, all on the same cases, and these cases in words."""


def train(run: Run, settings: ExperimentSettings, plan: Plan, *, cluster: ClusterSettings | None = None) -> Trained:
    """Make the missing runs of `plan`; UserError if every run failed or a process of this machine was killed.

    cluster: where to train; None for this machine.
    """
    log.info("%d runs for %d variants", len(plan.jobs), len(plan.runs))
    starter, num = place_jobs(
        cluster, run.dir / "cluster", num_parallel=settings.num_parallel, num_threads=settings.num_threads
    )
    with run.phase("runs"):
        failures = failures_of(plan.jobs, num_parallel=num, starter=starter)
    problems = [f"{job.name}: {failures[job.out]}" for job in plan.jobs if job.out in failures]
    if len(problems) == len(plan.jobs):
        raise UserError([f"{run.stage}: every run failed", *problems])
    finished: dict[str, dict[str, Runs]] = {}
    failed: dict[str, dict[str, str]] = {}
    for (group, variant), runs in plan.runs.items():
        reasons = dict.fromkeys(failures[folder] for folder in runs.values() if folder in failures)
        if reasons:
            failed.setdefault(group, {})[variant] = "; ".join(reasons)
        else:
            finished.setdefault(group, {})[variant] = runs
    made = [open_run(job.out) for job in plan.jobs if job.out not in failures]
    synthetic = any(bool(one.manifest.get("synthetic")) for one in made)
    return Trained(finished, failed, tuple(problems), len(plan.jobs), synthetic)


def compare_groups(trained: Trained, references: Mapping[str, str], score: Score) -> dict[str, Group]:
    """Compare the variants of each group with its reference; Holm's correction counts the comparisons of all groups.

    references: group -> the variant that the others are compared with.
    """
    rows: dict[str, list[Row]] = {}
    scored: dict[str, Mapping[str, Trainings]] = {}
    cases: dict[str, str] = {}
    for group, reference in references.items():
        runs = trained.runs.get(group, {})
        ordered = {name: runs[name] for name in dict.fromkeys([reference, *runs]) if name in runs}
        scored[group], cases[group] = score(ordered) if ordered else ({}, "")
        rows[group] = compare(scored[group], scored[group].get(reference))
    return {
        group: Group(
            references[group],
            tuple(corrected),
            {name: mean_of(list(own.values())) for name, own in scored[group].items()},
            trained.failed.get(group, {}),
            cases[group],
        )
        for group, corrected in correct(rows).items()
    }


def relative_runs(plan: Plan, folder: Path) -> dict[str, dict[str, str]]:
    """GROUP/VARIANT -> seed (or "all") -> run folder relative to `folder`, as manifests name them."""
    return {
        name_of(place): {
            "all" if seed is None else str(seed): path.relative_to(folder).as_posix() for seed, path in runs.items()
        }
        for place, runs in plan.runs.items()
    }
