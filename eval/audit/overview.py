"""Audit of a data set before training: its labels, patients and images, in a run of several sets also by set.

Labels are as the source has them: 1 positive, 0 negative, -1 uncertain, NaN not mentioned, NOT_ASKED.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.labels import NO_FINDING
from cxr.tables import NOT_ASKED, Dataset, count_reasons
from eval.report.blocks import Block, Figure, Table
from eval.report.charts import plot_heat_map, plot_histogram
from eval.report.format import Cell

AGE_BAND = 10
"""Years."""

SEXES = {"F": "female", "M": "male", "": "sex unknown"}

COUNT_COLUMNS = ("positive", "negative", "uncertain", "not mentioned")
NOT_ASKED_COLUMN = "not asked"


def finding_counts(labels: pd.DataFrame) -> pd.DataFrame:
    """Number of images per finding (rows) and label (columns), and the uncertainty ratio.

    labels: (N, K). The ratio is uncertain / positive, NaN without positives (on CheXpert 3.11 for Pneumonia). Images of
    sets that do not label a finding have a column of their own, if there are any.
    """
    values = labels.to_numpy(dtype=np.float64)
    kinds = [values == 1, values == 0, values == -1, np.isnan(values)]
    counts = np.stack([kind.sum(axis=0) for kind in kinds], axis=1)
    table = pd.DataFrame(counts, index=labels.columns, columns=list(COUNT_COLUMNS))
    not_asked = (values == NOT_ASKED).sum(axis=0)
    if not_asked.any():
        table[NOT_ASKED_COLUMN] = not_asked
    table["uncertainty ratio"] = table["uncertain"] / table["positive"].where(table["positive"] > 0)
    return table


def co_occurrence(labels: pd.DataFrame) -> pd.DataFrame:
    """(K, K) phi coefficients: correlation of being positive over the images of sets that label both findings; NaN
    where no image or every one is positive.

    labels: (N, K).
    """
    positive = (labels == 1).to_numpy(dtype=np.float64)
    asked = (labels != NOT_ASKED).to_numpy(dtype=np.float64)
    number, both = asked.T @ asked, positive.T @ positive
    first = positive.T @ asked  # positives of the row's finding among the images that are asked for both
    spread = first * (number - first)
    scale = np.sqrt(spread * spread.T)
    phi = (number * both - first * first.T) / np.where(scale > 0, scale, np.nan)
    return pd.DataFrame(phi, index=labels.columns, columns=labels.columns)


def labels_per_image(labels: pd.DataFrame) -> "pd.Series[int]":
    """Number of images by their number of positive findings, from 0 up; "No Finding" does not count."""
    numbers = (labels.drop(columns=NO_FINDING, errors="ignore") == 1).sum(axis=1).to_numpy(dtype=np.int64)
    return pd.Series(np.bincount(numbers, minlength=1))


def images_per_patient(images: pd.DataFrame) -> "pd.Series[int]":
    """Number of patients by their number of images, from 1 up; images without a known patient do not count."""
    known = images.loc[images["patient_id"] != "", "patient_id"]
    return pd.Series(np.bincount(known.value_counts().to_numpy(dtype=np.int64), minlength=1)).iloc[1:]


def age_bands(images: pd.DataFrame) -> pd.DataFrame:
    """Images of known age by band of ten years (rows: its first year) and sex (columns); empty without known ages."""
    known = images[images["age"].notna()]
    band = (known["age"] // AGE_BAND).astype(int) * AGE_BAND
    rows = range(0, int(band.max()) + AGE_BAND, AGE_BAND) if len(band) else range(0)
    sexes = known["sex"].map(SEXES)
    columns = {name: band[sexes == name].value_counts() for name in SEXES.values()}
    table = pd.DataFrame(columns).reindex(list(rows)).fillna(0).astype(int)
    return table.loc[:, table.any(axis=0)]


def data_facts(data: Dataset) -> Table:
    """Images, patients, studies, views, sexes, ages, and what the data set's loader changed or excluded."""
    images = data.images
    rows: list[list[Cell]] = [["images", len(images), None]]
    for name in ("patient", "study"):
        known = images.loc[images[f"{name}_id"] != "", f"{name}_id"]
        rows.append([f"{'patients' if name == 'patient' else 'studies'} known", known.nunique(), None])
        rows.append(_share(f"without a known {name}", len(images) - len(known), len(images)))
    for view in ("frontal", "lateral", ""):
        rows.append(_share(f"view: {view or 'unknown'}", int((images["view"] == view).sum()), len(images)))
    for sex, name in SEXES.items():
        rows.append(_share(name, int((images["sex"] == sex).sum()), len(images)))
    age = images["age"].median()
    rows.append(["median age in years", None if np.isnan(age) else f"{age:g}", None])
    rows.append(_share("age unknown", int(images["age"].isna().sum()), len(images)))
    rows += [[what, count, None] for what, count in data.counts.items()]
    rows += [[f"excluded: {reason}", count, None] for reason, count in count_reasons(data.excluded).items()]
    return Table(f"The data set {data.name}", ["", "number", "share of images"], rows)


