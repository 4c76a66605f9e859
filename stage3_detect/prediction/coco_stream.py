"""COCO JSON of any number of images, with little memory and safe against interruption.

Each image adds one line to a file. A second call of the same command continues after the last whole line. At the end
the lines become one COCO file as `cxr.coco` reads it, with two more fields: `shown` of a box says whether its score
reaches the operating point, `image_id` of an image is its name, and `quality` what the quality gate says of it.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import Field, FiniteFloat, InstanceOf

from cxr.config import UserError
from cxr.json_lines import JsonLines, WholeLines, done_images
from cxr.own_json import Shape
from cxr.runs.whole_files import whole_file
from stage3_detect.model.predictor import FoundBox


@dataclass
class Totals:
    """Counts over a whole file. num_images_shown: images with at least one shown box. num_unsuitable: images that the
    quality gate does not pass. reasons: how often for which reason."""

    num_images: int = 0
    num_boxes: int = 0
    num_shown: int = 0
    num_images_shown: int = 0
    num_unsuitable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


Lines = JsonLines | WholeLines


class _Quality(Shape):
    ok: bool
    abstained: bool
    reasons: list[str]
    codes: list[str]
    statistics: dict[str, float]
    features: list[float]
    gate: str


class _Image(Shape):
    """Names of files may hold bytes that are not UTF-8, which pydantic's str refuses."""

    file_name: InstanceOf[str]
    image_id: InstanceOf[str]
    width: int
    height: int
    quality: _Quality | None = None


class _Box(Shape):
    finding: str
    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    area: FiniteFloat
    score: FiniteFloat
    shown: bool
    confidence: FiniteFloat | None = None


class BoxLine(Shape):
    """A line of the growing file: an image and its boxes."""

    image: _Image
    boxes: list[_Box]


def finished_lines(paths: Sequence[Path], known: Collection[str]) -> WholeLines:
    """The lines of all parts. UserError as `BoxLines`."""
    lines = WholeLines(paths, BoxLine)
    done_images(lines, _image_id, known=known)
    return lines


class BoxLines(JsonLines):
    """The growing file. done: ids of the images in it."""

    def __init__(self, path: Path, known: Collection[str]) -> None:
        """Open `path`, new or from an interrupted call. known: ids of the images of the call.

        Raises:
            UserError: a line was not written by this call.
        """
        super().__init__(path, BoxLine)
        self.done = done_images(self, _image_id, known=known)

    def add(self, image: Mapping[str, Any], boxes: Sequence[FoundBox]) -> None:
        """Append an image (file_name, image_id, width, height) and its boxes."""
        self.append({"image": dict(image), "boxes": [_box_entry(box) for box in boxes]})
        self.done.add(str(image["image_id"]))


def _image_id(line: Mapping[str, Any]) -> str:
    return str(line["image"]["image_id"])


def write_stream(path: Path, lines: Lines, *, findings: Sequence[str], info: Mapping[str, Any]) -> Totals:
    """Write all lines as one COCO file, atomically; returns its counts. They are read twice.

    Raises:
        UserError: a box of a line has another finding.
    """
    totals = Totals()
    category_of = {name: number for number, name in enumerate(findings, start=1)}
    categories = [{"id": number, "name": name} for name, number in category_of.items()]
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps(dict(info))},\n"categories": {json.dumps(categories)},\n')
        images = ({"id": number, **line["image"], "region": "full"} for number, line in enumerate(lines, start=1))
        _write_list(file, "images", images)
        file.write(",\n")
        _write_list(file, "annotations", _annotations(lines, category_of, totals, folder=path.parent))
        file.write("}\n")
    return totals


def _annotations(
    lines: Lines, category_of: Mapping[str, int], totals: Totals, *, folder: Path
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        for box in line["boxes"]:
            totals.num_boxes += 1
            finding = box.pop("finding")
            if finding not in category_of:
                known = ", ".join(category_of)
                raise UserError(
                    f"run {folder}: line {number} of its boxes: got the finding {finding!r}, expected one of {known}; "
                    "give another --out"
                )
            box["category_id"] = category_of[finding]
            yield {"id": totals.num_boxes, "image_id": number, **box, "iscrowd": 0}
        num_shown = sum(box["shown"] for box in line["boxes"])
        totals.num_images += 1
        totals.num_shown += num_shown
        totals.num_images_shown += bool(num_shown)
        codes = (line["image"].get("quality") or {}).get("codes", [])
        totals.num_unsuitable += bool(codes)
        totals.reasons.update(codes)


def _write_list(file: IO[str], name: str, entries: Iterator[dict[str, Any]]) -> None:
    file.write(f'"{name}": [')
    for index, entry in enumerate(entries):
        file.write((",\n" if index else "\n") + json.dumps(entry, allow_nan=False))
    file.write("]")


def _box_entry(box: FoundBox) -> dict[str, Any]:
    x1, y1, x2, y2 = box.xyxy
    entry: dict[str, Any] = {
        "finding": box.finding,
        "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
        "area": round((x2 - x1) * (y2 - y1), 4),
        "score": box.score,
        "shown": box.shown,
    }
    return entry if box.confidence is None else entry | {"confidence": box.confidence}
