"""Which image serves for what: training, validation, test. Patients never cross; checked, saved with the run."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, model_validator

from cxr.config import Settings, UserError
from cxr.runs.run_folder import atomic_write_text
from cxr.tables import Dataset

Splits = dict[str, list[str]]
"""Split name -> image ids in table order. A split may be empty; images may be in no split."""

SHOWN_PATIENTS = 20

FRACTION_TOLERANCE = 1e-9


class SplitSettings(Settings):
    """How to part a data set."""

    kind: Literal["official", "patients"]
    """"official": as the release says. "patients": by a hash of the patient, into `fractions`."""

    fractions: dict[str, float] = Field(default_factory=dict)
    """Split name -> share of the patients in (0, 1], for kind "patients". Together 1, or less to leave some out."""

    names: dict[str, str] = Field(default_factory=dict)
    """Split name -> the release's name of it, for kind "official", for instance ``val: valid``."""

    val_fraction: float = Field(default=0.0, ge=0, lt=1)
    """For kind "official": this share of the patients of `train` becomes `val`, for releases without one to spare."""

    seed: int = 0
    """Another seed parts the patients otherwise."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "SplitSettings":
        needed, other = ("names", "fractions") if self.kind == "official" else ("fractions", "names")
        if not getattr(self, needed):
            raise ValueError(f"kind {self.kind!r} needs `{needed}`")
        if getattr(self, other):
            raise ValueError(f"kind {self.kind!r} does not use `{other}`; remove it")
        if self.val_fraction and (self.kind != "official" or "train" not in self.names or "val" in self.names):
            raise ValueError("`val_fraction` needs kind 'official' with `names` for train and none for val")
        if self.kind == "patients":
            _check_fractions(self.fractions)
        return self

    def make(self, dataset: Dataset) -> Splits:
        """The splits of `dataset`, checked for patients that cross. UserError as the functions below."""
        if self.kind == "official":
            splits = official_split(dataset, self.names)
            if self.val_fraction:
                splits |= _carve_val(dataset.select(splits["train"]), self.val_fraction, self.seed)
        else:
            splits = split_by_patient(dataset, fractions=self.fractions, seed=self.seed)
        check_no_leak(dataset, splits)
        return splits


def split_by_patient(dataset: Dataset, *, fractions: Mapping[str, float], seed: int) -> Splits:
    """Part by patient: a hash of patient and seed against cumulated fractions, without a random generator.

    A patient's split depends on its id and the seed alone, so images that are added later move nobody. Images
    without a known patient count as a patient each. Shares hold on average: small sets deviate.

    Args:
        fractions: split name -> share of the patients, in order; together at most 1, the rest is in no split.
    """
    _check_fractions(fractions)
    patients = patients_of(dataset)
    position = {patient: hash_to_unit(patient, seed) for patient in patients.unique()}
    positions = patients.map(position)
    splits: Splits = {}
    low = 0.0
    for name, fraction in fractions.items():
        # Rounding must not cost the last split its last patients.
        high = low + fraction if low + fraction < 1 - FRACTION_TOLERANCE else 1.0
        splits[name] = _ids(dataset, (positions >= low) & (positions < high))
        low = high
    return splits


def _carve_val(train: Dataset, fraction: float, seed: int) -> Splits:
    return split_by_patient(train, fractions={"val": fraction, "train": 1 - fraction}, seed=seed)


def official_split(dataset: Dataset, names: Mapping[str, str]) -> Splits:
    """The release's own split, under our names: ``{"train": "train", "val": "valid"}``.

    Raises:
        UserError: the data set has no image of a split that is asked for.
    """
    column = dataset.images["split"]
    there = [f"{name or '(none)'} ({num})" for name, num in column.value_counts().items()]
    missing = [official for official in names.values() if official not in set(column)]
    if missing:
        raise UserError(
            f"split: {dataset.name} has no split {', '.join(map(repr, missing))}; it has {', '.join(there)}; "
            "correct `names` or use `kind: patients`"
        )
    return {name: _ids(dataset, column == official) for name, official in names.items()}


def check_no_leak(dataset: Dataset, splits: Mapping[str, Iterable[str]]) -> None:
    """UserError that names the patients (or images) that stand in two splits, or ids the data set lacks."""
    patient_of = dict(zip(dataset.images["image_id"], patients_of(dataset), strict=True))
    homes: dict[str, dict[str, None]] = {}
    strangers = []
    for split, image_ids in splits.items():
        for image_id in image_ids:
            if image_id in patient_of:
                homes.setdefault(patient_of[image_id], {})[split] = None
            else:
                strangers.append(f"split {split!r}: image {image_id!r} is not in {dataset.name}")
    leaks = [
        f"split: patient {patient!r} stands in {' and '.join(there)}"
        for patient, there in homes.items()
        if len(there) > 1
    ]
    if leaks:
        total = f"split: {len(leaks)} patients of {dataset.name} cross splits; use `kind: patients`"
        raise UserError([*leaks[:SHOWN_PATIENTS], total])
    if strangers:
        total = f"split: {len(strangers)} unknown images; give the data set that the splits were made of"
        raise UserError([*strangers[:SHOWN_PATIENTS], total])


def patients_of(dataset: Dataset) -> "pd.Series[str]":
    """(N,) patient of each image; the image's own id where no patient is known. Also the bootstrap's groups."""
    images = dataset.images
    return images["patient_id"].where(images["patient_id"] != "", images["image_id"])


def hash_to_unit(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on text and seed alone, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{text}".encode()).digest()
    # 53 bits, as many as a float holds: one more could round up to 1.0.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def fingerprint(image_ids: Iterable[str]) -> str:
    """Short hash of a set of images; their order does not matter."""
    text = "\n".join(sorted(image_ids))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_splits(path: Path, splits: Mapping[str, Iterable[str]]) -> None:
    """Write JSON: for each split its fingerprint, count and image ids."""
    content = {}
    for name, image_ids in splits.items():
        listed = list(image_ids)
        content[name] = {"fingerprint": fingerprint(listed), "count": len(listed), "image_ids": listed}
    atomic_write_text(path, json.dumps(content, indent=1) + "\n")


def load_splits(path: Path) -> Splits:
    """Read what `save_splits` wrote.

    Raises:
        UserError: no such file, not of that form, or a split whose ids do not match its fingerprint.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        splits = {str(name): [str(image_id) for image_id in part["image_ids"]] for name, part in content.items()}
        changed = [name for name, part in content.items() if part["fingerprint"] != fingerprint(splits[name])]
    except OSError:
        raise UserError(f"split: cannot read {path}; is the run finished?") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"split: {path} is not a file of splits: {error!r}") from None
    if changed:
        raise UserError(f"split: {path} was edited: {', '.join(changed)} does not match its fingerprint")
    return splits


def _ids(dataset: Dataset, mask: "pd.Series[bool]") -> list[str]:
    return [str(image_id) for image_id in dataset.images.loc[mask, "image_id"]]


def _check_fractions(fractions: Mapping[str, float]) -> None:
    """ValueError unless every share is in (0, 1] and they sum to at most 1."""
    wrong = {name: share for name, share in fractions.items() if not 0 < share <= 1}
    if wrong:
        raise ValueError(f"fractions must be in (0, 1], got {wrong}")
    if sum(fractions.values()) > 1 + FRACTION_TOLERANCE:
        raise ValueError(f"fractions sum to {sum(fractions.values()):g}, expected at most 1: {dict(fractions)}")
