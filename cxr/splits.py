"""Splits of a data set into training, validation and test images. No patient is in two splits."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, model_validator

from cxr.arrays import Ints
from cxr.config import Settings, UserError
from cxr.input_files import read_json
from cxr.labels import check_findings
from cxr.runs.run_folder import atomic_write_text
from cxr.stratified import PatientFindings, findings_of_patients, held_out_parts, stratified_parts
from cxr.tables import Dataset

log = logging.getLogger("raybox")

Splits = dict[str, list[str]]
"""Split name -> image ids in table order. A split may be empty; images may be in no split."""

NEEDED = {"official": ("names",), "patients": ("fractions", "patients_per_finding"), "file": ("file",)}
"""Kind -> settings of which it needs one."""
TAKEN = {**NEEDED, "file": ("file", "names")}
"""Kind -> settings that it takes."""

SPLITS_FILE = "splits.json"
"""Name in the folder of a stage 1 run."""

SHOWN_PATIENTS = 20
FRACTION_TOLERANCE = 1e-9


class SplitSettings(Settings):
    """How to split a data set."""

    kind: Literal["official", "patients", "file"]
    """official: the splits of the release. patients: by a hash of the patient, with the shares of `fractions`. file:
    the splits of an earlier run, from `file`."""
    fractions: dict[str, float] = Field(default_factory=dict)
    """For kind patients: split name -> share of the patients in (0, 1]. If the sum is below 1, some are in no split."""
    names: dict[str, str] = Field(default_factory=dict)
    """For kind official: split name -> the release's name of the split, for instance ``val: valid``. For kind file:
    split name -> its name in the file, for instance ``tune: val``; without it the file's names."""
    val_fraction: float = Field(default=0.0, ge=0, lt=1)
    """For kind official, if the release has no validation part: the share of the patients of `train` that becomes
    `val`."""
    stratify: bool = False
    """For `fractions` and `val_fraction`. true: each split has the same share of patients with each finding, and at
    least one of them if there are enough. The split then depends on all images and labels of the data set. false: it
    depends on the patient's id alone, so it stays when images are added."""
    patients_per_finding: dict[str, int] = Field(default_factory=dict)
    """For kind patients: split name -> least number of its patients with each finding, for instance {val: 300, test:
    300}. Patients with uncertain labels are not chosen. The others are split by `fractions`, without it all are
    `train`."""
    findings: list[str] | None = Field(default=None, min_length=1)
    """The findings that `stratify` and `patients_per_finding` regard. None: all that the data set labels."""
    file: Path | None = None
    """For kind file: the folder of a run of stage 1, or its splits.json."""
    seed: int = 0
    """Seed of the hash. Another seed gives other splits."""
    shared_patients: Literal["error", "keep"] = "error"
    """Patients in two parts of a split: error, or keep and count them in log and report. Keep is for a comparison with
    figures that were published for such a split: they are too high."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "SplitSettings":
        needed = NEEDED[self.kind]
        if not any(getattr(self, name) for name in needed):
            raise ValueError(f"kind {self.kind!r} needs {' or '.join(f'`{name}`' for name in needed)}")
        for name in ("names", "fractions", "patients_per_finding", "file"):
            if getattr(self, name) and name not in TAKEN[self.kind]:
                raise ValueError(f"kind {self.kind!r} does not use `{name}`; remove it")
        if self.val_fraction and (self.kind != "official" or "train" not in self.names or "val" in self.names):
            raise ValueError("`val_fraction` needs kind 'official' with `names` for train and none for val")
        if self.stratify and not (self.fractions or self.val_fraction):
            raise ValueError("`stratify` needs `fractions` or `val_fraction`")
        if self.findings is not None and not (self.stratify or self.patients_per_finding):
            raise ValueError("`findings` needs `stratify` or `patients_per_finding`")
        _check_fractions(self.fractions)
        _check_numbers(self.patients_per_finding, self.fractions)
        return self

    def make(self, dataset: Dataset, *, allow_leak: bool = False) -> Splits:
        """The splits of `dataset`.

        allow_leak: return splits that share patients, for a report on them.

        Raises:
            UserError: a patient is in two of them, the release lacks one of `names`, a finding has too few patients
                for `patients_per_finding`, or `file` does not fit.
        """
        if self.kind == "official":
            splits = official_split(dataset, self.names)
            if self.val_fraction:
                shares = {"val": self.val_fraction, "train": 1 - self.val_fraction}
                splits |= self._by_patient(dataset.select(splits["train"]), shares)
        elif self.file is not None:
            splits = split_of_file(dataset, self.file, names=self.names)
        else:
            held_out = self._held_out(dataset)
            rest = dataset.select(set(dataset.images["image_id"]).difference(*held_out.values()))
            splits = self._by_patient(rest, self.fractions or {"train": 1.0}) | held_out
        if not allow_leak:
            self.check(dataset, splits)
        return splits

    def check(self, dataset: Dataset, splits: Mapping[str, Sequence[str]]) -> None:
        """`check_no_leak`, unless `shared_patients` allows what it refuses: then count the patients in the log."""
        if self.shared_patients == "error":
            check_no_leak(dataset, splits)
        elif num := len(crossing_patients(dataset, splits)):
            log.warning("split: %d patients of %s are in two parts, so figures are too high", num, dataset.name)

    def _by_patient(self, dataset: Dataset, fractions: Mapping[str, float]) -> Splits:
        if not self.stratify:
            return split_by_patient(dataset, fractions=fractions, seed=self.seed)
        known = self._known(dataset)
        parts = stratified_parts(known.has, list(fractions.values()), seed=self.seed)
        return _splits_of_parts(dataset, known, parts, fractions)

    def _held_out(self, dataset: Dataset) -> Splits:
        if not self.patients_per_finding:
            return {}
        known, wanted = self._known(dataset), self.patients_per_finding
        return _splits_of_parts(dataset, known, held_out_parts(known, wanted), wanted)

    def _known(self, dataset: Dataset) -> PatientFindings:
        """Who has which of `findings`."""
        check_findings(self.findings or (), dataset.findings, source="split.findings")
        labels = dataset.labels if self.findings is None else dataset.labels[self.findings]
        patients = patients_of(dataset)
        # not the hash of `split_by_patient`: it would leave that function patients with high numbers only
        order = {patient: hash_to_unit(f"order of {patient}", self.seed) for patient in patients.unique()}
        return findings_of_patients(labels, patients, order)


def split_by_patient(dataset: Dataset, *, fractions: Mapping[str, float], seed: int) -> Splits:
    """Split by a hash of patient and seed, which is compared with the cumulated fractions.

    The split of a patient depends only on its id and the seed, so it does not change when images are added. An image
    without a known patient counts as a separate patient. The shares are exact only on average.

    Args:
        fractions: split name -> share of the patients, in order. If the sum is below 1, some are in no split.
    """
    _check_fractions(fractions)
    patients = patients_of(dataset)
    positions = patients.map({patient: hash_to_unit(patient, seed) for patient in patients.unique()})
    splits: Splits = {}
    low = 0.0
    for name, fraction in fractions.items():
        # rounding must not exclude the last patients of the last split
        high = low + fraction if low + fraction < 1 - FRACTION_TOLERANCE else 1.0
        splits[name] = _ids(dataset, (positions >= low) & (positions < high))
        low = high
    return splits


def split_of_file(dataset: Dataset, path: Path, *, names: Mapping[str, str]) -> Splits:
    """The splits of an earlier run. Images of `dataset` that they do not list are in no split; their number is logged.

    Args:
        path: a file of `save_splits`, or the folder of a run with one.
        names: our name -> the file's name; empty: all splits with the file's names.

    Raises:
        UserError: as `load_splits`, or the file lists images that the data set lacks, or lacks one of `names`.
    """
    path = path / SPLITS_FILE if path.is_dir() else path
    splits = load_splits(path)
    if missing := [repr(name) for name in names.values() if name not in splits]:
        raise UserError(f"split: {path} has no split {', '.join(missing)}; it has {', '.join(splits)}; correct `names`")
    listed = {image_id for ids in splits.values() for image_id in ids}
    own = dataset.images["image_id"].tolist()
    if lacking := sorted(listed.difference(own)):
        raise UserError(
            f"split: {path} lists {len(lacking)} images that {dataset.name} lacks, for instance {lacking[0]!r}; give "
            "the data set and the settings of `data` that the splits were made with"
        )
    if others := [image_id for image_id in own if image_id not in listed]:
        log.warning("split: %d images of %s are not in %s, for instance %s", len(others), dataset.name, path, others[0])
    return {name: splits[theirs] for name, theirs in names.items()} if names else splits


def official_split(dataset: Dataset, names: Mapping[str, str]) -> Splits:
    """The splits of the release; `names`: our name -> its name. UserError if one of them has no image."""
    column = dataset.images["split"]
    known = [f"{name or '(none)'} ({num})" for name, num in column.value_counts().items()]
    missing = [official for official in names.values() if official not in set(column)]
    if missing:
        raise UserError(
            f"split: {dataset.name} has no split {', '.join(map(repr, missing))}; it has {', '.join(known)}; "
            "correct `names` or use `kind: patients`"
        )
    return {name: _ids(dataset, column == official) for name, official in names.items()}


def check_no_leak(dataset: Dataset, splits: Mapping[str, Sequence[str]]) -> None:
    """UserError that names the patients (or images) in two splits, or the images that the data set lacks."""
    known = set(dataset.images["image_id"])
    unknown = [
        f"split {split!r}: image {image_id!r} is not in {dataset.name}"
        for split, image_ids in splits.items()
        for image_id in image_ids
        if image_id not in known
    ]
    crossing = crossing_patients(dataset, splits)
    leaks = [f"split: patient {patient!r} is in {' and '.join(own)}" for patient, own in crossing.items()]
    if leaks:
        total = f"split: {len(leaks)} patients of {dataset.name} cross splits; use `kind: patients`"
        raise UserError([*leaks[:SHOWN_PATIENTS], total])
    if unknown:
        total = f"split: {len(unknown)} unknown images; give the data set that the splits were made from"
        raise UserError([*unknown[:SHOWN_PATIENTS], total])


def crossing_patients(dataset: Dataset, splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Patient (or image, where the patient is unknown) -> its splits, for each that is in more than one of them."""
    patient_of = dict(zip(dataset.images["image_id"], patients_of(dataset), strict=True))
    splits_of: dict[str, dict[str, None]] = {}
    for split, image_ids in splits.items():
        for image_id in image_ids:
            if image_id in patient_of:
                splits_of.setdefault(patient_of[image_id], {})[split] = None
    return {patient: list(own) for patient, own in splits_of.items() if len(own) > 1}