def finding_table(labels: pd.DataFrame) -> Table:
    """One row per finding of the labels (N, K): its counts by kind of label, see `finding_counts`."""
    counts = finding_counts(labels)
    numbers = [str(name) for name in counts.columns if name != "uncertainty ratio"]
    rows: list[list[Cell]] = []
    for finding, row in counts.iterrows():
        rows.append([str(finding), *(int(row[name]) for name in numbers), ratio_text(row["uncertainty ratio"])])
    note = "As the source labels them, before any policy. Above 100 %, more images are uncertain than positive."
    columns = ["finding", *numbers, "uncertain / positive"]
    return Table("Labels of the whole data set", columns, rows, note)


def set_tables(data: Dataset, findings: Sequence[str], splits: Mapping[str, Sequence[str]]) -> list[Table]:
    """Images of each data set by split, and its labels of each finding; nothing for a single data set.

    splits: split name -> image ids.
    """
    images = data.images
    names = [name for name in images["set"].unique() if name]
    if not names:
        return []
    sizes: list[list[Cell]] = []
    for name in names:
        own = images[images["set"] == name]
        in_split = [int(own["image_id"].isin(set(ids)).sum()) for ids in splits.values()]
        sizes.append([name, len(own), own.loc[own["patient_id"] != "", "patient_id"].nunique(), *in_split])
    rows: list[list[Cell]] = []
    for finding in findings:
        for name in names:
            own_labels = data.labels.loc[(images["set"] == name).to_numpy(), [finding]]
            if (own_labels == NOT_ASKED).to_numpy().all():
                rows.append([finding, name, *[None] * len(COUNT_COLUMNS), len(own_labels)])
            else:
                rows.append([finding, name, *(int(finding_counts(own_labels)[c].iloc[0]) for c in COUNT_COLUMNS), 0])
    note = "What a set does not label (not asked) is masked in the loss and in all figures: it is no negative."
    return [
        Table("Data sets", ["set", "images", "patients known", *splits], sizes),
        Table("Labels by data set", ["finding", "set", *COUNT_COLUMNS, NOT_ASKED_COLUMN], rows, note),
    ]


def audit_blocks(
    data: Dataset, findings: Sequence[str], run_dir: Path, *, splits: Mapping[str, Sequence[str]] | None = None
) -> list[Block]:
    """Tables and charts of the data set for a report; charts go to ``run_dir/pictures``, empty ones are omitted.

    findings: columns of ``data.labels`` to show. splits: split name -> image ids, for a run of several data sets.
    """
    labels, folder = data.labels[list(findings)], run_dir / "pictures"
    blocks: list[Block] = [data_facts(data), finding_table(labels), *set_tables(data, findings, splits or {})]
    if len(findings) > 1:
        blocks.append(co_occurrence_figure(labels, run_dir))
    numbers = labels_per_image(labels)
    blocks.append(_counts_figure(folder / "labels_per_image.png", numbers, "Labels per image", "positive findings"))
    numbers = images_per_patient(data.images)
    if len(numbers):
        path = folder / "images_per_patient.png"
        blocks.append(_counts_figure(path, numbers, "Images per patient", "images", of="patients"))
    bands = age_bands(data.images)
    if len(bands):
        blocks.append(_age_figure(bands, folder))
    return blocks


def share_text(count: int, total: int) -> str | None:
    """ "12.3 %"; None where there is nothing to have a share of."""
    return f"{100 * count / total:.1f} %" if total else None


def ratio_text(ratio: float) -> str | None:
    """Uncertain over positive, "150 %"; None without positives."""
    return None if np.isnan(ratio) else f"{100 * ratio:.0f} %"


def _share(name: str, count: int, total: int) -> list[Cell]:
    return [name, count, share_text(count, total)]


def co_occurrence_figure(
    labels: pd.DataFrame, out: Path, name: str = "co_occurrence", *, title: str = "Findings that occur together"
) -> Figure:
    """The heat map of `co_occurrence` in ``out/pictures/<name>.png``."""
    phi = co_occurrence(labels).to_numpy(copy=True)
    np.fill_diagonal(phi, np.nan)
    names = [str(column) for column in labels.columns]
    plot_heat_map(out / "pictures" / f"{name}.png", phi, (names, names), has_diagonal=False)
    note = (
        "Phi coefficient of being positive: above 0 two findings occur together more often than by chance, below 0 "
        "less often. Colours reach from -1 to 1 in all reports."
    )
    unknown = np.isnan(phi)
    np.fill_diagonal(unknown, False)
    if unknown.any():
        note += " Grey: one of the two findings is positive in no image or in every image that labels both."
    return Figure(title, f"pictures/{name}.png", note)


def _counts_figure(path: Path, numbers: "pd.Series[int]", title: str, label: str, *, of: str = "images") -> Figure:
    first = int(numbers.index[0])
    edges = (np.arange(first, first + len(numbers) + 1) - 0.5).tolist()
    plot_histogram(path, edges, {"": numbers.tolist()}, labels=(label, of))
    return Figure(title, f"pictures/{path.name}")


def _age_figure(bands: pd.DataFrame, folder: Path) -> Figure:
    edges = [*bands.index.tolist(), int(bands.index[-1]) + AGE_BAND]
    counts = {str(name): bands[name].tolist() for name in bands.columns}
    plot_histogram(folder / "ages.png", edges, counts, labels=("age in years", "images"))
    return Figure("Ages", "pictures/ages.png")
