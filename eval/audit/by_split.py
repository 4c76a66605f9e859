"""Tables and charts that compare the splits of a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cxr.splits import Splits
from cxr.tables import Dataset
from eval.audit.overview import (
    AGE_BAND,
    COUNT_COLUMNS,
    NOT_ASKED_COLUMN,
    SEXES,
    age_bands,
    co_occurrence_figure,
    finding_counts,
    images_per_patient,
    labels_per_image,
    ratio_text,
    share_text,
)
from eval.report.blocks import Block, Figure, Table
from eval.report.charts import plot_histogram
from eval.report.format import Cell

FEW_POSITIVES = 5
_NOTHING = (None, 0, "0.0 %")
NO_LABELS, NO_POSITIVES, ONLY_POSITIVES = "no labels", "no positives", "positives only"


def split_blocks(data: Dataset, findings: Sequence[str], splits: Splits, out: Path) -> list[Block]:
    """Tables and charts of each split side by side; charts go to ``out/pictures``."""
    parts = {name: data.select(ids) for name, ids in splits.items()}
    labels = {name: part.labels[list(findings)] for name, part in parts.items()}
    images = {name: part.images for name, part in parts.items()}
    blocks: list[Block] = [split_facts(parts), split_labels(labels)]
    numbers = {name: labels_per_image(own) for name, own in labels.items()}
    blocks += _stacked(out, "labels_per_image_by_split", numbers, title="Labels per image", of=("findings", "images"))
    numbers = {name: images_per_patient(own) for name, own in images.items()}
    title = "Images per patient"
    blocks += _stacked(out, "images_per_patient_by_split", numbers, title=title, of=("images", "patients"))
    bands = {name: age_bands(own).sum(axis=1) for name, own in images.items()}
    blocks += _stacked(out, "ages_by_split", bands, title="Ages", of=("age in years", "images"), width=AGE_BAND)
    if len(findings) > 1:
        names = {split: f"co_occurrence_{number}" for number, split in enumerate(labels)}
        titles = {split: f"Findings that occur together: {split}" for split in labels}
        blocks += [co_occurrence_figure(own, out, names[s], title=titles[s]) for s, own in labels.items() if len(own)]
    return blocks


def split_facts(parts: Mapping[str, Dataset]) -> Table:
    """Images, patients, views, sexes and ages of each split."""
    columns = {name: _facts(part) for name, part in parts.items()}
    rows = [[fact, *(own[fact] for own in columns.values())] for fact in next(iter(columns.values()), {})]
    shown = [row for row in rows if row[0] == "images" or any(cell not in _NOTHING for cell in row[1:])]
    note = "Shares are of the images of the split. What no split has is left out."
    return Table("The splits", ["", *parts], shown, note)


def _facts(part: Dataset) -> dict[str, Cell]:
    images, num = part.images, len(part.images)
    known = images.loc[images["patient_id"] != "", "patient_id"]
    ages = images["age"].dropna()
    quartiles = "{:g} ({:g} to {:g})".format(*ages.quantile([0.5, 0.25, 0.75])) if len(ages) else None
    facts: dict[str, Cell] = {
        "images": num,
        "patients known": known.nunique(),
        "images per known patient, mean": f"{len(known) / known.nunique():.2f}" if len(known) else None,
        "without a known patient": share_text(num - len(known), num),
        "boxes": len(part.boxes),
    }
    for view in ("frontal", "lateral", ""):
        facts[f"view: {view or 'unknown'}"] = share_text(int((images["view"] == view).sum()), num)
    for sex, name in SEXES.items():
        facts[name] = share_text(int((images["sex"] == sex).sum()), num)
    return facts | {
        "age in years, median (quartiles)": quartiles,
        "age unknown": share_text(int(images["age"].isna().sum()), num),
    }


def split_labels(labels: Mapping[str, pd.DataFrame]) -> Table:
    """Labels of each finding in each split, and what is wrong with their numbers."""
    counts = {name: finding_counts(own) for name, own in labels.items()}
    has_unasked = any(NOT_ASKED_COLUMN in own.columns for own in counts.values())
    numbers = [*COUNT_COLUMNS, *([NOT_ASKED_COLUMN] if has_unasked else [])]
    rows: list[list[Cell]] = []
    for finding in next(iter(counts.values()), pd.DataFrame()).index:
        for name, own in counts.items():
            row = own.loc[finding]
            cells = [int(row.get(column, 0)) for column in numbers]
            rows.append([str(finding), name, *cells, ratio_text(row["uncertainty ratio"]), remark_on(row)])
    note = (
        "As the source labels them, before any policy. A split without positives, or without any other image, has no "
        "AUROC for the finding."
    )
    columns = ["finding", "split", *numbers, "uncertain / positive", "remark"]
    return Table("Labels by split", columns, rows, note)


def remark_on(counts: "pd.Series[float]") -> str:
    """What is wrong with the counts of a finding in a split; "" if nothing is."""
    positive, others = counts["positive"], counts["negative"] + counts["not mentioned"]
    if not positive and not others:
        return NO_LABELS
    if not positive:
        return NO_POSITIVES
    if not others:
        return ONLY_POSITIVES
    return f"fewer than {FEW_POSITIVES} positives" if positive < FEW_POSITIVES else ""


def num_one_sided(labels: Mapping[str, pd.DataFrame]) -> int:
    """Number of pairs of a split and a finding without AUROC. labels: of each split."""
    remarks = [remark_on(row) for own in labels.values() for _, row in finding_counts(own).iterrows()]
    return sum(remark in (NO_LABELS, NO_POSITIVES, ONLY_POSITIVES) for remark in remarks)


def _stacked(
    out: Path, name: str, numbers: Mapping[str, "pd.Series[int]"], *, title: str, of: tuple[str, str], width: int = 1
) -> list[Block]:
    """Bars of counts by a number, stacked by split; nothing without counts.

    of: what is on the x and the y axis. width: of a bar; bars of width 1 are centred on their number.
    """
    values = sorted({int(value) for own in numbers.values() for value in own.index})
    if not values:
        return []
    places = range(values[0], values[-1] + width, width)
    edges = [place - (0.5 if width == 1 else 0) for place in [*places, places[-1] + width]]
    counts = {split: own.reindex(list(places)).fillna(0).astype(int).tolist() for split, own in numbers.items()}
    plot_histogram(out / "pictures" / f"{name}.png", edges, counts, labels=of)
    return [Figure(title, f"pictures/{name}.png")]
