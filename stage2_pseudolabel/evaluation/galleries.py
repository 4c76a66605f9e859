"""Pictures of the test split for the report: maps and boxes over radiographs, in the radiographs' own shape."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.boxes import CORNERS, Boxes, iou_matrix
from cxr.imaging.geometry import Resize
from eval.detection.measures import positive_pairs
from eval.leaderboard.run_tables import display_name
from eval.report.pictures import BLUE, GREEN, Rgb, as_rgb, captions_apart, draw_boxes, grid, overlay_map
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.evaluation.box_splits import HeldOut
from stage2_pseudolabel.evaluation.leaderboard import PER_FINDING, Board, Entry

EXAMPLE_TILE_PX, METHOD_TILE_PX = 340, 250
EXAMPLE_COLUMNS, METHOD_COLUMNS = 3, 5
MAX_BOXES_SHOWN, MIN_SCORE_SHOWN = 3, 0.2
"""Of an entry's boxes in a tile: at most so many, of at least that share of the strongest one's score."""
_OPACITY = 0.5
_TEXT_WH = (36, 18)
"""Pixels that the text of a score takes in a tile."""
NBSP = "\u00a0"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """An image with a finding. row, column: of the test split's truth. score: of the best-scored box, NaN for none.

    iou: of that box with the true box that it overlaps most; 0 for none. rank: "best", "median" or "worst".
    """

    row: int
    column: int
    iou: float
    score: float
    rank: str = ""


@dataclass(frozen=True, eq=False)
class Tile:
    """An image (row) with the boxes of one finding (column): the readers', and those of an entry, None for none."""

    entry: Entry | None
    row: int
    column: int

    @property
    def method(self) -> str | None:
        """The CAM method whose map is laid over it; None for a prior."""
        return self.entry.methods[self.column] if self.entry is not None and self.entry.methods else None


def ranked_examples(held: HeldOut, entry: Entry, column: int) -> list[Example]:
    """The images with a finding by falling IoU of the best-scored box, and of equal ones the most confident last."""
    finding = held.truth.findings[column]
    true = held.truth.boxes[held.truth.boxes["finding"] == finding]
    found = entry.detections.boxes[entry.detections.boxes["finding"] == finding]
    true_of, found_of = dict(list(true.groupby("image_id"))), dict(list(found.groupby("image_id")))
    examples = []
    for row in (row for row, own in positive_pairs(held.truth) if own == column):
        image_id = held.truth.images["image_id"].iloc[row]
        iou, score = 0.0, float("nan")
        if image_id in found_of:
            top = found_of[image_id].sort_values("score", ascending=False, kind="stable").iloc[:1]
            iou = float(iou_matrix(top[CORNERS], true_of[image_id][CORNERS]).max())
            score = float(top["score"].iloc[0])
        examples.append(Example(row, column, iou, score))
    return sorted(examples, key=lambda one: (-one.iou, np.nan_to_num(one.score, nan=-1.0)))


def best_median_worst(ranked: Sequence[Example]) -> list[Example]:
    """Of examples by falling IoU the first, the middle and the last; fewer where there are fewer."""
    places = (
        {0: "best", len(ranked) - 1: "worst"}
        if len(ranked) > 1
        else dict.fromkeys(range(len(ranked)), "only")
    )
    if len(ranked) > 2:
        places = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    return [
        Example(one.row, one.column, one.iou, one.score, places[place])
        for place, one in enumerate(ranked)
        if place in places
    ]


def example_gallery(board: Board, held: HeldOut) -> Rgb:
    """A row a finding that has true boxes: its best, median and worst image by the chosen entry, map and boxes."""
    shown: list[Tile | None] = []
    captions: list[str] = []
    for column, finding in enumerate(held.truth.findings):
        examples = best_median_worst(ranked_examples(held, board.best, column))
        for one in examples:
            shown.append(Tile(board.best, one.row, column))
            captions.append(_caption(finding, one))
        missing = -len(examples) % EXAMPLE_COLUMNS
        shown += [None] * missing
        captions += [""] * missing
    tiles = draw_tiles(held, shown, tile_px=EXAMPLE_TILE_PX)
    return grid(tiles, captions, columns=EXAMPLE_COLUMNS, tile_px=EXAMPLE_TILE_PX)


def _caption(finding: str, example: Example) -> str:
    """Numbers stay in one line with what they are of (no-break spaces)."""
    score = "no box" if np.isnan(example.score) else f"score {example.score:.2f}"
    return ", ".join(
        [finding, f"{example.rank}: IoU {example.iou:.2f}".replace(" ", NBSP), score.replace(" ", NBSP)]
    )


def shown_findings(held: HeldOut, number: int) -> list[int]:
    """Columns of the findings with most images on the test split, at most `number`, in their order."""
    columns = [column for _, column in positive_pairs(held.truth)]
    count = np.bincount(columns, minlength=len(held.truth.findings))
    most = np.argsort(-count, kind="stable")[:number]
    return sorted(int(column) for column in most if count[column])


def method_galleries(board: Board, held: HeldOut, columns: Sequence[int]) -> list[Rgb]:
    """For each finding one image of it: the readers' boxes alone, then the map and boxes of every method.

    The image is the one with the fewest boxes, which is the clearest to look at; of equals the first.
    """
    methods = [entry for entry in board.ranked if entry.methods and entry.name != PER_FINDING]
    shown: list[Tile | None] = []
    for column in columns:
        row = clearest_row(held, column)
        shown += [Tile(None, row, column), *(Tile(entry, row, column) for entry in methods)]
    tiles = iter(draw_tiles(held, shown, tile_px=METHOD_TILE_PX))
    pictures = []
    for column in columns:
        chosen = board.best.methods[column]
        names = [display_name(one.name) + " (chosen)" * (one.name == chosen) for one in methods]
        own = [next(tiles) for _ in range(1 + len(methods))]
        pictures.append(grid(own, ["readers", *names], columns=METHOD_COLUMNS, tile_px=METHOD_TILE_PX))
    return pictures


