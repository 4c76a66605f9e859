"""Checks of the entries of a COCO file of any tool. Each problem is one phrase; `refuse` reports them together."""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from cxr.coco_entries import is_number
from cxr.config import UserError

MAX_SHOWN = 10
"""Problems that an error lists; the others are counted."""

MAX_PIXELS = 1e7
"""Largest coordinate of a box; the areas of much larger boxes would overflow."""

FAR_OVERHANG = 0.1
"""A box that exceeds its image by more than this share of the side is in pixels of another image."""

Ids = Mapping[Hashable, str]
"""Id in a file -> name."""

Size = tuple[int, int]
"""Width and height in pixels."""


def refuse(problems: list[str]) -> None:
    """Raise one UserError with the first problems and the number of the others."""
    if len(problems) > MAX_SHOWN:
        source, more = problems[0].split(": ")[0], len(problems) - MAX_SHOWN
        problems = [*problems[:MAX_SHOWN], f"{source}: {more} more problems of this kind"]
    if problems:
        raise UserError(problems)


def sizes_of(entries: Iterable[Mapping[str, Any]], *, source: str) -> dict[Hashable, Size]:
    """Id of an image -> its size, where the file gives one; none or 0 means unknown.

    Raises:
        UserError: a width or height is no number of pixels.
    """
    sizes: dict[Hashable, Size] = {}
    problems = []
    for entry in entries:
        sides = [entry.get(name) or 0 for name in ("width", "height")]
        if not all(is_number(side) and 0 <= side <= MAX_PIXELS and side == int(side) for side in sides):
            given = " and ".join(f"{name} {entry.get(name)!r}" for name in ("width", "height"))
            problems.append(f"{source}: image {entry['id']!r} has {given}, expected pixels")
        elif all(sides):
            sizes[entry["id"]] = (int(sides[0]), int(sides[1]))
    refuse(problems)
    return sizes


def other_sizes(images: Ids, sizes: Mapping[Hashable, Size], truth: pd.DataFrame) -> list[str]:
    """Problems: images with another size than in the ground truth. images: id -> image_id of `truth`."""
    rows = zip(truth["image_id"], truth["width"], truth["height"], strict=True)
    known = {name: (width, height) for name, width, height in rows if width and height}
    pairs = [(name, sizes[id_], known[name]) for id_, name in images.items() if id_ in sizes and name in known]
    return [
        f"image {name!r} has {own[0]} x {own[1]} pixels, in the ground truth {theirs[0]} x {theirs[1]}; scale its "
        "boxes to that size"
        for name, own, theirs in pairs
        if own != theirs
    ]


def repeated_boxes(annotations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Problems: boxes that are equal to an earlier one in all but their id."""
    seen: dict[str, int] = {}
    problems = []
    for number, entry in enumerate(annotations, start=1):
        key = json.dumps({name: value for name, value in entry.items() if name != "id"}, sort_keys=True)
        if key in seen:
            problems.append(f"box {number}: the same as box {seen[key]}; remove one, nobody can find both")
        seen.setdefault(key, number)
    return problems


def check_pixels(rows: Iterable[tuple[Any, ...]], *, source: str) -> None:
    """UserError if no box reaches beyond the first pixel: then they are shares of the image's sides.

    rows: rows of `cxr.coco.boxes_table`.
    """
    ends = [max(row[4:6]) for row in rows]
    if ends and 0 < max(ends) <= 1:
        raise UserError(
            f"{source}: no box reaches beyond the first pixel of its image, so they are no pixels; multiply them by "
            "the width and height of the images"
        )


def wrong_box(entry: Any, known: tuple[Ids, Ids], sizes: Mapping[Hashable, Size], *, scored: bool) -> str:
    """Why an entry is not a valid box; "" for a valid one."""
    if not isinstance(entry, dict):
        return f"is {type(entry).__name__}, expected {{image_id, category_id, bbox}}"
    needed = ["image_id", "category_id", "bbox", *(["score"] if scored else [])]
    lacking = [name for name in needed if name not in entry]
    if lacking:
        return f"lacks {', '.join(lacking)}"
    sides = "no negative size" if scored else "a positive size"
    checks: list[tuple[str, Callable[[], bool], str]] = [
        ("image_id", lambda: _is_known(entry["image_id"], known[0]), "an image that the ground truth has"),
        ("category_id", lambda: _is_known(entry["category_id"], known[1]), "a class that the ground truth has"),
        (
            "bbox",
            lambda: _is_box(entry["bbox"], may_be_empty=scored),
            f"x, y, width, height up to {MAX_PIXELS:g}, {sides}",
        ),
        ("iscrowd", lambda: scored or entry.get("iscrowd") in (None, 0, 1), "0 or 1"),
        ("score", lambda: not scored or is_number(entry["score"]), "a finite number"),
    ]
    wrong = [f"{name} is {entry.get(name)!r}, expected {what}" for name, fits, what in checks if not fits()]
    size = None if wrong else sizes.get(entry["image_id"])
    if size is not None and _is_far_outside(entry["bbox"], size):
        wrong.append(
            f"bbox {entry['bbox']} ends far outside its image of {size[0]} x {size[1]} pixels; scale it to the image"
        )
    return "; ".join(wrong)


def _is_known(id_: Any, known: Ids) -> bool:
    return isinstance(id_, (int, float, str)) and id_ in known


def _is_box(bbox: Any, *, may_be_empty: bool) -> bool:
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(is_number(value) for value in bbox)):
        return False
    least = min(bbox[2:])
    return (least > 0 or (may_be_empty and least == 0)) and max(map(abs, bbox)) <= MAX_PIXELS


def _is_far_outside(bbox: list[float], size: Size) -> bool:
    starts, ends = bbox[:2], (bbox[0] + bbox[2], bbox[1] + bbox[3])
    return any(
        start < -FAR_OVERHANG * side or end > (1 + FAR_OVERHANG) * side
        for start, end, side in zip(starts, ends, size, strict=True)
    )
