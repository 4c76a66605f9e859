"""Cases: a case is an image, or a study of several views. Each case has one row of targets."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from cxr.arrays import Float32s
from cxr.config import UserError
from cxr.tables import SHOWN_PROBLEMS, Dataset, Exclusion

Views = tuple[tuple[int, ...], ...]
"""Per case the rows of its images in `Dataset.images`, frontal ones first."""

SURPLUS = "further view of a study that has views.max_views images already"

_KINDS = {"frontal": 0, "lateral": 1, "": 2}


@dataclass(frozen=True)
class Cases:
    """views: per case the rows of its images. first: the data set of the first view of each case, with one row per case
    in `images` and `labels`. left_out: images that are in no case."""

    views: Views
    first: Dataset
    left_out: tuple[Exclusion, ...] = ()

    def __len__(self) -> int:
        return len(self.views)


def make_cases(data: Dataset, max_views: int | None) -> Cases:
    """Group the images of `data` into cases (see ViewSettings), in the table order of their first views.

    Images of the same patient and study form a case, sorted into frontal, lateral and unknown views; an image of
    unknown study is a separate case. If a study has more than `max_views` images, one frontal and one lateral are
    kept first, then other frontals, laterals and unknown views.

    Raises:
        UserError: images of one case have different labels.
    """
    if max_views is None:
        return Cases(tuple((row,) for row in range(len(data.images))), data)
    table = _ranked(data.images)
    kept = table[table["rank"] < max_views].sort_values(["study", "kind", "row"])
    _check_equal_labels(data, kept)
    by_study = kept.groupby("study", sort=False)["row"]
    views: Views = tuple(sorted(tuple(rows) for rows in by_study.agg(list)))
    ids = data.images["image_id"]
    first = data.select(ids.iloc[[rows[0] for rows in views]])
    surplus = table.loc[table["rank"] >= max_views, "row"]
    return Cases(views, first, tuple(Exclusion(str(name), SURPLUS) for name in ids.iloc[surplus]))


def _ranked(images: pd.DataFrame) -> pd.DataFrame:
    """Per image: row, study (a number), kind of view (a number), and rank in its study (low ranks are kept)."""
    rows = np.arange(len(images))
    known = images["study_id"] != ""
    names = images["study_id"].where(known, pd.Series(rows, index=images.index).astype(str))
    study = images.assign(known=known, name=names).groupby(["patient_id", "known", "name"], sort=False).ngroup()
    kind = images["view"].map(_KINDS)
    table = pd.DataFrame({"row": rows, "study": study.to_numpy(), "kind": kind.to_numpy()})
    table["again"] = (table.groupby(["study", "kind"]).cumcount() > 0) | (table["kind"] == _KINDS[""])
    ordered = table.sort_values(["study", "again", "kind", "row"])
    table["rank"] = ordered.groupby("study").cumcount()
    return table


def _check_equal_labels(data: Dataset, kept: pd.DataFrame) -> None:
    """Raise a UserError if images of one case differ in a label. `kept` is sorted by study."""
    labels = data.labels.to_numpy(dtype=np.float64)[kept["row"]]
    study = kept["study"].to_numpy()
    # NaN (not mentioned) equals itself here.
    same = (labels[1:] == labels[:-1]) | (np.isnan(labels[1:]) & np.isnan(labels[:-1]))
    pairs = np.flatnonzero((study[1:] == study[:-1]) & ~same.all(axis=1))
    if not len(pairs):
        return
    _, once = np.unique(study[pairs], return_index=True)
    shown = [_difference(data, kept["row"].iloc[[p, p + 1]].tolist()) for p in pairs[once][:SHOWN_PROBLEMS]]
    raise UserError(
        [
            *shown,
            f"views.max_views: the labels of {len(once)} studies of {data.name} differ between their images; give all "
            "images of a study the same labels, or set max_views: null (each image by itself) or 1",
        ]
    )


def _difference(data: Dataset, rows: list[int]) -> str:
    (one, other), labels = data.images["image_id"].iloc[rows], data.labels.iloc[rows]
    finding = next(str(name) for name in labels.columns if labels[name].nunique(dropna=False) > 1)
    values = [f"{value:g}" for value in labels[finding]]
    study = data.images["study_id"].iloc[rows[0]]
    return f"views.max_views: study {study!r}: {finding} is {values[0]} for {one} and {values[1]} for {other}"


def sum_views(logits: Float32s, views: Views) -> Float32s:
    """Sum the logits of images (N, K) over the views of each case, to (len(views), K)."""
    if not views:
        return logits[:0]
    rows = np.fromiter(chain.from_iterable(views), dtype=np.int64)
    lengths = np.fromiter((len(images) for images in views), dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.add.reduceat(logits[rows], starts, axis=0)
