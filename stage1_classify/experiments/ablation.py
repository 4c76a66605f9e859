"""The work of ablate.py: every run in a process and a folder of its own, then one table a group."""

import logging
from collections.abc import Mapping
from pathlib import Path

import yaml

from cxr.config import UserError
from cxr.runs.jobs import failures_of, threads_of
from cxr.runs.run_folder import Run, atomic_write_text, open_run
from eval.experiments.variants import Figures, Row, compare, correct
from eval.report.blocks import Table, read_report
from eval.report.text_tables import print_tables
from stage1_classify.evaluation.predictions import read_predictions
from stage1_classify.experiments.ablation_plan import ENSEMBLE_CONFIG, Plan
from stage1_classify.experiments.ablation_report import Result, figures, write_tables
from stage1_classify.experiments.ablation_table import Cases, draw, probabilities_on, read_cases
from stage1_classify.settings.classifier import EnsembleSettings
from stage1_classify.settings.experiments import AblationSettings

log = logging.getLogger("raybox")

Failures = Mapping[Path, str]
"""Run folder -> what went wrong."""


class Ablation:
    """Settings, run folder and plan of one ablation."""

    def __init__(self, run: Run, settings: AblationSettings, plan: Plan) -> None:
        self.run, self.settings, self.plan = run, settings, plan
        self._drawn: dict[tuple[Path, tuple[str, ...]], Figures] = {}
        self._judged_on: dict[str, str] = {}

    def __call__(self) -> None:
        """Make the runs that are missing, compare, and finish.

        Raises:
            UserError: some runs failed. The tables of the others are there all the same, and the same command tries
                the failed ones again.
        """
        operating = EnsembleSettings(operating_point=self.plan.base.operating_point).model_dump(mode="json")
        atomic_write_text(self.run.dir / ENSEMBLE_CONFIG, yaml.safe_dump(operating, sort_keys=False))
        with self.run.phase("runs"):
            failures = self._make_runs()
        problems = [f"{job.name}: {failures[job.out]}" for job in self.plan.jobs if job.out in failures]
        if len(problems) == len(self.plan.jobs):
            raise UserError(["ablation: every run failed", *problems])
        with self.run.phase("comparison"):
            tables = correct({group: self._rows(group, failures) for group in self.settings.groups})
        result = Result(
            tables, self._judged_on, self._failed_variants(failures), self._is_synthetic(failures)
        )
        outputs = write_tables(self.run.dir, self.settings, result)
        if problems:
            told = f"ablation: {len(problems)} of {len(self.plan.jobs)} runs failed; the tables lack them"
            raise UserError([told, *problems])
        self.run.finish(
            figures(tables),
            outputs,
            synthetic=result.synthetic,
            references={group: content.reference for group, content in self.settings.groups.items()},
            runs={
                "/".join(place): [path.relative_to(self.run.dir).as_posix() for path in paths.values()]
                for place, paths in self.plan.runs.items()
            },
        )

    def _make_runs(self) -> dict[Path, str]:
        """The failed ones."""
        log.info("%d runs for %d variants", len(self.plan.jobs), len(self.plan.runs))
        num = self.settings.jobs
        return failures_of(self.plan.jobs, num_parallel=num, num_threads=threads_of(num))

    def _rows(self, group: str, failures: Failures) -> list[Row]:
        """The group's reference and variants, without those that have a failed run."""
        reference = self.settings.groups[group].reference
        failed = self._failed_variants(failures).get(group, {})
        names = dict.fromkeys([reference, *self.settings.groups[group].variants])
        whole = {name: self.plan.runs[group, name] for name in names if name not in failed}
        if not whole:
            return []
        first = next(iter(next(iter(whole.values())).values()))
        findings = open_run(first, stage="stage1").manifest["findings"]
        cases = read_cases(read_predictions(open_run(first).output("predictions")), findings)
        self._judged_on[group] = cases.in_words(findings, min_positives=self.plan.base.train.min_positives)
        drawn = {
            name: {seed: self._draw(path, cases, findings) for seed, path in paths.items()}
            for name, paths in whole.items()
        }
        return compare(drawn, drawn.get(reference))

    def _draw(self, path: Path, cases: Cases, findings: list[str]) -> Figures:
        """Figures of one run, computed once however many groups hold it."""
        key = (path, cases.ids)
        if key not in self._drawn:
            table = read_predictions(open_run(path, stage="stage1").output("predictions"))
            probabilities = probabilities_on(cases, table, findings, source=f"run {path}")
            self._drawn[key] = draw(
                cases,
                probabilities,
                num_resamples=self.settings.num_resamples,
                min_positives=self.plan.base.train.min_positives,
                seed=self.plan.base.seed,
            )
        return self._drawn[key]

    def _failed_variants(self, failures: Failures) -> dict[str, dict[str, str]]:
        """Group -> variant -> problem."""
        failed: dict[str, dict[str, str]] = {}
        for (group, variant), paths in self.plan.runs.items():
            problems = dict.fromkeys(failures[path] for path in paths.values() if path in failures)
            if problems:
                failed.setdefault(group, {})[variant] = "; ".join(problems)
        return failed

    def _is_synthetic(self, failures: Failures) -> bool:
        made = [job.out for job in self.plan.jobs if job.out not in failures]
        return any(open_run(path).manifest["synthetic"] for path in made)


def print_ablation(folder: Path) -> None:
    """All tables of a finished ablation."""
    report = read_report(folder)
    print_tables([block for block in report.blocks if isinstance(block, Table)] if report else [])
    log.info("finished: %s  (report: %s)", folder, folder / "report.html")
