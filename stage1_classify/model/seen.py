"""Which patients a classifier has seen, its starting point's included, so that nobody scores it on them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr.config import UserError
from cxr.runs.run_folder import atomic_write_text, open_run
from cxr.splits import patients_of
from cxr.tables import Dataset

Seen = dict[str, dict[str, list[str]]]
"""Data set's name -> "train" (weights were fitted to them) and "val" (epoch and thresholds were chosen on them) ->
patients, or images where no patient is known."""

OUTPUT = "seen"


def read_seen(run_dir: Path) -> Seen:
    """What the classifier of a finished stage 1 run has seen."""
    content: Seen = json.loads(open_run(run_dir, stage="stage1").output(OUTPUT).read_text(encoding="utf-8"))
    return content


def check_source(run_dir: Path, data: Dataset, splits: Mapping[str, Sequence[str]]) -> Seen:
    """What a run that this one builds on (its starting point, its teacher) has seen.

    Raises:
        UserError: that is a patient of `val` or `test`, or it chose its epoch by one of `test`: what it knows of them
            would come back.
    """
    seen = read_seen(run_dir)
    check_unseen(seen, data, splits["val"], split="val", by=["train"])
    check_unseen(seen, data, splits["test"], split="test", by=["train", "val"])
    return seen


def union(parts: Sequence[Seen]) -> Seen:
    """Everybody that is in any of `parts`, under the same names."""
    together: Seen = {}
    for part in parts:
        for name, splits in part.items():
            own = together.setdefault(name, {"train": [], "val": []})
            for split, patients in splits.items():
                own[split] = sorted({*own.get(split, []), *patients})
    return together


def write_seen(path: Path, data: Dataset, splits: Mapping[str, Sequence[str]], *, before: Seen) -> None:
    """Record the patients of `train` and `val`, beside those of the run that training started from."""
    seen: Seen = {name: {split: list(ids) for split, ids in parts.items()} for name, parts in before.items()}
    own = seen.setdefault(data.name, {"train": [], "val": []})
    for split in ("train", "val"):
        own[split] = sorted({*own[split], *patients_of(data.select(splits[split]))})
    atomic_write_text(path, json.dumps(seen, indent=1) + "\n")


def check_unseen(
    seen: Seen, data: Dataset, image_ids: Sequence[str], *, split: str, by: Sequence[str]
) -> None:
    """Raise a UserError when images of `split` are of patients that the classifier has seen as `by`."""
    own = seen.get(data.name, {})
    known = {patient for name in by for patient in own.get(name, [])}
    part = data.select(image_ids)
    crossing = patients_of(part).isin(known)
    if crossing.any():
        first = part.images.loc[crossing, "image_id"].iloc[0]
        raise UserError(
            f"split: {int(crossing.sum())} of {len(part.images)} images of {split} are of patients that the classifier "
            f"(or the run it started from) has seen in {' or '.join(by)}, for instance {first}; "
            "give all stages the same split settings"
        )
