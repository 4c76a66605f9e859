"""The report of an audit: pictures, the verdict, the checks, then a section for each of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eval.audit.box_plausibility import FLAGS, unboxed
from eval.audit.by_split import split_blocks
from eval.audit.checks import Audit
from eval.audit.galleries import (
    Gallery,
    box_blocks,
    copy_blocks,
    crossing_blocks,
    sample_blocks,
    suspect_blocks,
    suspect_texts,
    unusual_blocks,
)
from eval.audit.label_suspects import MIN_AUROC
from eval.audit.overview import audit_blocks, finding_counts
from eval.audit.summary import problems_of, size_text, summary_table, verdict_text
from eval.audit.unusual import MEASURES, measure_table, with_aspect
from eval.report.blocks import Block, Figure, Table, Text, Verdict, write_report
from eval.report.charts import Bar, Histograms, plot_bars, plot_histograms
from eval.report.format import Cell, in_format

SHOWN_ROWS = 20


def write_audit_report(audit: Audit, out: Path) -> Path:
    """Write ``report.html`` and its pictures into `out`; returns the page's path."""
    data, findings = audit.audited.data, audit.audited.findings
    gallery = Gallery(audit, out)
    blocks: list[Block] = [
        *sample_blocks(audit, gallery),
        *_prevalence(audit, out),
        Verdict("Result", verdict_text(audit)),
        summary_table(audit),
        *_leaks(audit, gallery),
        *_files(audit),
        *_suspects(audit, gallery),
        *_boxes(audit, gallery),
        Text("Sizes and exposure"),
        *_exposure(audit, out),
        *unusual_blocks(audit, gallery),
        *([Text("By split"), *split_blocks(data, findings, audit.audited.splits, out)] if audit.audited.splits else []),
        Text("The whole data set"),
        *audit_blocks(data, findings, out, splits=audit.audited.splits),
    ]
    title, lead = f"Audit of {data.name}", f"{size_text(audit)} Folder: {data.root}."
    return write_report(out, title=title, lead=lead, blocks=blocks, synthetic=data.synthetic)


def _prevalence(audit: Audit, out: Path) -> list[Block]:
    """The share of positive images of each finding, of all images that are labelled for it."""
    counts = finding_counts(audit.audited.data.labels[list(audit.audited.findings)])
    asked = counts[["positive", "negative", "uncertain", "not mentioned"]].sum(axis=1)
    shares = counts["positive"] / asked.where(asked > 0)
    if shares.empty:
        return []
    plot_bars(out / "pictures" / "positives.png", [Bar(str(n), float(v)) for n, v in shares.items()])
    return [Figure("Share of positive images", "pictures/positives.png")]


def _leaks(audit: Audit, gallery: Gallery) -> list[Block]:
    blocks = [*crossing_blocks(audit, gallery), *copy_blocks(audit, gallery)]
    if not audit.crossing.empty:
        columns = ["division", "patient", "splits", "images"]
        title = "Patients in two splits"
        blocks.append(_first_rows(title, columns, audit.crossing, "crossing_patients.csv"))
    if not audit.copies.empty:
        named = audit.copies.rename(columns={name: f"splits of the {name}" for name in audit.audited.divisions})
        blocks.append(_first_rows("Copies", list(named.columns), named, "copies.csv"))
    return [Text("Leaks"), *blocks] if blocks else []


def _files(audit: Audit) -> list[Block]:
    """Broken files and what could not be read, by name."""
    rows: list[list[Cell]] = [list(problem) for problem in problems_of(audit)]
    if not rows:
        return []
    note = "" if len(rows) <= SHOWN_ROWS else f"The first {SHOWN_ROWS} of {len(rows)}; problems.csv lists all."
    return [Text("Files and tables"), Table("Problems", ["what", "why"], rows[:SHOWN_ROWS], note)]


def _suspects(audit: Audit, gallery: Gallery) -> list[Block]:
    rows: list[list[Cell]] = [
        [finding, checked, in_format(auroc, ".3f"), number if judged else None]
        for finding, checked, auroc, judged, number in audit.checked.to_numpy(dtype=object).tolist()
    ]
    note = (
        f"{audit.source} Confident learning (cleanlab) compares them with the labels. Findings with an AUROC below "
        f"{MIN_AUROC:g} are not judged: most contradictions would be the model's mistakes. 0 checked: too few images "
        "with or without the finding."
    )
    blocks = suspect_blocks(audit, gallery)
    table = Table("Labels that were checked", ["finding", "images checked", "AUROC", "suspects"], rows, note)
    blocks.append(table)
    if len(audit.suspects):
        texts = suspect_texts(audit.suspects.head(SHOWN_ROWS))
        title = "Suspicious labels by name"
        blocks.append(Table(title, ["image", "what does not fit"], texts, collapsed=True))
    return [Text("Suspicious labels"), *blocks]


def _boxes(audit: Audit, gallery: Gallery) -> list[Block]:
    """Sizes of the boxes of each finding, and how many look wrong."""
    if audit.boxes.empty:
        return []
    rows: list[list[Cell]] = []
    for finding, own in audit.boxes.groupby("finding", sort=False):
        sizes = [in_format(float(own[name].median()), ".3f") for name in ("width", "height", "area", "aspect")]
        flags = [int(own[flag].sum()) for flag in FLAGS]
        numbers = [len(own), own["image_id"].nunique(), unboxed(audit.audited.data, str(finding))]
        rows.append([str(finding), *numbers, *flags, *sizes])
    columns = ["finding", "boxes", "images", "positives without box", *FLAGS, "width", "height", "area", "aspect"]
    reasons = "; ".join(f"{flag}: {reason}" for flag, reason in FLAGS.items())
    note = f"Medians of sizes as shares of the image; aspect: longer over shorter side. {reasons}."
    return [Text("Boxes"), *box_blocks(audit, gallery), Table("Boxes by finding", columns, rows, note)]


def _exposure(audit: Audit, out: Path) -> list[Block]:
    """Histograms of all measures, by split."""
    facts = with_aspect(audit.facts.table)
    if facts.empty:
        return [Text("", "No image can be decoded.")]
    splits = audit.audited.splits or {"all images": facts.index.tolist()}
    parts = {name: facts[facts.index.isin(ids)] for name, ids in splits.items()}
    parts = {name: own for name, own in parts.items() if len(own)}
    panels = [
        Histograms(words, {name: own[measure].to_numpy(np.float64) for name, own in parts.items()})
        for measure, (words, _) in MEASURES.items()
    ]
    plot_histograms(out / "pictures" / "exposure.png", panels)
    note = "Share of the images of each split. Splits that differ here were not made alike."
    return [Figure("Sizes and grey levels", "pictures/exposure.png", note), measure_table(audit.facts.table)]


def _first_rows(title: str, columns: Sequence[str], table: pd.DataFrame, file: str) -> Table:
    rows = table[list(columns)].head(SHOWN_ROWS).to_numpy(dtype=object).tolist()
    cells: list[list[Cell]] = [[_text(cell) for cell in row] for row in rows]
    note = "" if len(table) <= SHOWN_ROWS else f"The first {SHOWN_ROWS} of {len(table)}; {file} lists all."
    return Table(title, columns, cells, note, collapsed=len(table) > 2)


def _text(cell: object) -> Cell:
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else ""
    return cell if isinstance(cell, str | int | float) else str(cell)
