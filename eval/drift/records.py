"""What is known of each image that a detector has seen: its quality, statistics, features, and scores.

Stage 3 writes such records of its tune images, `predict.py` into `predictions.json`, the service (`--records`) as JSON
lines. No pixels are needed to compare them.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cxr.arrays import Floats
from cxr.config import UserError
from cxr.input_files import read_text
from cxr.runs.run_folder import open_run

REFUSED = "refused"
"""1 for an image that the quality gate refuses, else 0."""
FEATURE, SCORE = "feature ", "score "
"""How the names of features and scores begin."""

_OUTPUTS = {"stage3": "image_records", "predictions": "predictions"}
_ADVICE = "give a stage 3 run, a folder of predict.py, or a file that the service wrote with --records"

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]
"""Differences of larger numbers would not be finite."""


class ImageQuality(BaseModel):
    """What the quality gate says of an image. gate: identity of its reference, which features depend on."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    reasons: tuple[str, ...] = ()
    statistics: dict[str, Number]
    features: tuple[Number, ...] = ()
    gate: str = ""


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    quality: ImageQuality
    scores: dict[str, Number]


@dataclass(frozen=True)
class ImageRecords:
    """The records of N images.

    source: where they come from. values: (N,) numbers by name. partial: names that only some images have. gate: "" for
    several or none. synthetic: computer-generated images.
    """

    source: str
    values: Mapping[str, Floats]
    partial: tuple[str, ...]
    gate: str
    synthetic: bool

    @property
    def num_images(self) -> int:
        return len(self.values[REFUSED])


def read_records(path: Path, *, option: str) -> ImageRecords:
    """Read the records of a stage 3 run, of a folder of `predict.py`, or of a file of the service.

    Raises:
        UserError: there are none, or a file is damaged. The message begins with `option`.
    """
    file, synthetic = _file_of(path, option)
    text = read_text(file, what=option, advice=_ADVICE)
    try:
        if file.suffix == ".jsonl":
            lines = list(_lines(text))
        else:
            content = json.loads(text)
            lines = list(_of_coco(content))
            synthetic |= "learned_from" in content.get("info", {})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{option} {file}: no records of images: {where}: {problem['msg']}; {_ADVICE}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{option} {file}: no records of images ({error!r}); {_ADVICE}") from None
    if not lines:
        raise UserError(f"{option} {file}: holds no image; {_ADVICE}")
    return _table(str(path), lines, synthetic=synthetic)


def _file_of(path: Path, option: str) -> tuple[Path, bool]:
    """The file with the records, and whether its run has learned from synthetic images."""
    if path.is_file():
        return path, False
    if not (path / "manifest.json").is_file():
        raise UserError(f"{option} {path}: is no file and no finished run; {_ADVICE}")
    run = open_run(path)
    if run.stage not in _OUTPUTS:
        raise UserError(f"{option} {path}: is a run of {run.stage}; {_ADVICE}")
    name = _OUTPUTS[run.stage]
    if name not in run.manifest["outputs"]:
        raise UserError(
            f"{option} {path}: is a run of an older version, without records of its images; give the folder of a call "
            "of predict.py on good images instead"
        )
    return run.output(name), bool(run.manifest.get("synthetic"))


def _lines(text: str) -> Iterator[_Line]:
    """One record a line; a last line without its end is still being written."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            yield _Line.model_validate_json(line)


def _of_coco(content: Mapping[str, Any]) -> Iterator[_Line]:
    """The images of `predictions.json`; the score of a finding is that of its best box, 0 without one."""
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    best: dict[int, dict[str, float]] = {entry["id"]: dict.fromkeys(names.values(), 0.0) for entry in content["images"]}
    for box in content["annotations"]:
        scores, finding = best[box["image_id"]], names[box["category_id"]]
        if not math.isfinite(box["score"]):  # the best of several would hide it
            raise ValueError(f"score {box['score']} of a box in image {box['image_id']}")
        scores[finding] = max(scores[finding], box["score"])
    for entry in content["images"]:
        yield _Line.model_validate({"quality": entry["quality"], "scores": best[entry["id"]]})


def _table(source: str, lines: Sequence[_Line], *, synthetic: bool) -> ImageRecords:
    gates = {line.quality.gate for line in lines}
    rows = [_numbers(line) for line in lines]
    has_all = {name: all(name in row for row in rows) for name in dict.fromkeys(name for row in rows for name in row)}
    values = {name: np.array([row[name] for row in rows]) for name, whole in has_all.items() if whole}
    partial = tuple(name for name, whole in has_all.items() if not whole)
    return ImageRecords(source, values, partial, gates.pop() if len(gates) == 1 else "", synthetic)


def _numbers(line: _Line) -> dict[str, float]:
    quality = line.quality
    features = {f"{FEATURE}{number}": value for number, value in enumerate(quality.features, start=1)}
    scores = {f"{SCORE}{finding}": value for finding, value in line.scores.items()}
    return {REFUSED: float(bool(quality.reasons)), **quality.statistics, **features, **scores}
