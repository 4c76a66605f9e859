"""The work of study.py: train every variant on one stage 2 run, then compare the detectors in one table."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from cxr.coco import read_coco
from cxr.labels import slug
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.jobs import run_command
from cxr.runs.run_folder import FinishedRun, Run, open_run
from eval.experiments.comparison import Figures, counts, share_of, spread
from eval.experiments.plan import Plan, Planner, Training
from eval.experiments.runner import Group, compare_groups, relative_runs, train
from eval.stats.measures import interval_figures
from stage3_detect.experiments.report import Result, write_experiment_report
from stage3_detect.experiments.scores import DetectionScorer
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.settings.experiments import PRIOR, SUPERVISED, TEACHER, DetectorExperimentSettings

TRAINING = Path(__file__).parents[1] / "run.py"


def make_plan(settings: DetectorExperimentSettings, out: Path, *, stage2: Path) -> Plan:
    """The runs of `settings` on one stage 2 run, in folders ``out/runs/<variant>_s<seed>``.

    Raises:
        UserError: changes that are no settings of stage 3; all problems at once.
    """

    command = partial(run_command, TRAINING, settings.base, sources=[stage2])
    training = Training(Stage3Settings, command, "{variant}_s{seed}")
    return Planner(settings, {"": settings.variants}, training=training, out=out).plan()


def run_experiment(
    run: Run,
    settings: DetectorExperimentSettings,
    plan: Plan,
    *,
    stage2: FinishedRun,
    cluster: ClusterSettings | None = None,
) -> None:
    """Make the missing runs, compare the variants, and finish.

    Raises:
        UserError: some runs failed. The tables of the others are written all the same, and the same command tries the
            failed runs again.
    """
    scorer = DetectionScorer(stage2, read_coco(stage2.output("gt_test")), settings.num_resamples)
    # before hours of training, because a run to compare with may be of other images
    others = scorer.score_stage2()
    others |= {name: scorer.score_run(path) for name, path in settings.compare_with.items()}
    trained = train(run, settings, plan, cluster=cluster)
    with run.phase("comparison"):
        (group,) = compare_groups(trained, {"": settings.reference}, scorer).values()
        result = compare_detectors(group, others, scorer=scorer)
    folders = relative_runs(plan, run.dir)
    trainings = {}
    for variant, runs in trained.runs.get("", {}).items():
        for seed, folder in runs.items():
            phases = open_run(folder).manifest["phases"].values()
            trainings[variant, seed] = (folders[variant][str(seed)], sum(phase["seconds"] for phase in phases) / 60)
    outputs = write_experiment_report(run.dir, settings, result, trainings=trainings)
    trained.refuse_failures(run.stage)
    run.finish(
        experiment_metrics(result),
        outputs,
        synthetic=result.synthetic,
        findings=list(result.findings),
        reference=settings.reference,
        teacher_method=result.teacher_method,
        runs=folders,
    )


def compare_detectors(group: Group, others: Mapping[str, Figures], *, scorer: DetectionScorer) -> Result:
    """Compare the variants with `others`: the CAM teacher, the priors, and finished runs."""
    figures = {**group.figures, **others}
    compared = {name: own for name, own in figures.items() if name != TEACHER and not name.startswith(PRIOR)}
    minus_teacher = {name: own.minus(others[TEACHER])[0] for name, own in compared.items()}
    shares = {}
    if (supervised := figures.get(SUPERVISED)) is not None:
        rest = {name: own for name, own in figures.items() if name != SUPERVISED}
        shares = {name: share_of(own, supervised) for name, own in rest.items()}
    return Result(
        tuple(scorer.truth.findings),
        replace(group, others={name: own.estimates() for name, own in others.items()}),
        minus_teacher,
        shares,
        str(scorer.stage2.manifest["best_method"]),
        bool(scorer.truth.info.get("synthetic", False)),
    )


def experiment_metrics(result: Result) -> dict[str, float | None]:
    """``ap40/<variant>``, ``ap40/<variant>/<finding>``, ``ap40/<variant>/seed<seed>``, ``ap40/<variant>/seed_sd``,
    ``ap40/<variant>_minus_reference`` and ``_minus_teacher``, ``share_of_supervised/<variant>``, ``p/<variant>``,
    ``p_holm/<variant>``; the same for teacher, priors and runs to compare with, as far as it exists; and counts."""
    rows = result.group.rows
    found: dict[str, float | None] = {}
    values = {row.variant: row.values for row in rows} | dict(result.group.others)
    for name, own in values.items():
        found |= interval_figures(f"ap40/{name}", own[0].value, own[0])
        for finding, value in zip(result.findings, own[1:], strict=True):
            found |= interval_figures(f"ap40/{name}/{slug(finding)}", value.value, value)
    for row in rows:
        found |= {f"ap40/{row.variant}/seed{seed}": value for seed, value in row.by_seed.items()}
        found[f"ap40/{row.variant}/seed_sd"] = spread(row.by_seed.values())
        if row.difference is not None:
            name = f"ap40/{row.variant}_minus_reference"
            found |= interval_figures(name, row.difference.value, row.difference)
            found |= {f"p/{row.variant}": row.p, f"p_holm/{row.variant}": row.p_holm}
    for name, gap in result.minus_teacher.items():
        found |= interval_figures(f"ap40/{name}_minus_{TEACHER}", gap.value, gap)
    for name, share in result.shares.items():
        found |= interval_figures(f"share_of_supervised/{name}", share.value, share)
    return found | counts(rows)
