"""The images that a classifier has seen, recognised by what they show. It must not be evaluated on copies of them.

`seen_patients` compares names of patients, which say nothing where one image is in two data sets, or in one data set
that is read in two ways. This module compares the images (`cxr.imaging.content_hash`), also resized or stored in
another format.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cxr.config import UserError
from cxr.imaging.content_hash import MAX_DISTANCE, nearest
from cxr.imaging.pictures import Pictures
from cxr.imaging.settings import InputSettings
from cxr.runs.run_folder import atomic_write_text, open_run
from cxr.tables import SHOWN_PROBLEMS, Dataset, Exclusion, OnProblem

OUTPUT = "seen_images"
FILE = "seen_images.csv"
COLUMNS = ["set", "split", "image_id", "content_hash"]
"""Data set, "train" (used for the weights) or "val" (used to choose epoch and thresholds), the image's id in its data
set, and its content hash."""

COPY = "copy of an image that must not be in this split"

Ids = dict[str, list[str]]
"""Split name -> image ids."""

ContentHashes = Mapping[str, str]
"""Image id -> content hash."""

log = logging.getLogger("raybox")


def content_hashes(data: Dataset, settings: InputSettings, *, progress: bool = False) -> ContentHashes:
    """The content hash of each image; from the picture cache, or by decoding every image where there is none."""
    pictures = Pictures(data, settings, progress=progress)
    return dict(zip(pictures.image_ids, pictures.content_hashes(progress=progress), strict=True))


def read_seen_images(run_dir: Path) -> pd.DataFrame:
    """The images that the classifier of a finished stage 1 run has seen, as `COLUMNS`.

    A run of an earlier version did not record them: the table is empty, and a warning says so.
    """
    run = open_run(run_dir, stage="stage1")
    if OUTPUT not in run.manifest["outputs"]:
        log.warning(
            "%s does not record what its images show (it is of an earlier version): copies of its images under other "
            "names are not recognised, only its patients are",
            run.dir,
        )
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = pd.read_csv(run.output(OUTPUT), dtype=str, keep_default_na=False)
    return table.rename(columns={"looks": "content_hash"})  # the column's name in earlier versions


def forbidden(seen: pd.DataFrame, *, choices: str = "val") -> dict[str, pd.DataFrame]:
    """What the split for choices must not show (images used for the weights), and what test must not (all of them)."""
    return {choices: seen[seen["split"] == "train"], "test": seen}


def table_of(data: Dataset, splits: Mapping[str, Sequence[str]], hashes: ContentHashes) -> pd.DataFrame:
    """The images of the splits, as `COLUMNS`."""
    rows = []
    for split, image_ids in splits.items():
        images = data.select(image_ids).images
        for image_id, name in zip(images["image_id"], images["set"], strict=True):
            own_id = image_id.removeprefix(f"{name}/") if name else image_id
            rows.append((name or data.name, split, own_id, hashes[image_id]))
    return pd.DataFrame(rows, columns=COLUMNS, dtype=str)


def write_seen_images(path: Path, tables: Sequence[pd.DataFrame]) -> None:
    """Write the tables as one, each row once."""
    table = pd.concat(tables, ignore_index=True).drop_duplicates()
    atomic_write_text(path, table.to_csv(index=False, lineterminator="\n"))


def without_copies(
    data: Dataset,
    splits: Ids,
    others: Mapping[str, pd.DataFrame],
    hashes: ContentHashes,
    *,
    on_problem: OnProblem | Mapping[str, OnProblem],
    same_set: bool = True,
) -> tuple[Dataset, Ids]:
    """The data set and the splits without copies of other images.

    Args:
        others: split -> table of the images (`COLUMNS`) that none of its images may show.
        on_problem: "exclude" excludes and counts copies; by name of the data set where there are several.
        same_set: also compare with images of the same data set.

    Raises:
        UserError: there are copies of a data set whose `on_problem` is "error".
    """
    found: dict[str, str] = {}
    lines: list[str] = []
    for split, table in others.items():
        for name, own in _by_set(data, splits[split]).items():
            copies = find_copies({i: hashes[i] for i in own}, table if same_set else table[table["set"] != name])
            found |= copies
            if (on_problem if isinstance(on_problem, str) else on_problem[name]) == "error":
                lines += [
                    f"split: image {image_id} of {split} shows the same as {of}" for image_id, of in copies.items()
                ]
    if lines:
        advice = (
            f"split: {len(lines)} images are copies of images that the classifier has seen, or of another split; "
            "give all stages the same split settings, remove the copies from the table, or set `on_problem: exclude` "
            "to exclude and count them"
        )
        raise UserError([*lines[:SHOWN_PROBLEMS], advice])
    if not found:
        return data, splits
    log.warning("excluded: %d images that are copies, for instance %s of %s", len(found), *next(iter(found.items())))
    excluded = (*data.excluded, *(Exclusion(image_id, COPY) for image_id in found))
    ids = data.images["image_id"]
    kept = replace(data.select(ids[~ids.isin(list(found))]), excluded=excluded)
    return kept, {name: [i for i in part if i not in found] for name, part in splits.items()}


def find_copies(hashes: ContentHashes, table: pd.DataFrame) -> dict[str, str]:
    """Image id -> the image of the table that it shows, in words, for each image that is a copy of one."""
    image_ids = [image_id for image_id, own in hashes.items() if own]
    known = table[table["content_hash"] != ""]
    distances, places = nearest([hashes[image_id] for image_id in image_ids], known["content_hash"].tolist())
    found = {}
    for image_id, distance, place in zip(image_ids, distances.tolist(), places.tolist(), strict=True):
        if distance <= MAX_DISTANCE:
            row = known.iloc[place]
            found[image_id] = f"{row['set']}/{row['image_id']} of {row['split']} ({distance} bits differ)"
    return found


def _by_set(data: Dataset, image_ids: Sequence[str]) -> dict[str, list[str]]:
    """Name of the data set -> its images among the given ones."""
    images = data.select(image_ids).images
    names = images["set"].where(images["set"] != "", data.name)
    return {str(name): own["image_id"].tolist() for name, own in images.groupby(names, sort=False)}
