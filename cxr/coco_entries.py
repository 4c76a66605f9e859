"""Checks of the entries of a COCO file of this project before its boxes are taken from them."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

REGIONS = ("full", "left", "right_mirrored")


def check_entries(document: Mapping[str, Any]) -> None:
    """ValueError that says what is wrong with the first invalid image, category or annotation.

    KeyError, TypeError or AttributeError: a field is missing, or something else than a list of objects.
    """
    for name in ("images", "categories"):
        check_unique((entry["id"] for entry in document[name]), f"{name} with the id")
    check_unique((str(entry["name"]) for entry in document["categories"]), "categories with the name")
    for entry in document["images"]:
        _check_image(entry)
    for number, entry in enumerate(document["annotations"], start=1):
        _check_annotation(entry, number)


def check_unique(values: Iterable[Hashable], what: str) -> None:
    """ValueError if a value is there twice. what: what has the values, in the plural."""
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise ValueError(f"two {what} {twice[0]!r}")


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_image(entry: Mapping[str, Any]) -> None:
    for name in ("width", "height"):
        if not (is_number(entry[name]) and entry[name] >= 0):
            raise ValueError(f"the {name} of image {entry['id']!r} is {entry[name]!r}, expected pixels")
    if entry.get("region", "full") not in REGIONS:
        raise ValueError(f"the region of image {entry['id']!r} is {entry['region']!r}, expected {', '.join(REGIONS)}")
    if not isinstance(entry.get("complete", False), bool):
        raise ValueError(f"complete of image {entry['id']!r} is {entry['complete']!r}, expected true or false")


def _check_annotation(entry: Mapping[str, Any], number: int) -> None:
    bbox, score = entry["bbox"], entry.get("score")
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(map(is_number, bbox)) and min(bbox[2:]) >= 0):
        raise ValueError(f"bbox of annotation {number} is {bbox!r}, expected x, y, width, height")
    if score is not None and not is_number(score):
        raise ValueError(f"score of annotation {number} is {score!r}, expected a finite number")
    if entry.get("iscrowd", 0) not in (0, 1, None):
        raise ValueError(f"iscrowd of annotation {number} is {entry['iscrowd']!r}, expected 0 or 1")
