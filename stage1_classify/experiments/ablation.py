"""The work of ablate.py: train every variant, then write one table per group."""

import logging
from pathlib import Path

import yaml

from cxr.config import load_config
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.jobs import override
from cxr.runs.run_folder import Run, atomic_write_text
from cxr.tracking import read_log
from eval.experiments.comparison import counts
from eval.experiments.curves import curve_chart
from eval.experiments.plan import Plan
from eval.experiments.report import (
    Groups,
    bar_chart,
    csv_table,
    group_table,
    how_to_read,
    verdict_sentences,
    write_pages,
)
from eval.experiments.runner import Trained, compare_groups, relative_runs, train
from eval.report.blocks import Block, Table, read_report
from eval.report.format import Cell, estimate_text, gap_text
from eval.report.text_tables import print_tables
from eval.stats.measures import interval_figures
from stage1_classify.experiments.ablation_plan import ENSEMBLE_CONFIG
from stage1_classify.experiments.ablation_scores import METRICS, PredictionScorer
from stage1_classify.settings.classifier import EnsembleSettings, Stage1Settings
from stage1_classify.settings.experiments import AblationSettings

log = logging.getLogger("raybox")

AUROC = "val/auroc"

FIGURES = "AUROC and AUPRC are means over the findings on the test split, and over the seeds where there are several."


def run_ablation(run: Run, settings: AblationSettings, plan: Plan, *, cluster: ClusterSettings | None = None) -> None:
    """Make the missing runs, compare the variants, and finish.

    Raises:
        UserError: some runs failed. The tables of the others are written all the same, and the same command tries the
            failed runs again.
    """
    base = load_config(Stage1Settings, settings.base, [override(*item) for item in settings.overrides.items()])
    ensemble = EnsembleSettings.model_validate({"operating_point": base.operating_point}).model_dump(mode="json")
    atomic_write_text(run.dir / ENSEMBLE_CONFIG, yaml.safe_dump(ensemble, sort_keys=False))
    trained = train(run, settings, plan, cluster=cluster)
    references = {group: content.reference for group, content in settings.groups.items()}
    scorer = PredictionScorer(settings.num_resamples, base.train.min_positives, base.seed)
    with run.phase("comparison"):
        groups = compare_groups(trained, references, scorer)
    outputs = write_ablation_report(run.dir, settings, groups, trained)
    trained.refuse_failures(run.stage)
    run.finish(
        ablation_metrics(groups),
        outputs,
        synthetic=trained.synthetic,
        references=references,
        runs=relative_runs(plan, run.dir),
    )


def ablation_metrics(groups: Groups) -> dict[str, float | None]:
    """``<group>/<variant>/auroc``, ``auprc``, ``auroc_minus_reference``, ``auprc_minus_reference`` with ``/low`` and
    ``/high``, ``p`` and ``p_holm``; and the counts of comparisons."""
    found: dict[str, float | None] = {}
    for group, one in groups.items():
        for row in one.rows:
            name = f"{group}/{row.variant}"
            for metric, value in zip(METRICS, row.values, strict=True):
                found |= interval_figures(f"{name}/{metric}", value.value, value)
            if row.differences:
                for metric, gap in zip(METRICS, row.differences, strict=True):
                    found |= interval_figures(f"{name}/{metric}_minus_reference", gap.value, gap)
                found |= {f"{name}/p": row.p, f"{name}/p_holm": row.p_holm}
    return found | counts(row for one in groups.values() for row in one.rows)


def write_ablation_report(
    run_dir: Path, settings: AblationSettings, groups: Groups, trained: Trained
) -> dict[str, Path]:
    """Write ``ablation.md``, ``ablation.csv`` and ``report.html``; returns the files by name."""
    blocks: list[Block] = []
    for name, group in groups.items():
        gaps = {row.variant: row.differences[1] for row in group.rows if row.differences}
        further: dict[str, dict[str, Cell]] = {
            "AUPRC [95 %]": {row.variant: estimate_text(row.values[1]) for row in group.rows},
            "AUPRC difference": {name: gap_text(gap) for name, gap in gaps.items()},
        }
        blocks.append(group_table(group, name, metric="AUROC", further=further))
        if group.rows:
            path = run_dir / "pictures" / f"{name}.png"
            blocks.append(bar_chart(group, path, f"AUROC: {name}", label="mean AUROC on the test split"))
            blocks += _curves(trained, name, run_dir / "pictures" / f"{name}_curves.png")
    table = run_dir / "ablation.csv"
    csv_table(groups, METRICS).to_csv(table, index=False)
    pages = write_pages(
        run_dir / "ablation.md",
        title="Stage 1: ablation",
        verdict=verdict_sentences(groups, settings),
        blocks=[*blocks, how_to_read(settings, FIGURES)],
        synthetic=trained.synthetic,
    )
    return pages | {"table": table}


def _curves(trained: Trained, group: str, path: Path) -> list[Block]:
    """Validation AUROC by epoch of the group's trainings, the seeds of a variant as one curve; ensembles have none."""
    runs = {variant: list(by_seed.values()) for variant, by_seed in trained.runs.get(group, {}).items()}
    trainings = {name: folders for name, folders in runs.items() if all(map(_has_auroc, folders))}
    if not trainings:
        return []
    return [curve_chart(trainings, AUROC, path, title=f"Validation AUROC by epoch: {group}")]


def _has_auroc(run: Path) -> bool:
    return any(entry.get(AUROC) is not None for entry in read_log(run))


def print_ablation(folder: Path) -> None:
    """Print all tables of a finished ablation."""
    report = read_report(folder)
    print_tables([block for block in report.blocks if isinstance(block, Table)] if report else [])
    log.info("finished: %s  (report: %s)", folder, folder / "report.html")
