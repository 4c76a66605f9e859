"""The report of an experiment: one table and one bar chart per group, Markdown, CSV and a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cxr.runs.run_folder import atomic_write_text
from eval.experiments.comparison import Row, spread
from eval.experiments.runner import Group
from eval.experiments.settings import ExperimentSettings
from eval.report.blocks import Block, Figure, Table, Text, Verdict, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.format import Cell, estimate_text, format_cell, gap_text, listed
from eval.report.text_tables import markdown
from eval.stats.bootstrap import Estimate
from eval.stats.measures import interval_figures

Groups = Mapping[str, Group]

NO_DIFFERENCE = Estimate(float("nan"), float("nan"), float("nan"))


def group_table(
    group: Group,
    title: str,
    *,
    metric: str,
    further: Mapping[str, Mapping[str, Cell]],
    shown: Mapping[str, str] | None = None,
) -> Table:
    """The reference, the other variants, those that failed, then what is not compared.

    metric: name of the first figure. further: column -> variant -> cell; columns without any cell are omitted.
    shown: how names of what is not compared are written.
    """
    columns = ["variant", f"{metric} [95 %]", "each seed", "difference from the reference", "p (Holm)"]
    cells: dict[str, list[Cell]] = {}
    for row in group.rows:
        cells[row.variant] = [estimate_text(row.values[0]), _seeds_cell(row), row.verdict, _holm_cell(row)]
    for variant, problem in group.failed.items():
        cells[variant] = [None, None, f"failed: {problem}", None]
    for name, values in group.others.items():
        cells[name] = [estimate_text(values[0]), None, "not compared", None]
    rows = [
        [(shown or {}).get(name, name), *own, *(column.get(name) for column in further.values())]
        for name, own in cells.items()
    ]
    columns += further
    kept = [index for index in range(len(columns)) if index < 2 or any(row[index] is not None for row in rows)]
    return Table(
        f"{title} (reference: {group.reference})",
        [columns[index] for index in kept],
        [[row[index] for index in kept] for row in rows],
        group.cases,
    )


def _seeds_cell(row: Row) -> str | None:
    """The value of each training; None of a single one, which would repeat the figure."""
    if len(row.by_seed) < 2:
        return None
    return f"{', '.join(map(format_cell, row.by_seed.values()))} (sd {format_cell(spread(row.by_seed.values()))})"


def _holm_cell(row: Row) -> str | None:
    if row.difference is None:
        return None
    end = "" if not row.is_significant else ", significant" if row.survives_holm else ", not significant"
    return f"{format_cell(row.p_holm)}{end}"


def verdict_sentences(groups: Groups, settings: ExperimentSettings) -> str:
    """How many variants differ from their reference, before and after the correction, and which variants failed."""
    rows = {"/".join(filter(None, (g, row.variant))): row for g, one in groups.items() for row in one.rows}
    compared = {name: row for name, row in rows.items() if row.difference is not None}
    found = [name for name, row in compared.items() if row.is_significant]
    surviving = [name for name in found if rows[name].survives_holm]
    text = f"No variant differs significantly from the reference (comparisons: {len(compared)})."
    if found:
        named = listed([f"{name} {gap_text(rows[name].differences[0])}" for name in found])
        text = f"Significantly different from the reference: {named} ({len(found)} of {len(compared)} comparisons). "
        text += f"Still significant after Holm's correction: {listed(surviving) or 'none'}."
    if found and len(settings.seeds) == 1:
        text += " Each variant was trained once, so a difference can also come from the seed."
    failed = ["/".join(filter(None, (g, variant))) for g, one in groups.items() for variant in one.failed]
    return text + (f" Failed and not compared: {listed(failed)}." if failed else "")


def csv_table(groups: Groups, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per variant, numbers unrounded. metrics: names of the figures."""
    records = []
    for group, one in groups.items():
        for row in one.rows:
            record: dict[str, object] = {"group": group, "variant": row.variant, "verdict": row.verdict}
            for metric, value in zip(metrics, row.values, strict=True):
                record |= interval_figures(metric, value.value, value)
            for metric, gap in zip(metrics, row.differences or (NO_DIFFERENCE,) * len(metrics), strict=True):
                record |= interval_figures(f"{metric}_gap", gap.value, gap)
            record[f"{metrics[0]}_gap/by_seed"] = " ".join(f"{gap:.6f}" for gap in row.differences_by_seed)
            survives = row.survives_holm if row.difference is not None else None
            records.append(record | {"p": row.p, "p_holm": row.p_holm, "survives_holm": survives})
    table = pd.DataFrame(records)
    return table if any(groups) else table.drop(columns="group")


def bar_chart(group: Group, path: Path, title: str, *, label: str, shown: Mapping[str, str] | None = None) -> Figure:
    """Plot the first figure of a group's variants into ``pictures/`` of a run folder."""
    bars = [Bar.of(row.variant, row.values[0], "marked" if row.is_reference else "") for row in group.rows]
    bars += [Bar.of((shown or {}).get(name, name), own[0], "muted") for name, own in group.others.items()]
    plot_bars(path, bars, label=label)
    grey = " Grey: not compared with it." if group.others else ""
    return Figure(title, f"pictures/{path.name}", f"Lines are 95 % intervals. Dark: the reference.{grey}")


def how_to_read(settings: ExperimentSettings, figures: str) -> Text:
    """What intervals, verdicts and the correction mean. figures: what the figures are."""
    luck = f"Intervals contain 95 % of {settings.num_resamples} bootstrap resamples of the test patients"
    if len(settings.seeds) > 1:
        luck += (
            f" and of the {len(settings.seeds)} trainings of a variant, a rough estimate of how much trainings vary. A "
            "difference is significant if its interval excludes zero and all seeds differ in the same direction."
        )
    else:
        luck += "; each variant was trained once, so a significant difference can also come from the seed."
    return Text(
        "How to read this",
        f"{figures} {luck} Differences are paired: all variants are evaluated on the same cases and the same "
        "resamples.\n\n"
        "Among many comparisons some intervals exclude zero by chance. Holm's correction adjusts all p-values so that "
        "the chance of a single false difference stays below 5 %.",
    )


def write_pages(page: Path, *, title: str, verdict: str, blocks: Sequence[Block], synthetic: bool) -> dict[str, Path]:
    """Write ``report.html`` and its tables as the Markdown file `page` next to it; returns both files by name.

    The page shows first the charts of `blocks`, then the verdict, then tables and texts.
    """
    origin = "**Figures of generated phantom images, not of patients.**\n\n" if synthetic else ""
    tables = "\n\n".join(markdown(block) for block in blocks if isinstance(block, Table))
    atomic_write_text(page, f"# {title}\n\n{origin}{verdict}\n\n{tables}\n")
    charts = [block for block in blocks if isinstance(block, Figure)]
    rest = [block for block in blocks if not isinstance(block, Figure)]
    ordered = [*charts, Verdict("Result", verdict), *rest]
    report = write_report(page.parent, title=title, lead="", blocks=ordered, synthetic=synthetic)
    return {"markdown": page, "report": report}
