"""Pseudo-labels for the eye: what was exported, what it is worth, and boxes from the surest to the least sure."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.boxes import CORNERS, area
from cxr.coco import CocoBoxes
from cxr.imaging.files import read_image
from cxr.tables import count_reasons
from eval.report.blocks import Block, Figure, Table
from eval.report.format import Cell
from eval.report.pictures import BLACK, GREEN, ORANGE, Colour, Rgb, as_rgb, draw_boxes, grid, save_jpeg
from eval.stats.bootstrap import Interval
from stage2_pseudolabel.pseudolabels.export import PseudoLabels

GREY: Colour = (225, 225, 225)
_TILE_PX = 320
_BLANK: Rgb = np.full((1, 1, 3), 255, dtype=np.uint8)
_PLACES = {"surest": 0.0, "median": 0.5, "least sure": 1.0}


def box_statistics(coco: CocoBoxes) -> pd.DataFrame:
    """A row a finding: boxes, images (with one), regions (ignored), median_area (share of the image) and
    median_confidence of the boxes; NaN without any."""
    sizes = coco.images.set_index("image_id")[["width", "height"]].prod(axis=1)
    boxes, regions = coco.boxes[~coco.is_ignored], coco.boxes[coco.is_ignored]
    share = area(boxes[CORNERS]) / boxes["image_id"].map(sizes).to_numpy(dtype=np.float64)
    sure = boxes["confidence"] if "confidence" in boxes else boxes["score"]
    rows = []
    for finding in coco.findings:
        own = (boxes["finding"] == finding).to_numpy()
        rows.append(
            (
                finding,
                int(own.sum()),
                int(boxes.loc[own, "image_id"].nunique()),
                int((regions["finding"] == finding).sum()),
                _median(share[own]),
                _median(sure[own].to_numpy(dtype=np.float64)),
            )
        )
    names = ["finding", "boxes", "images", "regions", "median_area", "median_confidence"]
    return pd.DataFrame(rows, columns=names)


def _median(values: npt.NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def pseudo_table(pseudo: PseudoLabels) -> Table:
    """Boxes and ignore regions of each finding; below, what was left out and why."""
    statistics = box_statistics(pseudo.coco)
    made_by = pseudo.coco.info.get("made_by", {})
    methods, rules = made_by.get("methods", {}), made_by.get("rules", {})
    rows: list[list[Cell]] = [
        [*row, methods.get(row[0], ""), rules.get(row[0], "")] for row in statistics.itertuples(index=False, name=None)
    ]
    columns = ["finding", "boxes", "images", "ignore regions", "median area", "median confidence"]
    return Table("Pseudo-labels", [*columns, "method", "rule"], rows, _note(pseudo))


def _note(pseudo: PseudoLabels) -> str:
    coco = pseudo.coco
    boxed = set(coco.boxes.loc[~coco.is_ignored, "image_id"])
    doubtful = set(coco.boxes["image_id"]) - boxed
    normal = len(coco.images) - len(boxed) - len(doubtful)
    sentences = [f"{len(boxed)} images with boxes, {len(doubtful)} with ignore regions only, {normal} without either."]
    if len(pseudo.dropped):
        sentences.append(f"{len(pseudo.dropped)} further boxes were too unsure beside a better one to be exported.")
    if pseudo.ignored:
        sentences.append(f"Ignore regions: {_counted(pseudo.ignored)}.")
    if pseudo.excluded:
        reasons = _counted(count_reasons(pseudo.excluded))
        sentences.append(f"Left out (excluded.json names them): {len(pseudo.excluded)} images, {reasons}.")
    calibration = pseudo.calibration
    if calibration is not None and np.isfinite(calibration.brier):
        sentences.append(
            "Confidence is the chance to pair off with a true box at IoU .4, learnt from "
            f"{calibration.num_boxes} boxes of the tune split, {calibration.num_hits} of them right; cross-validated "
            f"there, its expected error is {calibration.ece:.3f} and its Brier score {calibration.brier:.3f} "
            f"({calibration.brier_constant:.3f} if all boxes had the same)."
        )
    return " ".join(sentences)


def _counted(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items())


def quality_table(pseudo: PseudoLabels) -> Table | None:
    """Precision and recall a finding, and of all boxes by the rules where some were left out; None without truth."""
    quality = pseudo.quality
    if quality is None:
        return None
    sets = {"": quality.exported}
    if quality.unfiltered.num_boxes != quality.exported.num_boxes:
        sets = {"": quality.exported, " of all boxes": quality.unfiltered}
    measures = {
        f"{word}{ending}": drawn
        for ending, rates in sets.items()
        for word, drawn in (("precision", rates.precision), ("recall", rates.recall))
    }
    rows: list[list[Cell]] = [
        [finding, *(_with_interval(float(d.values[k]), d.interval(finding)) for d in measures.values())]
        for k, finding in enumerate(pseudo.coco.findings)
    ]
    rows.append(["mean", *(_with_interval(d.mean, d.mean_interval) for d in measures.values())])
    note = (
        f"Against {quality.num_true} true boxes of {quality.num_images} training images, at IoU .4, with 95 % "
        f"intervals by patient; {quality.exported.num_boxes} pseudo-boxes in them. A true box in an image that was "
        "left out, or under an ignore region alone, is not found."
    )
    return Table("Pseudo-boxes against true boxes", ["finding", *measures], rows, note, highlight=len(rows) - 1)


def _with_interval(value: float, interval: Interval) -> str | None:
    if np.isnan(value):
        return None
    return f"{value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def pseudo_blocks(run_dir: Path, pseudo: PseudoLabels) -> list[Block]:
    """The report's tables, and the gallery, which is written; without any box or region none, for it would be blank."""
    quality = quality_table(pseudo)
    tables: list[Block] = [pseudo_table(pseudo), *([] if quality is None else [quality])]
    if pseudo.coco.boxes.empty:
        return tables
    name = "pictures/pseudo_labels.jpg"
    save_jpeg(run_dir / name, pseudo_gallery(pseudo))
    note = "Orange: boxes with their confidence. Dashed: ignore regions. Green: true boxes, where known."
    return [*tables, Figure("Pseudo-labels of training images", name, note)]


