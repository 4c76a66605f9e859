"""A few test images through all stages: radiograph, heat map, CAM boxes, boxes of the detector, ground truth."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.boxes import CORNERS
from cxr.coco import CocoBoxes, read_coco
from cxr.runs.run_folder import FinishedRun
from eval.detection.curves import Confidence
from eval.detection.points import OperatingPoint, default_point, read_points
from eval.leaderboard.examples import MAX_BOXES_SHOWN, MIN_SCORE_SHOWN, boxes_of, strongest_boxes
from eval.leaderboard.names import display_name
from eval.report.blocks import PictureRows
from eval.report.box_colours import DETECTED, FROM_MAP, TRUE, BoxKind, legend_of
from eval.report.captions import chance_text
from eval.report.pictures import BoxLayer, Rgb, draw_layers, save_jpeg, with_words

EXAMPLES_FILE = "examples.json"


@dataclass(frozen=True)
class Column:
    """Boxes to render on radiographs.

    point: decides which boxes are shown; None: the strongest. curves: from score to confidence; None: the captions are
    the scores.
    """

    boxes: CocoBoxes
    kind: BoxKind
    point: OperatingPoint | None = None
    curves: Confidence | None = None

    def of(self, image_id: str, finding: str) -> pd.DataFrame:
        own = boxes_of(self.boxes.without_ignored().boxes, image_id, finding).sort_values("score", kind="stable")
        if own.empty or own["score"].isna().any():
            return own
        return strongest_boxes(own) if self.point is None else own[self.point.shows(own)]

    def captions_of(self, own: pd.DataFrame) -> list[str]:
        """The confidence of each box, or its score; "" for true boxes, which have none."""
        scores = own["score"].to_numpy(dtype=np.float64)
        chances = [None] * len(own) if self.curves is None else self.curves.of(own).tolist()
        pairs = zip(scores.tolist(), chances, strict=True)
        return ["" if np.isnan(score) else chance_text(score, chance) for score, chance in pairs]


def chain_pictures(stage2: FinishedRun, stage3: FinishedRun | None, out: Path) -> PictureRows | None:
    """One row of pictures per example of the stage 2 run, written below `out`; None for a run without examples.

    stage3: the detector that was trained on that run's pseudo-labels; without it there is no such column.
    """
    columns = _columns(stage2, stage3)
    return None if columns is None else example_rows(stage2.dir, columns, out=out)


def example_rows(source: Path, columns: Mapping[str, Column], *, out: Path) -> PictureRows | None:
    """Radiograph and heat map of each example in the folder `source`, then one column per kind of box.

    columns: by name, such as "cam", "detector" and "truth". None where there are no examples.
    """
    path = source / EXAMPLES_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not content.get("examples"):
        return None
    rows = [_row(source, example, columns, out=out) for example in content["examples"]]
    captions = [
        f"{one['finding']}: heat map by {display_name(one['method'])}, test image {one['image_id']}"
        for one in content["examples"]
    ]
    heads = ["1 Radiograph", "2 Heat map of the classifier", *(_HEADS[name] for name in columns)]
    note = f"{content['choice']} {_which(columns.get('detector'))}"
    legend = legend_of(*(column.kind for column in columns.values()))
    return PictureRows("From an image label to boxes", heads, rows, captions, note, [*_HEAT_LEGEND, *legend])


_HEADS = {"cam": "3 Boxes from the heat map", "detector": "4 Boxes of the detector", "truth": "Ground truth"}
_HEAT_LEGEND = [["linear-gradient(90deg, #56106e, #bb3754, #f98e09, #fcffa4)", "heat map: low to high evidence"]]


def _which(detector: Column | None) -> str:
    words = (
        "All pictures show boxes of the named finding alone. Each heat map is scaled to its own maximum. From the heat "
        f"map: at most {MAX_BOXES_SHOWN} boxes, with at least {round(100 * MIN_SCORE_SHOWN)} % of the highest score, "
        "which is the number next to a box. The rule of a finding may also use where the finding usually is on the "
        "tune split, so a box may lie where the heat map shows nothing."
    )
    if detector is None:
        return words
    number = "score" if detector.curves is None else "calibrated confidence: the probability that the box is correct"
    which = "the strongest boxes"
    if detector.point is not None:
        which = f"all boxes at the operating point {detector.point.name}, chosen on the tune split"
    return f"{words} From the detector: {which}; the number is their {number}."


def _columns(stage2: FinishedRun, stage3: FinishedRun | None) -> dict[str, Column] | None:
    best = stage2.manifest.get("best_method")
    files = {"cam": (stage2, f"detections_{best}", FROM_MAP)}
    if stage3 is not None:
        files["detector"] = (stage3, "detections_detector", DETECTED)
    files["truth"] = (stage2, "gt_test", TRUE)
    paths = {name: run.dir / "coco" / f"{file}.json" for name, (run, file, _) in files.items()}
    if not all(path.is_file() for path in paths.values()):
        return None
    columns = {name: Column(read_coco(paths[name]), kind) for name, (_, _, kind) in files.items()}
    if stage3 is not None:
        columns["detector"] = replace(columns["detector"], point=_point(stage3), curves=_curves(stage3))
    return columns


def _curves(stage3: FinishedRun) -> Confidence | None:
    """From score to confidence; None where none was fitted."""
    entry: dict[str, Any] = stage3.manifest.get("score_curves") or {}
    return Confidence.from_dict(entry) if entry else None


def _point(stage3: FinishedRun) -> OperatingPoint | None:
    """The point by which `predict.py` and the service show boxes; None where none was chosen."""
    return default_point(read_points(stage3.manifest.get("operating_points") or {}))


def _row(source: Path, example: dict[str, str], columns: Mapping[str, Column], *, out: Path) -> Sequence[str]:
    """Write the pictures of one example; returns their paths relative to `out`."""
    files = [Image.open(source / example[name]).convert("RGB") for name in ("radiograph", "heat_map")]
    gray, heat = (np.asarray(picture, dtype=np.uint8) for picture in files)
    pictures = {"radiograph": gray, "map": heat}
    pictures |= {name: _with_boxes(gray, column, example) for name, column in columns.items()}
    stem = Path(example["radiograph"]).stem.removesuffix("_radiograph")
    paths = {name: f"pictures/chain/{stem}_{name}.jpg" for name in pictures}
    for name, picture in pictures.items():
        save_jpeg(out / paths[name], picture)
    return list(paths.values())


def _with_boxes(gray: Rgb, column: Column, example: dict[str, str]) -> Rgb:
    images = column.boxes.images
    image = images[images["image_id"] == example["image_id"]].iloc[0]
    own = column.of(example["image_id"], example["finding"])
    if own.empty and column.point is not None:
        return with_words(gray, "no box at the operating point")
    layer = BoxLayer(own[CORNERS].to_numpy(), column.kind.colour, column.captions_of(own))
    return draw_layers(gray, [layer], image_wh=(image["width"], image["height"]))
