"""What two splits of a data set share: patients, and copies of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.datasets.same_content import same_content
from cxr.imaging.content_hash import pairs_within
from cxr.splits import Splits, crossing_patients, patients_of
from cxr.tables import NOT_ASKED, Dataset

IDENTICAL, SIMILAR = "identical file", "same picture"
"""Kinds of copies: equal bytes, and other files that show the same."""

COPY_COLUMNS = ("first", "second", "kind", "bits", "labels differ", "patients differ")
"""Image ids of a pair, the earlier one first; its kind; the number of bits by which the content hashes differ (0 for
identical files); whether a finding has another label in the second image; whether both patients are known and
differ."""

CROSSING_COLUMNS = ("division", "patient", "splits", "images")


def crossing_table(data: Dataset, divisions: Mapping[str, Splits]) -> pd.DataFrame:
    """`CROSSING_COLUMNS`: each patient in two or more splits of a division, with the number of its images."""
    patients = patients_of(data)
    rows = []
    for name, splits in divisions.items():
        used = data.images["image_id"].isin({image_id for ids in splits.values() for image_id in ids})
        numbers = patients[used].value_counts()
        crossing = crossing_patients(data, splits)
        rows += [(name, patient, " and ".join(own), int(numbers[patient])) for patient, own in crossing.items()]
    return pd.DataFrame(rows, columns=list(CROSSING_COLUMNS))


def find_copies(
    data: Dataset, hashes: Mapping[str, str], findings: Sequence[str], divisions: Mapping[str, Splits]
) -> pd.DataFrame:
    """All copies of images: `COPY_COLUMNS`, then for each division the splits of a pair that is in two of them
    ("train and test"), else "".

    hashes: image id -> content hash, for images that can be decoded; the others are not compared. An image that shows
    too little has "" and is compared by its file only.
    """
    decoded = data.images[data.images["image_id"].isin(list(hashes))]
    identical = _identical(decoded, data.root)
    original = {second: first for first, second in identical}  # of three equal files, the last two are no new pair
    similar = [(a, b, bits) for a, b, bits in _similar(decoded, hashes) if original.get(a, a) != original.get(b, b)]
    pairs = [(*pair, IDENTICAL, 0) for pair in identical] + [(a, b, SIMILAR, bits) for a, b, bits in similar]
    rows = dict(zip(data.images["image_id"], range(len(data.images)), strict=True))
    first, second = ([rows[pair[side]] for pair in pairs] for side in (0, 1))
    table = pd.DataFrame(pairs, columns=list(COPY_COLUMNS[:4]))
    table["labels differ"] = _labels_differ(data.labels[list(findings)].to_numpy(np.float64), first, second)
    patients = data.images["patient_id"].to_numpy()
    table["patients differ"] = (
        (patients[first] != patients[second]) & (patients[first] != "") & (patients[second] != "")
    )
    for name, splits in divisions.items():
        split_of = {image_id: split for split, ids in splits.items() for image_id in ids}
        own = [(split_of.get(pair[0], ""), split_of.get(pair[1], "")) for pair in pairs]
        table[name] = [f"{a} and {b}" if a and b and a != b else "" for a, b in own]
    return table


def _identical(images: pd.DataFrame, root: Path) -> list[tuple[str, str]]:
    """Image ids of the first file of each group and of each that repeats it."""
    image_at = dict(zip(zip(images["path"], images["region"], strict=True), images["image_id"], strict=True))
    regions = images["region"].unique()
    repeated = same_content(root, images["path"])
    pairs = [(image_at.get((first, r)), image_at.get((path, r))) for path, first in repeated.items() for r in regions]
    return [(first, second) for first, second in pairs if first is not None and second is not None]


def _similar(images: pd.DataFrame, hashes: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Image ids of two different files that show the same, and the number of bits that differ."""
    shown = images[images["image_id"].map(hashes) != ""]
    ids, paths = shown["image_id"].tolist(), shown["path"].tolist()
    places, bits = pairs_within([hashes[image_id] for image_id in ids])
    found = zip(places.tolist(), bits.tolist(), strict=True)
    return [(ids[a], ids[b], number) for (a, b), number in found if paths[a] != paths[b]]


def _labels_differ(labels: Floats, first: Sequence[int], second: Sequence[int]) -> Bools:
    """(M,) whether a finding that both images of a pair are labelled for has two labels."""
    known = ~np.isnan(labels) & (labels != NOT_ASKED)
    differ = (labels[first] != labels[second]) & known[first] & known[second]
    return np.asarray(differ.any(axis=1), dtype=bool)