def pseudo_gallery(pseudo: PseudoLabels) -> Rgb:
    """Four training images a finding, in the file's own pixels: the surest box, the median, the least sure, and an
    ignore region. Boxes orange with their confidence, ignore regions dashed with their reason, true boxes green."""
    tiles, captions = [], []
    for finding in _shown(pseudo.coco):
        for words, image_id in _examples(pseudo.coco, finding):
            tiles.append(_tile(pseudo, image_id, finding) if image_id else _BLANK)
            captions.append(f"{finding}: {words}" if image_id else "")
    return grid(tiles, captions, columns=len(_PLACES) + 1, tile_px=_TILE_PX)


def _shown(coco: CocoBoxes) -> list[str]:
    there = set(coco.boxes["finding"])
    return [finding for finding in coco.findings if finding in there]


def _examples(coco: CocoBoxes, finding: str) -> list[tuple[str, str]]:
    """(words, image_id), four of them: boxes by falling confidence, no image twice, and an image with an ignore region;
    ("", "") where there is none."""
    own = (coco.boxes["finding"] == finding).to_numpy()
    boxes, regions = coco.boxes[own & ~coco.is_ignored], coco.boxes[own & coco.is_ignored]
    order = boxes.sort_values(_sureness(boxes), ascending=False, kind="stable")
    surest_first = order["image_id"].unique().tolist()
    chosen: dict[str, str] = {}
    for words, place in _PLACES.items():
        if surest_first:
            chosen.setdefault(surest_first[round(place * (len(surest_first) - 1))], words)
    examples = [(words, image_id) for image_id, words in chosen.items()]
    examples += [("", "")] * (len(_PLACES) - len(examples))
    if regions.empty:
        return [*examples, ("", "")]
    region = regions.iloc[len(regions) // 2]
    return [*examples, (f"ignored, {region.get('ignored_by', 'no box')}", str(region["image_id"]))]


def _sureness(boxes: pd.DataFrame) -> str:
    return "confidence" if "confidence" in boxes else "score"


def _tile(pseudo: PseudoLabels, image_id: str, finding: str) -> Rgb:
    """The picture with what the file has of one finding, and the true boxes where known."""
    coco = pseudo.coco
    image = coco.images[coco.images["image_id"] == image_id].iloc[0]
    picture = as_rgb(read_image(Path(coco.info["data_root"]) / image["path"], region=image["region"]))
    if pseudo.truth is not None:
        real = pseudo.truth.without_ignored().boxes
        picture = draw_boxes(picture, _of(real, image_id, finding)[CORNERS].to_numpy(), colour=GREEN)
    own = _of(coco.boxes, image_id, finding)
    ignored = coco.is_ignored[own.index]
    picture = draw_dashed(picture, own.loc[ignored, CORNERS].to_numpy())
    boxes = own[~ignored]
    captions = [f"{value:.2f}" for value in boxes[_sureness(boxes)]]
    return draw_boxes(picture, boxes[CORNERS].to_numpy(), colour=ORANGE, captions=captions)


def _of(boxes: pd.DataFrame, image_id: str, finding: str) -> pd.DataFrame:
    return boxes[((boxes["image_id"] == image_id) & (boxes["finding"] == finding)).to_numpy()]


def draw_dashed(rgb: Rgb, xyxy: npt.ArrayLike, *, colour: Colour = GREY) -> Rgb:
    """A copy of (H, W, 3) with dashed boxes (N, 4) in its pixels, edged dark as `draw_boxes` edges them."""
    boxes = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
    drawn = rgb.copy()
    height, width = drawn.shape[:2]
    thickness = max(1, round(min(height, width) / 160))
    dash = 6 * thickness
    corners = np.rint(np.clip(boxes, 0, [width - 1, height - 1] * 2)).astype(int).tolist()
    dashes = [ends for box in corners for ends in _dashes(box, dash)]
    for line, size in ((BLACK, thickness + 2), (colour, thickness)):
        for start, end in dashes:
            cv2.line(drawn, start, end, line, size)
    return drawn


def _dashes(box: Sequence[int], dash: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ends of the dashes along a box's sides, as long as the gaps between them."""
    x1, y1, x2, y2 = box
    across = [((x, y), (min(x + dash, x2), y)) for y in (y1, y2) for x in range(x1, x2, 2 * dash)]
    down = [((x, y), (x, min(y + dash, y2))) for x in (x1, x2) for y in range(y1, y2, 2 * dash)]
    return across + down
