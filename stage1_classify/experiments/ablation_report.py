"""The tables of an ablation as Markdown, CSV, figures and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr.runs.run_folder import atomic_write_text
from eval.experiments.variants import Row, signed, signed_interval, verdicts_in_words
from eval.report.blocks import Block, Table, Text, write_report
from eval.report.format import Cell, format_cell, with_interval
from eval.report.text_tables import markdown
from eval.stats.bootstrap import Difference
from eval.stats.measures import interval_figures
from stage1_classify.experiments.ablation_table import METRICS
from stage1_classify.settings.experiments import AblationSettings

COLUMNS = (
    "variant",
    "AUROC [95 %]",
    "difference to the reference",
    "by seed",
    "p by Holm",
    "AUPRC [95 %]",
    "difference of AUPRC",
)

NO_DIFFERENCE = Difference(float("nan"), float("nan"), float("nan"))

Rows = Mapping[str, Sequence[Row]]
"""Group -> its variants, the reference first."""


@dataclass(frozen=True)
class Result:
    """tables: what could be compared. judged_on: group -> its cases, in words. failed: group -> variant -> problem.
    synthetic: figures of drawings."""

    tables: Rows
    judged_on: Mapping[str, str]
    failed: Mapping[str, Mapping[str, str]]
    synthetic: bool


def write_tables(run_dir: Path, settings: AblationSettings, result: Result) -> dict[str, Path]:
    """Write ``ablation.md``, ``ablation.csv`` and ``report.html``; returns the files by name."""
    tables = [group_table(group, settings, result) for group in settings.groups]
    lead = summary(settings, result)
    outputs = {"markdown": run_dir / "ablation.md", "table": run_dir / "ablation.csv"}
    origin = "**Figures of drawn phantom images, not of patients.**\n\n" if result.synthetic else ""
    page = "\n\n".join(map(markdown, tables))
    atomic_write_text(outputs["markdown"], f"# Ablation\n\n{origin}{lead}\n\n{page}\n")
    flat(result.tables).to_csv(outputs["table"], index=False)
    blocks: list[Block] = [*tables, Text("How to read this", _reading(settings))]
    outputs["report"] = write_report(
        run_dir, title="Stage 1: ablation", lead=lead, blocks=blocks, synthetic=result.synthetic
    )
    return outputs


def figures(tables: Rows) -> dict[str, float | None]:
    """``<group>/<variant>/auroc``, ``auprc``, ``auroc_minus_reference``, ``auprc_minus_reference`` with ``/low`` and
    ``/high``, ``p`` and ``p_holm``; and the counts ``comparisons``, ``real`` and ``real_after_holm``."""
    found: dict[str, float | None] = {}
    for group, rows in tables.items():
        for row in rows:
            name = f"{group}/{row.variant}"
            for metric, value in zip(METRICS, row.values, strict=True):
                found |= interval_figures(f"{name}/{metric}", value.value, value)
            if row.gap is not None:
                for metric, gap in zip(METRICS, row.gaps, strict=True):
                    found |= interval_figures(f"{name}/{metric}_minus_reference", gap.value, gap)
                found |= {f"{name}/p": row.p, f"{name}/p_holm": row.p_holm}
    compared = [row for rows in tables.values() for row in rows if row.gap is not None]
    counts = {"comparisons": len(compared), "real": sum(row.is_real for row in compared)}
    return found | counts | {"real_after_holm": sum(row.survives_holm for row in compared)}


def summary(settings: AblationSettings, result: Result) -> str:
    """The main result in a few sentences."""
    rows = {f"{group}/{row.variant}": row for group, rows in result.tables.items() for row in rows}
    num = sum(row.gap is not None for row in rows.values())
    text = f"Mean AUROC on the test split, {num} comparisons, seeds {', '.join(map(str, settings.seeds))}. "
    text += verdicts_in_words(rows, num_seeds=len(settings.seeds))
    failed = [f"{group}/{variant}" for group, variants in result.failed.items() for variant in variants]
    return text + (f" Failed, and not compared: {', '.join(failed)}." if failed else "")


def group_table(group: str, settings: AblationSettings, result: Result) -> Table:
    """The reference, the other variants in the order of the settings, then those that failed."""
    rows: list[list[Cell]] = [_cells(row) for row in result.tables[group]]
    for variant, problem in result.failed.get(group, {}).items():
        rows.append([variant, None, f"failed: {problem}", None, None, None, None])
    # with one seed that column would repeat the difference
    shown = [index for index, name in enumerate(COLUMNS) if name != "by seed" or len(settings.seeds) > 1]
    rows = [[row[index] for index in shown] for row in rows]
    title = f"{group} (reference: {settings.groups[group].reference})"
    return Table(title, [COLUMNS[index] for index in shown], rows, result.judged_on.get(group, ""))


def flat(tables: Rows) -> pd.DataFrame:
    """One row a variant, numbers in full."""
    records = []
    for group, rows in tables.items():
        for row in rows:
            record: dict[str, object] = {"group": group, "variant": row.variant, "verdict": row.verdict}
            gaps = row.gaps or (NO_DIFFERENCE,) * len(METRICS)
            for metric, value in zip(METRICS, row.values, strict=True):
                record |= interval_figures(metric, value.value, value)
            for metric, gap in zip(METRICS, gaps, strict=True):
                record |= interval_figures(f"{metric}_gap", gap.value, gap)
            record["auroc_gap/by_seed"] = " ".join(f"{one:.6f}" for one in row.by_seed)
            survives = row.survives_holm if row.gap is not None else None
            records.append(record | {"p": row.p, "p_holm": row.p_holm, "survives_holm": survives})
    return pd.DataFrame(records)


def _cells(row: Row) -> list[Cell]:
    auroc, auprc = (with_interval(one.value, one.low, one.high) for one in row.values)
    if row.gap is None:
        return [row.variant, auroc, row.verdict, None, None, auprc, None]
    holm = format_cell(row.p_holm)
    if row.is_clear:
        holm += ", stays" if row.survives_holm else ", not shown"
    by_seed = ", ".join(map(signed, row.by_seed))
    return [row.variant, auroc, row.verdict, by_seed, holm, auprc, signed_interval(row.gaps[1])]


def _reading(settings: AblationSettings) -> str:
    return (
        "AUROC and AUPRC are means over the findings on the test split, and over the seeds where there are several. "
        f"Intervals hold 95 % of {settings.num_resamples} bootstrap draws of patients; differences are taken on the "
        "same cases in the same draws.\n\n"
        "A difference is real where its interval leaves zero out and several seeds differ in the same direction. "
        "The interval tells of the choice of test patients, not of training again: how far another training moves a "
        "figure shows only in the column by seed, or in a group whose variants differ in nothing but the seed.\n\n"
        "Among many comparisons some intervals leave zero out by luck. Holm's correction takes the p-values of all "
        "comparisons in this report together and keeps the chance of a single false one below 5 %. Differences of "
        "AUPRC are given without a verdict and are not counted."
    )