def clearest_row(held: HeldOut, column: int) -> int:
    """The image with the finding that has the fewest boxes of any finding; of equals the first."""
    rows = [row for row, own in positive_pairs(held.truth) if own == column]
    count = held.truth.boxes["image_id"].value_counts()
    num_boxes = held.truth.images["image_id"].map(count).to_numpy()
    return min(rows, key=lambda row: (num_boxes[row], row))


def draw_tiles(held: HeldOut, shown: Sequence[Tile | None], *, tile_px: int) -> list[Rgb]:
    """Pictures with maps and boxes, longer side `tile_px`; None is a white one. A method's maps are read once."""
    methods = [None if one is None else one.method for one in shown]
    cams: dict[int, Floats] = {}
    for method in dict.fromkeys(name for name in methods if name is not None):
        maps = held.maps.maps[method]
        cams |= {
            place: maps[one.row, one.column]
            for place, one in enumerate(shown)
            if one is not None and methods[place] == method
        }
    blank: Rgb = np.full((1, 1, 3), 255, dtype=np.uint8)
    return [
        blank if one is None else draw_tile(held, one, cams.get(place), tile_px=tile_px)
        for place, one in enumerate(shown)
    ]


def draw_tile(held: HeldOut, shown: Tile, cam: Floats | None, *, tile_px: int) -> Rgb:
    """A picture in its own shape: readers' boxes green; of an entry, its map `cam` (h, w) and its blue boxes with
    their scores."""
    image = held.truth.images.iloc[shown.row]
    image_hw = (int(image["height"]), int(image["width"]))
    scale = tile_px / max(image_hw)
    tile_hw = (max(1, round(image_hw[0] * scale)), max(1, round(image_hw[1] * scale)))
    gray = in_own_shape(held.pictures[shown.row], held.pictures.transform(image_hw), tile_hw)
    rgb = as_rgb(gray)
    if cam is not None:
        laid = map_over(cam, held.frame, image_hw, tile_hw)
        rgb = overlay_map(gray, laid, vmax=float(max(cam.max(), 0.0)), opacity=_OPACITY)
    factors = np.tile([tile_hw[1] / image_hw[1], tile_hw[0] / image_hw[0]], 2)
    finding = held.truth.findings[shown.column]
    true_boxes, _ = _own(held.truth.boxes, image["image_id"], finding)
    rgb = draw_boxes(rgb, true_boxes * factors, colour=GREEN)
    if shown.entry is None:
        return rgb
    boxes, scores = _own(shown.entry.detections.boxes, image["image_id"], finding)
    order = np.argsort(scores, kind="stable")[
        -MAX_BOXES_SHOWN:
    ]  # the strongest is drawn last, over the others
    order = order[scores[order] >= MIN_SCORE_SHOWN * scores.max(initial=0)]
    boxes, scores = boxes[order] * factors, scores[order]
    return draw_boxes(
        rgb,
        boxes,
        colour=BLUE,
        captions=captions_apart(boxes, [f"{score:.2f}" for score in scores], size_wh=_TEXT_WH),
    )


def _own(table: pd.DataFrame, image_id: str, finding: str) -> tuple[Boxes, npt.NDArray[np.float64]]:
    own = table[(table["image_id"] == image_id) & (table["finding"] == finding)]
    return own[CORNERS].to_numpy(dtype=np.float64), own["score"].to_numpy(dtype=np.float64)


def in_own_shape(picture: npt.NDArray[np.uint8], resize: Resize, size_hw: tuple[int, int]) -> Floats:
    """The network's picture without its bars, stretched back to the image's shape: (H, W) in [0, 1] of `size_hw`.

    Of three channels the first, which is the picture before CLAHE.
    """
    plain = picture if picture.ndim == 2 else picture[:, :, 0]
    (top, left), (height, width) = resize.offset_yx, resize.content_hw
    content = np.ascontiguousarray(plain[top : top + height, left : left + width])
    smaller = size_hw[0] * size_hw[1] < height * width
    drawn = cv2.resize(content, size_hw[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return np.asarray(drawn / np.float32(255), dtype=np.float32)


def map_over(cam: Floats, frame: Frame, image_hw: tuple[int, int], size_hw: tuple[int, int]) -> Floats:
    """A map (h, w) where its cells look: at each pixel of the image drawn in `size_hw`, bilinear between cells.

    The frame says where a cell lies over the image: bars of a letterbox are cut off, a shift is taken back.
    """
    x, y = (
        (np.arange(size) + 0.5) / size * own for size, own in zip(size_hw[::-1], image_hw[::-1], strict=True)
    )
    columns = frame.from_image(np.stack([x, 0 * x, x, 0 * x], axis=1), image_hw)[:, 0] * cam.shape[1] - 0.5
    rows = frame.from_image(np.stack([0 * y, y, 0 * y, y], axis=1), image_hw)[:, 1] * cam.shape[0] - 0.5
    map_x, map_y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    laid = cv2.remap(cam, map_x, map_y, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(laid, dtype=np.float32)
