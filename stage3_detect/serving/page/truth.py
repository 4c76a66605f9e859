"""True boxes from a COCO file, which the reading page draws dashed. Needs no pandas, unlike `cxr.coco`."""

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict

from cxr.config import UserError
from cxr.input_files import read_json
from stage3_detect.model.predictor import Box


class TruthBox(BaseModel):
    """A true box, xyxy in pixels of the image."""

    model_config = ConfigDict(frozen=True)
    finding: str
    box_xyxy: Box


Truth = Mapping[str, list[TruthBox]]
"""File name, without folders -> true boxes; [] for an image without a box."""


def read_truth(path: Path) -> Truth:
    """Read a COCO file. Ignore regions (iscrowd) are left out.

    Raises:
        UserError: the file is missing or damaged, shows parts of images, or has two images of one id or file name.
    """
    document = read_json(path, what="--truth", advice="give a COCO file")
    try:
        names = _names(document, path)
        findings = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        truth: dict[str, list[TruthBox]] = {name: [] for name in names.values()}
        for entry in document["annotations"]:
            if not entry.get("iscrowd"):
                truth[names[entry["image_id"]]].append(_box(entry, findings))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"--truth {path}: not a COCO file of boxes ({error!r})") from None
    return truth


def _names(document: Mapping[str, Any], path: Path) -> dict[Any, str]:
    """COCO's number of an image -> its file name without folders."""
    names: dict[Any, str] = {}
    for entry in document["images"]:
        if entry.get("region", "full") != "full":
            raise UserError(f"--truth {path}: {entry['file_name']} stands for half a file; give boxes of whole images")
        if entry["id"] in names:
            raise UserError(f"--truth {path}: two images have the id {entry['id']!r}; ids must be unique")
        names[entry["id"]] = PurePosixPath(entry["file_name"]).name
    if len(set(names.values())) < len(names):
        taken = sorted(names.values())
        twice = next(a for a, b in pairwise(taken) if a == b)
        raise UserError(f"--truth {path}: two images are called {twice}; the page knows names without folders only")
    return names


def _box(entry: Mapping[str, Any], findings: Mapping[Any, str]) -> TruthBox:
    x, y, width, height = map(float, entry["bbox"])
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
        raise ValueError(f"bbox {entry['bbox']}")
    return TruthBox(finding=findings[entry["category_id"]], box_xyxy=(x, y, x + width, y + height))
