"""The work of study.py: every training in a process and a folder of its own, then one table."""

import logging
from collections.abc import Mapping
from pathlib import Path

from cxr.config import UserError
from cxr.runs.jobs import failures_of, threads_of
from cxr.runs.run_folder import FinishedRun, Run, open_run
from eval.experiments.variants import Figures
from stage3_detect.experiments.comparison import Comparison, compare_variants, study_metrics
from stage3_detect.experiments.plan import Plan
from stage3_detect.experiments.report import Result, RunFacts, write_study_report
from stage3_detect.experiments.scored_runs import Judge, open_judge
from stage3_detect.settings.experiments import StudySettings

log = logging.getLogger("raybox")


class Study:
    """Settings, run folder and plan of one study."""

    def __init__(self, run: Run, settings: StudySettings, plan: Plan) -> None:
        self.run, self.settings, self.plan = run, settings, plan

    def __call__(self, stage2: FinishedRun) -> None:
        """Make the runs that are missing, compare, and finish.

        Raises:
            UserError: some runs failed. The tables of the others are there all the same, and the same command tries
                the failed ones again.
        """
        judge = open_judge(stage2, num_resamples=self.settings.num_resamples)
        # before hours of training: what is beside must fit too
        others = judge.of_stage2() | {name: judge.of_run(path) for name, path in self.settings.beside.items()}
        with self.run.phase("runs"):
            failures = self._make_runs()
        problems = [f"{job.name}: {failures[job.out]}" for job in self.plan.jobs if job.out in failures]
        if len(problems) == len(self.plan.jobs):
            raise UserError(["study: every run failed", *problems])
        with self.run.phase("comparison"):
            comparison = self._compare(judge, others, failures)
        result = Result(
            comparison,
            self._failed_variants(failures),
            self._run_facts(comparison),
            judge.in_words(),
            str(stage2.manifest["best_method"]),
            synthetic=bool(judge.truth.info.get("synthetic", False)),
        )
        outputs = write_study_report(self.run.dir, self.settings, result)
        if problems:
            told = f"study: {len(problems)} of {len(self.plan.jobs)} runs failed; the tables lack them"
            raise UserError([told, *problems])
        self.run.finish(study_metrics(comparison), outputs, **self._facts(result))

    def _make_runs(self) -> dict[Path, str]:
        """The failed ones."""
        jobs, num = self.plan.jobs, self.settings.num_parallel
        log.info("%d runs for %d variants", len(jobs), len(self.plan.runs))
        threads = self.settings.num_threads or threads_of(num)
        return failures_of(jobs, num_parallel=num, num_threads=threads)

    def _compare(
        self, judge: Judge, others: Mapping[str, Figures], failures: Mapping[Path, str]
    ) -> Comparison:
        """Of the variants without a failed run; a run that several share is judged once."""
        made = [job.out for job in self.plan.jobs if job.out not in failures]
        judged = {folder: judge.of_run(folder) for folder in made}
        trained = {
            variant: {seed: judged[folder] for seed, folder in runs.items()}
            for variant, runs in self.plan.runs.items()
            if all(folder in judged for folder in runs.values())
        }
        findings = tuple(judge.truth.findings)
        return compare_variants(trained, others, reference=self.settings.reference, findings=findings)

    def _failed_variants(self, failures: Mapping[Path, str]) -> dict[str, str]:
        """Variant -> what went wrong."""
        failed = {}
        for variant, runs in self.plan.runs.items():
            told = dict.fromkeys(failures[folder] for folder in runs.values() if folder in failures)
            if told:
                failed[variant] = "; ".join(told)
        return failed

    def _run_facts(self, comparison: Comparison) -> tuple[RunFacts, ...]:
        return tuple(
            RunFacts(
                variant, seed, ap40, self._folder(variant, seed), _minutes(self.plan.runs[variant][seed])
            )
            for variant, seeds in comparison.by_seed.items()
            for seed, ap40 in seeds.items()
        )

    def _folder(self, variant: str, seed: int) -> str:
        return self.plan.runs[variant][seed].relative_to(self.run.dir).as_posix()

    def _facts(self, result: Result) -> dict[str, object]:
        """What the manifest tells beside the figures."""
        return {
            "synthetic": result.synthetic,
            "findings": list(result.comparison.findings),
            "reference": self.settings.reference,
            "teacher_method": result.teacher_method,
            "runs": {
                variant: {str(seed): self._folder(variant, seed) for seed in runs}
                for variant, runs in self.plan.runs.items()
            },
        }


def _minutes(folder: Path) -> float:
    """Of the call that finished the run."""
    return float(sum(phase["seconds"] for phase in open_run(folder).manifest["phases"].values())) / 60
