"""Pictures of test images for the report: maps and boxes over radiographs, in the shape of the radiographs."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cxr.arrays import Float32s
from cxr.boxes import CORNERS
from cxr.imaging.geometry import Resize
from eval.detection.measures import positive_pairs
from eval.leaderboard.examples import best_iou, boxes_of, spread, strongest_boxes
from eval.leaderboard.leaderboard import Leaderboard
from eval.leaderboard.names import PER_FINDING, display_name
from eval.report.box_colours import FROM_MAP, TRUE
from eval.report.captions import unbroken
from eval.report.pictures import BoxLayer, Rgb, as_rgb, draw_layers, grid, overlay_map
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.split_data import SplitData

EXAMPLE_TILE_PX, METHOD_TILE_PX = 340, 250
EXAMPLE_COLUMNS, METHOD_COLUMNS = 3, 5


@dataclass(frozen=True)
class Example:
    """An image with a finding. row, column: of the image and the finding in the truth of the test split.

    score: of the best-scored box, NaN without a box. iou: its highest IoU with a true box, 0 without a box.
    """

    row: int
    column: int
    iou: float
    score: float


@dataclass(frozen=True, eq=False)
class Tile:
    """An image (row) with the boxes of one finding (column): true boxes, and those of an entry unless it is None."""

    entry: CamEntry | None
    row: int
    column: int

    @property
    def method(self) -> str | None:
        """The CAM method whose map is shown; None for a prior."""
        return self.entry.methods[self.column] if self.entry is not None and self.entry.methods else None


def ranked_examples(test: SplitData, entry: CamEntry, column: int) -> list[Example]:
    """The images with a finding by falling IoU of the best-scored box; on ties, by rising score."""
    finding = test.truth.findings[column]
    true = test.truth.boxes[test.truth.boxes["finding"] == finding]
    found = entry.detections.boxes[entry.detections.boxes["finding"] == finding]
    top = found.sort_values("score", ascending=False, kind="stable").drop_duplicates("image_id").set_index("image_id")
    iou = dict(zip(top.index, best_iou(top.reset_index(), true).tolist(), strict=True))
    ids, score = test.truth.images["image_id"].tolist(), top["score"].to_dict()
    examples = [
        Example(row, column, iou.get(ids[row], 0.0), score.get(ids[row], float("nan")))
        for row, own in positive_pairs(test.truth)
        if own == column
    ]
    return sorted(examples, key=lambda one: (-one.iou, np.nan_to_num(one.score, nan=-1.0)))


def example_gallery(board: Leaderboard[CamEntry], test: SplitData) -> Rgb:
    """One row per finding with true boxes: the best, median and worst image of the main entry, with map and boxes."""
    shown: list[Tile | None] = []
    captions: list[str] = []
    for column, finding in enumerate(test.truth.findings):
        examples = spread(ranked_examples(test, board.main, column), 1)
        missing = -len(examples) % EXAMPLE_COLUMNS
        shown += [*(Tile(board.main, one.row, column) for (one,) in examples.values()), *[None] * missing]
        captions += [*(_caption(finding, one, rank) for rank, (one,) in examples.items()), *[""] * missing]
    tiles = render_tiles(test, shown, tile_px=EXAMPLE_TILE_PX)
    return grid(tiles, captions, columns=EXAMPLE_COLUMNS, tile_px=EXAMPLE_TILE_PX)


def _caption(finding: str, example: Example, rank: str) -> str:
    score = "no box" if np.isnan(example.score) else f"score {example.score:.2f}"
    return ", ".join([finding, *map(unbroken, (f"{rank}: IoU {example.iou:.2f}", score))])


def shown_findings(test: SplitData, number: int) -> list[int]:
    """Columns of the findings with most images on the test split, at most `number`, in the order of the findings."""
    columns = [column for _, column in positive_pairs(test.truth)]
    count = np.bincount(columns, minlength=len(test.truth.findings))
    most = np.argsort(-count, kind="stable")[:number]
    return sorted(int(column) for column in most if count[column])


def method_galleries(board: Leaderboard[CamEntry], test: SplitData, columns: Sequence[int]) -> list[Rgb]:
    """One picture per finding, all tiles of one image: true boxes alone, then map and boxes of every method.

    The image is the one with the fewest boxes (see `clearest_row`).
    """
    methods = [entry for entry in board.ranked if entry.methods and entry.name != PER_FINDING]
    shown: list[Tile | None] = []
    for column in columns:
        row = clearest_row(test, column)
        shown += [Tile(None, row, column), *(Tile(entry, row, column) for entry in methods)]
    tiles = iter(render_tiles(test, shown, tile_px=METHOD_TILE_PX))
    pictures = []
    for column in columns:
        chosen = board.main.methods[column]
        names = [display_name(one.name) + " (chosen)" * (one.name == chosen) for one in methods]
        own = [next(tiles) for _ in range(1 + len(methods))]
        pictures.append(grid(own, ["readers", *names], columns=METHOD_COLUMNS, tile_px=METHOD_TILE_PX))
    return pictures


def clearest_row(test: SplitData, column: int) -> int:
    """The image with the finding that has the fewest true boxes of all findings; the first on ties."""
    rows = [row for row, own in positive_pairs(test.truth) if own == column]
    count = test.truth.without_ignored().boxes["image_id"].value_counts()
    num_boxes = test.truth.images["image_id"].map(count).to_numpy()
    return min(rows, key=lambda row: (num_boxes[row], row))


def render_tiles(test: SplitData, shown: Sequence[Tile | None], *, tile_px: int) -> list[Rgb]:
    """Pictures with maps and boxes, longer side `tile_px`; white for None. The maps of each method are read once."""
    cams: dict[Tile, Float32s] = {}
    for method in dict.fromkeys(one.method for one in shown if one is not None and one.method is not None):
        maps = test.maps.of(method)
        cams |= {one: maps[one.row, one.column] for one in shown if one is not None and one.method == method}
    blank: Rgb = np.full((1, 1, 3), 255, dtype=np.uint8)
    return [blank if one is None else render_tile(test, one, cams.get(one), tile_px=tile_px) for one in shown]


def render_tile(test: SplitData, shown: Tile, cam: Float32s | None, *, tile_px: int) -> Rgb:
    """One image in its own shape: true boxes, the map `cam` (h, w), the entry's boxes with their scores."""
    image = test.truth.images.iloc[shown.row]
    rgb = radiograph(test, shown.row, cam, longer_side_px=tile_px, opacity=0.5)
    pair = (str(image["image_id"]), test.truth.findings[shown.column])
    layers = [BoxLayer(boxes_of(test.truth.boxes, *pair)[CORNERS].to_numpy(), TRUE.colour)]
    if shown.entry is not None:
        boxes = strongest_boxes(boxes_of(shown.entry.detections.boxes, *pair))
        texts = [f"{score:.2f}" for score in boxes["score"]]
        layers.append(BoxLayer(boxes[CORNERS].to_numpy(), FROM_MAP.colour, texts))
    return draw_layers(rgb, layers, image_wh=(image["width"], image["height"]))


