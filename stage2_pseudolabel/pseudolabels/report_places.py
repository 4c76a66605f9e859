"""Places from reports as a gate of pseudo-boxes: a finding on the left gets no box on the right.

Maps are set to their minimum outside the place before the rule of the finding runs, and a box is kept if its centre
lies in the place. So the rule finds the best box of the place, not the best of the image.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.config import UserError
from cxr.datasets.text_files import read_text_table
from cxr.tables import Dataset
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Maps
from stage2_pseudolabel.settings.exported_boxes import ReportPlaceSettings

SIDES = ("L", "R", "B", "")
ZONES: Mapping[str, tuple[float, float]] = {
    "upper": (0.0, 0.55),
    "middle": (0.2, 0.8),
    "lower": (0.4, 1.0),
    "": (0.0, 1.0),
}
"""Zone of the lung -> first and last row as shares of the image. They overlap, because lungs lie differently."""

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class PlaceGate:
    """regions: (image id, finding) -> (M, 4) xyxy in shares of the image. Anything else may be anywhere."""

    regions: Mapping[tuple[str, str], Floats]

    def masked(self, maps: Maps, images: pd.DataFrame, finding: str, *, frame: Frame) -> Maps:
        """The maps (N, h, w) of one finding, each outside of its regions at its minimum.

        images: (N) rows with image_id, width, height.
        """
        gated = maps.copy()
        cells = images[["image_id", "height", "width"]].itertuples(index=False, name=None)
        for row, (image_id, height, width) in enumerate(cells):
            regions = self.regions.get((image_id, finding))
            if regions is not None:
                pixels = regions * [width, height, width, height]
                inside = _inside(frame.from_image(pixels, (height, width)), maps.shape[1:])
                gated[row][~inside] = maps[row].min()
        return gated

    def holds(self, boxes: pd.DataFrame, images: pd.DataFrame) -> Bools:
        """(D,): the centre of the box lies in a region of its image and finding, or there is none."""
        sizes = images.set_index("image_id")[["width", "height"]].loc[boxes["image_id"]].to_numpy(dtype=np.float64)
        x = (boxes["x1"] + boxes["x2"]).to_numpy(dtype=np.float64) / 2 / sizes[:, 0]
        y = (boxes["y1"] + boxes["y2"]).to_numpy(dtype=np.float64) / 2 / sizes[:, 1]
        keys = zip(boxes["image_id"], boxes["finding"], strict=True)
        found = [self.regions.get(key) for key in keys]
        return np.array([_holds(region, x[i], y[i]) for i, region in enumerate(found)], dtype=bool)


def load_gate(settings: ReportPlaceSettings, train: Dataset) -> PlaceGate:
    """The gate of the training images.

    Raises:
        UserError: a table cannot be read, has an unknown side or zone, or no image of `train` is in it.
    """
    reports = read_text_table(settings.labels, required=["report_id", settings.image])
    report_of = _report_of(
        reports[settings.image].tolist(), reports["report_id"].tolist(), train.images["path"].tolist()
    )
    if not report_of:
        raise UserError(
            f"pseudo_labels.report_places: no path in column {settings.image!r} of {settings.labels} is one of the "
            f"training images, such as {next(iter(train.images['path']), '')!r}; give the column of image paths"
        )
    places = _places(settings)
    regions = {
        (image_id, finding): np.array([_region(side, zone, settings) for side, zone in own])
        for image_id, path in zip(train.images["image_id"], train.images["path"], strict=True)
        for finding, own in places.get(report_of.get(path, ""), {}).items()
    }
    num = len({image_id for image_id, _ in regions})
    log.info("pseudo-labels: reports name the place of %d findings in %d images", len(regions), num)
    return PlaceGate(regions)


def _report_of(cells: Sequence[str], report_ids: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """Path of a training image -> its report. Cells may begin with further folders.

    Raises:
        UserError: an image has two reports.
    """
    known = set(paths)
    found: dict[str, str] = {}
    problems = []
    for cell, report_id in zip(cells, report_ids, strict=True):
        path = cell.strip()
        while path not in known and "/" in path:
            path = path.partition("/")[2]
        if path in known and found.setdefault(path, report_id.strip()) != report_id.strip():
            problems.append(
                f"pseudo_labels.report_places: image {path!r} has the reports {found[path]!r} and "
                f"{report_id.strip()!r}; leave one of them in the table"
            )
    if problems:
        raise UserError(problems[:20])
    return found


def _places(settings: ReportPlaceSettings) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Report -> finding -> (side, zone)."""
    table = read_text_table(settings.sides, required=["report_id", "finding", "side", "zone"])
    places: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    problems = []
    rows = table[["report_id", "finding", "side", "zone"]].itertuples(index=False, name=None)
    for report_id, finding, side, zone in rows:
        if side not in SIDES or zone not in ZONES:
            problems.append(
                f"{settings.sides}: side {side!r}, zone {zone!r}; expected L, R or B; upper, middle or lower"
            )
        places[report_id][finding].append((side, zone))
    if problems:
        raise UserError(problems[:20])
    return places


def _region(side: str, zone: str, settings: ReportPlaceSettings) -> tuple[float, float, float, float]:
    """xyxy in shares of the image. The patient's left is on the right of the image."""
    left = 0.5 - settings.margin if side == "L" else 0.0
    right = 0.5 + settings.margin if side == "R" else 1.0
    top, bottom = ZONES[zone if settings.zones else ""]
    return left, top, right, bottom


def _inside(regions: Floats, map_hw: tuple[int, ...]) -> Bools:
    """(h, w): the centre of the cell lies in a region. regions: (M, 4) in shares of the map."""
    height, width = map_hw
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    inside = np.zeros((height, width), dtype=bool)
    for x1, y1, x2, y2 in regions:
        inside |= ((y >= y1) & (y <= y2))[:, None] & ((x >= x1) & (x <= x2))
    return inside


def _holds(regions: Floats | None, x: float, y: float) -> bool:
    if regions is None:
        return True
    return any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in regions.tolist())
