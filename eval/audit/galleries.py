"""Pictures of an audit: what the images look like, and the images that its checks point out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.boxes import CORNERS
from cxr.config import UserError
from cxr.splits import Splits, patients_of
from eval.audit.box_plausibility import FLAGS, suspicious
from eval.audit.checks import Audit
from eval.audit.unusual import MEASURES, unusual_images
from eval.report.blocks import Block, Figure
from eval.report.box_colours import TRUE
from eval.report.format import short
from eval.report.pictures import BoxLayer, Rgb, draw_layers, grid, overlay_map, save_jpeg
from eval.report.radiographs import radiograph_of, short_ids

TILE_PX = 240
COLUMNS = 4
_MAX_TILES = 12
_DENSITY_PX = 64
_MAX_FINDINGS = 12
_SEED = 0

Tile = tuple[Rgb, str]


class Gallery:
    """Tiles of the images of a data set. A file that can no longer be read becomes an empty tile."""

    def __init__(self, audit: Audit, out: Path) -> None:
        self.data, self._out = audit.audited.data, out
        self._rows = {image_id: row for row, image_id in enumerate(self.data.images["image_id"])}
        self._findings = list(audit.audited.findings)
        self._sizes = audit.facts.table[["height", "width"]].to_dict()

    def tile(self, image_id: str, caption: str, *, xyxy: Sequence[float] = ()) -> Tile:
        """The image with a caption and, if given, a box in its pixels."""
        try:
            picture = radiograph_of(self.data, self._rows[image_id], TILE_PX)
        except UserError:
            return np.full((TILE_PX, TILE_PX, 3), 255, dtype=np.uint8), f"{caption} (no longer readable)"
        if xyxy:
            size_wh = (self._sizes["width"][image_id], self._sizes["height"][image_id])
            picture = draw_layers(picture, [BoxLayer(xyxy, TRUE.colour)], image_wh=size_wh)
        return picture, caption

    def positives_of(self, image_id: str) -> str:
        """The positive findings of an image, in words."""
        labels = self.data.labels.loc[image_id, self._findings]
        return ", ".join(str(name) for name, label in labels.items() if label == 1) or "none positive"

    def figure(self, name: str, tiles: Sequence[Tile], title: str, note: str = "", *, columns: int = COLUMNS) -> Figure:
        """The tiles as one picture file."""
        pictures, captions = [picture for picture, _ in tiles], [caption for _, caption in tiles]
        path = self._out / "pictures" / f"{name}.jpg"
        save_jpeg(path, grid(pictures, captions, columns=columns, tile_px=TILE_PX))
        return Figure(title, f"pictures/{path.name}", note)


def sample_blocks(audit: Audit, gallery: Gallery) -> list[Block]:
    """Images drawn at random, as many from each split."""
    decoded = set(audit.facts.table.index)
    splits: Splits = audit.audited.splits or {"": gallery.data.images["image_id"].tolist()}
    random = np.random.default_rng(_SEED)
    tiles: list[Tile] = []
    for name, ids in splits.items():
        own = [image_id for image_id in ids if image_id in decoded]
        chosen = random.permutation(len(own))[: COLUMNS if len(splits) > 1 else 2 * COLUMNS]
        prefix = f"{name}: " if name else ""
        tiles += [gallery.tile(own[i], f"{prefix}{gallery.positives_of(own[i])}") for i in sorted(chosen.tolist())]
    if not tiles:
        return []
    return [gallery.figure("sample", tiles, "Images at random", "Drawn from each split, with their positive findings.")]


def copy_blocks(audit: Audit, gallery: Gallery) -> list[Block]:
    """Pairs of copies side by side: first those in two splits, then those with different labels."""
    copies = audit.copies
    if copies.empty:
        return []
    divisions = audit.audited.divisions
    crossing = (copies[list(divisions)] != "").any(axis=1)
    shown = copies.iloc[np.lexsort([copies["bits"], ~copies["labels differ"], ~crossing])[: _MAX_TILES // 2]]
    ids = shown[["first", "second"]].to_numpy().ravel().tolist()
    names = dict(zip(ids, short_ids(ids), strict=True))
    tiles: list[Tile] = []
    for _, pair in shown.iterrows():
        splits = next((own for name, own in divisions.items() if pair[name]), audit.audited.splits)
        for image_id in (pair["first"], pair["second"]):
            inside = [f"{split}: " for split, members in splits.items() if image_id in members]
            tiles.append(gallery.tile(image_id, f"{''.join(inside)}{names[image_id]}, {pair['kind']}"))
    note = "Pairs side by side: those in two splits first, then those with different labels. copies.csv lists all."
    return [gallery.figure("copies", tiles, "Copies of images", note)]


def crossing_blocks(audit: Audit, gallery: Gallery) -> list[Block]:
    """For some patients in two splits, an image from each."""
    crossing, decoded = audit.crossing, set(audit.facts.table.index)
    if crossing.empty:
        return []
    name = crossing["division"].iloc[0]
    own = crossing[crossing["division"] == name].head(_MAX_TILES // 2)
    patients, ids = patients_of(gallery.data), gallery.data.images["image_id"]
    tiles: list[Tile] = []
    for patient in own["patient"]:
        images = ids[(patients == patient) & ids.isin(decoded)].tolist()
        first_of = {
            split: next((image_id for image_id in images if image_id in members), None)
            for split, members in audit.audited.divisions[name].items()
        }
        pair = [(split, image_id) for split, image_id in first_of.items() if image_id is not None][:2]
        tiles += [gallery.tile(image_id, f"{split}: {patient}") for split, image_id in pair]
    note = f"For {len(own)} patients, an image of each of two splits of the {name}. crossing_patients.csv lists all."
    return [gallery.figure("crossing", tiles, "Patients in two splits", note)] if tiles else []


def suspect_blocks(audit: Audit, gallery: Gallery) -> list[Block]:
    """The images whose labels are least likely, up to twelve."""
    table = audit.suspects
    if table.empty:
        return []
    doubt = (table["label"] - table["probability"]).abs()
    worst = table.loc[doubt.sort_values(ascending=False, kind="stable").index].head(_MAX_TILES)
    tiles = [gallery.tile(image_id, text) for image_id, text in suspect_texts(worst)]
    note = "The labels that fit the predictions least. label_suspects.csv lists all."
    return [gallery.figure("suspects", tiles, "The most suspicious labels", note)]


def suspect_texts(suspects: pd.DataFrame) -> list[tuple[str, str]]:
    """Image id of each suspect, and what does not fit: "Edema: label yes, predicted .02"."""
    rows = suspects[["finding", "image_id", "label", "probability"]].to_numpy(dtype=object).tolist()
    said = {0: "no", 1: "yes"}
    return [
        (image_id, f"{finding}: label {said[label]}, predicted {short(probability)}")
        for finding, image_id, label, probability in rows
    ]


def unusual_blocks(audit: Audit, gallery: Gallery) -> list[Block]:
    """The images that are furthest from the others, at most three of a measure."""
    table = unusual_images(audit.facts.table)
    if table.empty:
        return []
    shown = table.groupby("measure", sort=False).head(3).head(_MAX_TILES)
    rows = shown[["image_id", "measure", "value"]].to_numpy(dtype=object).tolist()
    tiles = [gallery.tile(image_id, f"{MEASURES[measure][0]}: {value:.3g}") for image_id, measure, value in rows]
    note = "With the measure in which each is far from the others. unusual_images.csv lists all."
    return [gallery.figure("unusual", tiles, "Unusual images", note)]


def box_blocks(audit: Audit, gallery: Gallery) -> list[Block]:
    """Where the boxes of each finding are, and boxes that look wrong."""
    boxes = audit.boxes
    if boxes.empty:
        return []
    tiles = _density_tiles(audit)
    note = "Boxes of a finding over the mean of all images with boxes of it; the brighter, the more boxes."
    blocks: list[Block] = [gallery.figure("box_places", tiles, "Where the boxes are", note)]
    wrong = suspicious(boxes)
    wrong = wrong[wrong["image_id"].isin(audit.facts.table.index)]
    if len(wrong):
        shown = pd.concat([wrong[wrong[flag]].head(2) for flag in FLAGS]).drop_duplicates(["image_id", *CORNERS])
        marked = [
            gallery.tile(row["image_id"], f"{row['finding']}: {_flags_of(row)}", xyxy=row[CORNERS].tolist())
            for _, row in shown.head(_MAX_TILES).iterrows()
        ]
        text = "At most two for each reason. suspicious_boxes.csv lists all."
        blocks.append(gallery.figure("suspicious_boxes", marked, "Boxes that look wrong", text))
    return blocks


def _flags_of(box: "pd.Series[Any]") -> str:
    return ", ".join(flag for flag in FLAGS if box[flag])


def _density_tiles(audit: Audit) -> list[Tile]:
    """One tile for each of the most frequent findings: share of its boxes that cover each place."""
    boxes = audit.boxes[audit.boxes["image_id"].isin(audit.facts.table.index)]
    row_of = {image_id: row for row, image_id in enumerate(audit.facts.table.index)}
    tiles: list[Tile] = []
    for finding, number in boxes["finding"].value_counts().head(_MAX_FINDINGS).items():
        own = boxes[boxes["finding"] == finding]
        rows = [row_of[image_id] for image_id in own["image_id"].unique()]
        mean = audit.facts.thumbnails[rows].mean(axis=0) / 255
        density = np.zeros((_DENSITY_PX, _DENSITY_PX))
        for cx, cy, w, h in own[["center_x", "center_y", "width", "height"]].to_numpy(np.float64):
            x1, x2 = (round(end * _DENSITY_PX) for end in (cx - w / 2, cx + w / 2))
            y1, y2 = (round(end * _DENSITY_PX) for end in (cy - h / 2, cy + h / 2))
            density[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] += 1
        tiles.append((overlay_map(mean, density, vmax=float(density.max())), f"{finding}: {number} boxes"))
    return tiles
