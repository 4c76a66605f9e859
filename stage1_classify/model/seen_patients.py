"""The patients that a classifier has seen, including those of its starting point. It must not be evaluated on them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cxr.config import UserError
from cxr.datasets import parts_of
from cxr.runs.run_folder import atomic_write_text, open_run
from cxr.splits import patients_of
from cxr.tables import Dataset, Exclusion

Seen = dict[str, dict[str, list[str]]]
"""Data set -> "train" (used for the weights) and "val" (used to choose epoch and thresholds) -> patients, or images
where the patient is unknown."""

OUTPUT = "seen"


def read_seen(run_dir: Path) -> Seen:
    """The patients that the classifier of a finished stage 1 run has seen."""
    content: Seen = json.loads(open_run(run_dir, stage="stage1").output(OUTPUT).read_text(encoding="utf-8"))
    return content


def check_source(run_dir: Path, data: Dataset, splits: Mapping[str, Sequence[str]]) -> Seen:
    """The patients seen by a run that this one builds on (its starting point or its teacher).

    Raises:
        UserError: it was trained on a patient of `val` or `test`, or validated on one of `test`.
    """
    seen = read_seen(run_dir)
    check_unseen(seen, data, splits["val"], split="val", by=["train"])
    check_unseen(seen, data, splits["test"], split="test", by=["train", "val"])
    return seen


def union(parts: Sequence[Seen]) -> Seen:
    """The patients that are in any of `parts`."""
    together: Seen = {}
    for part in parts:
        for name, splits in part.items():
            own = together.setdefault(name, {"train": [], "val": []})
            for split, patients in splits.items():
                own[split] = sorted({*own.get(split, []), *patients})
    return together


def write_seen(path: Path, data: Dataset, splits: Mapping[str, Sequence[str]], *, before: Seen) -> None:
    """Write the patients of `train` and `val`, and those in `before`."""
    seen: Seen = {name: {split: list(ids) for split, ids in parts.items()} for name, parts in before.items()}
    for split in ("train", "val"):
        for name, part in parts_of(data.select(splits[split])).items():
            own = seen.setdefault(name, {"train": [], "val": []})
            own[split] = sorted({*own[split], *patients_of(part)})
    atomic_write_text(path, json.dumps(seen, indent=1) + "\n")


SEEN = "image of a patient that the classifier (or what it started from) has seen"
"""Why an image is excluded."""


def check_unseen(seen: Seen, data: Dataset, image_ids: Sequence[str], *, split: str, by: Sequence[str]) -> None:
    """Raise a UserError if patients of `split` are among those that the classifier has seen in the splits `by`."""
    problems = []
    for name, part in parts_of(data.select(image_ids)).items():
        crossing = _crossing(seen, part, by)
        if crossing.any():
            first = part.images.loc[crossing, "image_id"].iloc[0]
            problems.append(
                f"split: {int(crossing.sum())} of {len(part.images)} images of {split} are of patients of {name} that "
                f"the classifier (or the run it started from) has seen in {' or '.join(by)}, for instance {first}; "
                "give all stages the same split settings, or, if they are other patients, each data set its own `name`"
            )
    if problems:
        raise UserError(problems)


def without_seen(seen: Seen, data: Dataset, *, by: Sequence[str]) -> Dataset:
    """The data set without the patients that the classifier has seen in the splits `by`; they are added to `excluded`.

    Raises:
        UserError: no image is left.
    """
    crossing = _crossing(seen, data, by)
    ids = data.images["image_id"]
    if crossing.all():
        raise UserError(
            f"data: all {len(ids)} images of {data.name} are of patients that the classifier has seen in "
            f"{' or '.join(by)}; give images that are new to it"
        )
    found = tuple(Exclusion(str(image_id), SEEN) for image_id in ids[crossing])
    return replace(data.select(ids[~crossing]), excluded=(*data.excluded, *found))


def _crossing(seen: Seen, data: Dataset, by: Sequence[str]) -> "pd.Series[bool]":
    """Whether the patient of each image is among those seen. data: a single data set, or several as one."""
    prefixes = {name or data.name: f"{name}/" if name else "" for name in data.images["set"].unique()}
    known = {
        prefix + patient
        for name, prefix in prefixes.items()
        for used in by
        for patient in seen.get(name, {}).get(used, [])
    }
    return patients_of(data).isin(known)
