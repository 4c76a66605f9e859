"""The work of study.py: train every variant on one stage 2 run, then compare the detectors in one table."""

from pathlib import Path

from cxr.runs.run_folder import FinishedRun, Run, open_run
from eval.experiments.plan import Plan
from eval.experiments.runner import compare_groups, relative_runs, train
from stage3_detect.experiments.comparison import compare_detectors, experiment_metrics
from stage3_detect.experiments.report import Result, write_experiment_report
from stage3_detect.experiments.scores import detection_scorer
from stage3_detect.settings.experiments import DetectorExperimentSettings


def run_experiment(
    run: Run, settings: DetectorExperimentSettings, plan: Plan, *, stage2: FinishedRun
) -> None:
    """Make the missing runs, compare the variants, and finish.

    Raises:
        UserError: some runs failed. The tables of the others are written all the same, and the same command tries the
            failed runs again.
    """
    scorer = detection_scorer(stage2, num_resamples=settings.num_resamples)
    # before hours of training, because a run to compare with may be of other images
    others = scorer.score_stage2()
    others |= {name: scorer.score_run(path) for name, path in settings.compare_with.items()}
    trained = train(run, settings, plan)
    with run.phase("comparison"):
        groups = compare_groups(trained, {"": settings.reference}, scorer)
        comparison = compare_detectors(groups[""], others, findings=tuple(scorer.truth.findings))
    synthetic = bool(scorer.truth.info.get("synthetic", False))
    folders = relative_runs(plan, run.dir)
    trainings = {
        (variant, seed): (folders[variant][str(seed)], _minutes(folder))
        for variant, runs in trained.runs.get("", {}).items()
        for seed, folder in runs.items()
    }
    teacher = str(stage2.manifest["best_method"])
    outputs = write_experiment_report(run.dir, settings, Result(comparison, trainings, teacher, synthetic))
    trained.refuse_failures(run.stage)
    run.finish(
        experiment_metrics(comparison),
        outputs,
        synthetic=synthetic,
        findings=list(comparison.findings),
        reference=settings.reference,
        teacher_method=teacher,
        runs=folders,
    )


def _minutes(folder: Path) -> float:
    """Duration of the call that finished the run."""
    return float(sum(phase["seconds"] for phase in open_run(folder).manifest["phases"].values())) / 60