def patients_of(dataset: Dataset) -> "pd.Series[str]":
    """(N,) patient of each image, or the image id if the patient is unknown. These are the groups of the bootstrap."""
    images = dataset.images
    return images["patient_id"].where(images["patient_id"] != "", images["image_id"])


def hash_to_unit(text: str, seed: int) -> float:
    """A number in [0, 1) that depends only on text and seed, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{text}".encode()).digest()
    # 53 bits, the precision of a float: more could round up to 1.0
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def fingerprint(image_ids: Iterable[str]) -> str:
    """Short hash of a set of images; their order does not matter."""
    text = "\n".join(sorted(image_ids))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_splits(path: Path, splits: Mapping[str, Iterable[str]]) -> None:
    """Write the fingerprint, the number and the ids of the images of each split as JSON."""
    listed = {name: list(image_ids) for name, image_ids in splits.items()}
    content = {n: {"fingerprint": fingerprint(ids), "count": len(ids), "image_ids": ids} for n, ids in listed.items()}
    atomic_write_text(path, json.dumps(content, indent=1) + "\n")


def load_splits(path: Path) -> Splits:
    """Read a file of `save_splits`. UserError if it is missing or invalid, or the ids do not match a fingerprint."""
    content = read_json(path, what="split", advice="give a finished run of stage 1, or its splits.json")
    try:
        splits = {str(name): [str(image_id) for image_id in part["image_ids"]] for name, part in content.items()}
        changed = [name for name, part in content.items() if part["fingerprint"] != fingerprint(splits[name])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"split: {path} is not a file of splits: {error!r}") from None
    if changed:
        raise UserError(f"split: {path} was edited: {', '.join(changed)} does not match its fingerprint")
    if not splits or any(len(set(ids)) < len(ids) for ids in splits.values()):
        raise UserError(f"split: {path} has no split, or an image twice in one; give the file of a finished run")
    return splits


def _splits_of_parts(dataset: Dataset, known: PatientFindings, parts: Ints, names: Iterable[str]) -> Splits:
    """parts: (P,) index in `names` of each patient of `known`."""
    part = patients_of(dataset).map(dict(zip(known.patients, parts.tolist(), strict=True)))
    return {name: _ids(dataset, part == index) for index, name in enumerate(names)}


def _ids(dataset: Dataset, mask: "pd.Series[bool]") -> list[str]:
    return [str(image_id) for image_id in dataset.images.loc[mask, "image_id"]]


def _check_fractions(fractions: Mapping[str, float]) -> None:
    """ValueError unless every share is in (0, 1] and they sum to at most 1."""
    if wrong := {name: share for name, share in fractions.items() if not 0 < share <= 1}:
        raise ValueError(f"fractions must be in (0, 1], got {wrong}")
    if sum(fractions.values()) > 1 + FRACTION_TOLERANCE:
        raise ValueError(f"fractions sum to {sum(fractions.values()):g}, expected at most 1: {dict(fractions)}")


def _check_numbers(patients_per_finding: Mapping[str, int], fractions: Mapping[str, float]) -> None:
    """ValueError unless every number is positive and no split is made twice."""
    if wrong := {name: number for name, number in patients_per_finding.items() if number < 1}:
        raise ValueError(f"patients_per_finding must be at least 1, got {wrong}")
    if both := [name for name in patients_per_finding if name in fractions]:
        raise ValueError(f"{', '.join(both)} is in `patients_per_finding` and in `fractions`; remove it from one")
    if "train" in patients_per_finding and not fractions:
        raise ValueError("the others are train: rename the train of `patients_per_finding`, or add `fractions`")
