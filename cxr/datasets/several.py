"""Several data sets as one: the union of their images, findings and boxes.

Example::

    data:
      dataset: several
      sets:
        north: {dataset: csv_table, root: /data/north, ...}
        south: {dataset: chexpert, root: /data/chexpert}
      splits:
        south: {kind: patients, fractions: {train: 1.0}}
      findings:
        south: [Cardiomegaly, Edema]

Rules:

- Each set is read, checked and split by itself, as in a run of its own. Its name is its key in `sets`.
- Names of images, patients, studies and readers begin with the name of their set, so that patient 17 of two hospitals
  are two patients: ``north/17``.
- A finding that a set does not label is NOT_ASKED in its images: neither positive nor negative, in no loss and no
  figure. A finding is labelled by a set if the set's table has a column for it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, model_validator

from cxr.config import Settings, UserError
from cxr.datasets.one import OneData
from cxr.labels import check_findings, nearest
from cxr.splits import Splits, SplitSettings
from cxr.tables import NOT_ASKED, Dataset, Exclusion, OnProblem, SetName

NAMES = ("image_id", "patient_id", "study_id")
"""Columns of images whose values begin with the name of the set."""


class SeveralData(Settings):
    """Several data sets in one run; for an example see the docstring of this module."""

    dataset: Literal["several"] = "several"
    sets: dict[SetName, Annotated[OneData, Field(discriminator="dataset")]] = Field(min_length=2)
    """Name -> settings of the data set."""
    splits: dict[SetName, SplitSettings] = {}
    """Name -> the split of this set. Sets that are not listed are split as `split` says."""
    findings: dict[SetName, Annotated[list[str], Field(min_length=1)]] = {}
    """Name -> the findings that are taken from this set, labels and boxes; its others count as not asked. Sets that are
    not listed give all their findings."""

    @model_validator(mode="after")
    def _names_agree(self) -> "SeveralData":
        for key, names in (("splits", list(self.splits)), ("findings", list(self.findings))):
            for name in names:
                if name not in self.sets:
                    raise ValueError(f"{key}: {name!r} is none of the sets{nearest(name, self.sets)}; correct the name")
        for name, own in self.sets.items():
            if own.name not in (None, name):
                raise ValueError(f"sets.{name}.name: got {own.name!r}, but the key is the set's name; remove `name`")
        return self

    @property
    def on_problem(self) -> dict[str, OnProblem]:
        """Set -> what it does on a problem."""
        return {name: own.on_problem for name, own in self.sets.items()}

    def read(self) -> Dataset:
        """Read every set and combine them; see the docstring of this module."""
        return self.combined(self.read_each())

    def read_each(self) -> dict[str, Dataset]:
        """Name -> the data set by itself."""
        return {name: own.model_copy(update={"name": name}).read() for name, own in self.sets.items()}

    def combined(self, sets: Mapping[str, Dataset]) -> Dataset:
        """The sets as one, each with its labels of `findings`."""
        return combine({name: _taken(data, self.findings.get(name)) for name, data in sets.items()})


def combine(sets: Mapping[str, Dataset]) -> Dataset:
    """The data sets as one, in their order; see the docstring of this module. sets: name -> data set."""
    root = _common_root([data.root for data in sets.values()])
    findings = list(dict.fromkeys(finding for data in sets.values() for finding in data.findings))
    images = pd.concat([_named_images(data, name, root) for name, data in sets.items()], ignore_index=True)
    # fill_value fills the columns that a set lacks, not the NaN of its own columns
    labels = pd.concat([data.labels.reindex(columns=findings, fill_value=NOT_ASKED) for data in sets.values()])
    return Dataset(
        name=" + ".join(sets),
        root=root,
        images=images,
        labels=labels.set_axis(pd.Index(images["image_id"], name="image_id")),
        boxes=pd.concat([_named_boxes(data, name) for name, data in sets.items()], ignore_index=True),
        excluded=tuple(Exclusion(f"{name}/{e.what}", e.reason) for name, data in sets.items() for e in data.excluded),
        synthetic=any(data.synthetic for data in sets.values()),
        counts={f"{name}: {what}": number for name, data in sets.items() for what, number in data.counts.items()},
        boxed={name: frozenset(data.boxes["finding"]) for name, data in sets.items()},
    )


def parts_of(data: Dataset) -> dict[str, Dataset]:
    """Name -> each data set of a combination with its own names of images and patients; a single one by its name."""
    names = [str(name) for name in data.images["set"].unique()]
    if names in ([], [""]):
        return {data.name: data}
    return {name: _part(data, name) for name in names}


def make_splits(
    data: Dataset, split: SplitSettings, settings: OneData | SeveralData, *, allow_leak: bool = False
) -> Splits:
    """The splits of `data`, which was read from `settings`. Each set is split as in a run of its own; the
    `file` of a run of several has the splits of all.

    allow_leak: see `SplitSettings.make`.

    Raises:
        UserError: a patient is in two splits, or a release lacks a split that the settings name.
    """
    if not isinstance(settings, SeveralData) or (split.kind == "file" and not settings.splits):
        return split.make(data, allow_leak=allow_leak)
    if split.kind == "file":
        raise UserError("data.splits: `split.file` has the splits of all sets; remove `data.splits` or `split.file`")
    splits: Splits = {}
    for name, part in parts_of(data).items():
        for split_name, image_ids in settings.splits.get(name, split).make(part, allow_leak=allow_leak).items():
            splits.setdefault(split_name, []).extend(f"{name}/{image_id}" for image_id in image_ids)
    return splits


def _taken(data: Dataset, findings: Sequence[str] | None) -> Dataset:
    """The data set with labels and boxes of these findings only; None: of all."""
    if findings is None:
        return data
    check_findings(findings, data.findings, source=f"data.findings.{data.name}")
    boxes = data.boxes[data.boxes["finding"].isin(findings)].reset_index(drop=True)
    return replace(data, labels=data.labels[list(findings)], boxes=boxes)


def _part(data: Dataset, name: str) -> Dataset:
    own = data.select(data.images.loc[data.images["set"] == name, "image_id"])
    images = own.images.assign(set="", **{column: own.images[column].str.removeprefix(f"{name}/") for column in NAMES})
    boxes = own.boxes.assign(image_id=own.boxes["image_id"].str.removeprefix(f"{name}/"))
    labels = own.labels.set_axis(pd.Index(images["image_id"], name="image_id"))
    return replace(own, name=name, images=images, labels=labels, boxes=boxes)


def _named_images(data: Dataset, name: str, root: Path) -> pd.DataFrame:
    images = data.images
    place = os.path.relpath(data.root, root)
    paths = images["path"] if place == os.curdir else f"{Path(place).as_posix()}/" + images["path"]
    return images.assign(path=paths, set=name, **{column: _named(images[column], name) for column in NAMES})


def _named_boxes(data: Dataset, name: str) -> pd.DataFrame:
    boxes = data.boxes
    return boxes.assign(image_id=_named(boxes["image_id"], name), reader=_named(boxes["reader"], name))


def _named(values: "pd.Series[str]", name: str) -> "pd.Series[str]":
    """Values that begin with the set's name; "" (unknown) stays."""
    return values.where(values == "", f"{name}/" + values)


def _common_root(roots: Iterable[Path]) -> Path:
    """The innermost folder that contains all roots; relative if all are relative and none leaves its folder."""
    paths = [os.path.normpath(root) for root in roots]
    if any(Path(path).is_absolute() or path.startswith(os.pardir) for path in paths):
        paths = [os.path.abspath(path) for path in paths]  # noqa: PTH100  resolve() would follow links
    return Path(os.path.commonpath(paths))