def radiograph(
    test: SplitData, row: int, cam: Float32s | None = None, *, longer_side_px: int, opacity: float = 0.65
) -> Rgb:
    """An image in its own shape, under the map `cam` (h, w) if it is given; the map is scaled to its own maximum."""
    image = test.truth.images.iloc[row]
    image_hw = (int(image["height"]), int(image["width"]))
    scale = longer_side_px / max(image_hw)
    size_hw = (max(1, round(image_hw[0] * scale)), max(1, round(image_hw[1] * scale)))
    gray = in_own_shape(test.pictures[row], test.pictures.transform(image_hw), size_hw)
    if cam is None:
        return as_rgb(gray)
    heat = map_over(cam, test.frame, image_hw, size_hw)
    return overlay_map(gray, heat, vmax=max(float(cam.max()), 0.0), opacity=opacity)


def in_own_shape(picture: npt.NDArray[np.uint8], resize: Resize, size_hw: tuple[int, int]) -> Float32s:
    """The network's input without letterbox bars, resized to the shape of the image: (H, W) in [0, 1] of `size_hw`.

    A picture with three channels shows the first, which is the picture before CLAHE.
    """
    plain = picture if picture.ndim == 2 else picture[:, :, 0]
    content = np.ascontiguousarray(resize.content(plain))
    smaller = size_hw[0] * size_hw[1] < content.size
    resized = cv2.resize(content, size_hw[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return np.asarray(resized / np.float32(255), dtype=np.float32)


def map_over(cam: Float32s, frame: Frame, image_hw: tuple[int, int], size_hw: tuple[int, int]) -> Float32s:
    """The value of a map (h, w) at each pixel of the image resized to `size_hw`, bilinear between the cells.

    frame: where the cells lie over the image; letterbox bars are cut off.
    """
    x, y = ((np.arange(size) + 0.5) / size * own for size, own in zip(size_hw[::-1], image_hw[::-1], strict=True))
    columns = frame.from_image(np.stack([x, 0 * x, x, 0 * x], axis=1), image_hw)[:, 0] * cam.shape[1] - 0.5
    rows = frame.from_image(np.stack([0 * y, y, 0 * y, y], axis=1), image_hw)[:, 1] * cam.shape[0] - 0.5
    map_x, map_y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    laid = cv2.remap(cam, map_x, map_y, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(laid, dtype=np.float32)
