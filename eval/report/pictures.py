"""Pictures for reports: boxes and maps over radiographs, grids of tiles. RGB uint8 throughout."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from eval.report.captions import Plate, place_plate

Rgb = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Colours that people with colour-blindness can tell apart, light enough for dark radiographs (Okabe & Ito, Color
# Universal Design, 2008; green lightened).
BLUE, ORANGE, GREEN, YELLOW = (86, 180, 233), (230, 159, 0), (0, 190, 140), (240, 228, 66)
WHITE, GREY, INK, BLACK = (255, 255, 255), (225, 225, 225), (31, 41, 51), (0, 0, 0)

MAP_COLOURS = "inferno"
_JPEG_QUALITY = 88
_MIN_SIDE_OF_THICK_LINES_PX = 200
"""Lines are 2 px wide from this shorter side on, otherwise 1 px."""


def as_rgb(gray: npt.ArrayLike) -> Rgb:
    """(H, W) in [0, 1] -> (H, W, 3) grey; values outside are clipped, not-a-number is black."""
    values = np.nan_to_num(np.asarray(gray, dtype=np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2)


def overlay_map(
    gray: npt.ArrayLike, heat: npt.ArrayLike, *, vmin: float = 0.0, vmax: float = 1.0, opacity: float = 0.65
) -> Rgb:
    """Blend a map over a radiograph, on an absolute scale; returns (H, W, 3).

    gray: (H, W) in [0, 1]. heat: (h, w), resized to (H, W); NaN shows as vmin. From vmin, which is transparent, to
    vmax, the strongest colour, equal colours mean equal values. With vmin >= vmax the picture stays as it is.
    """
    base = as_rgb(gray)
    size_wh = (base.shape[1], base.shape[0])
    values = np.asarray(heat, dtype=np.float32)
    strength = np.zeros_like(values)
    if vmax > vmin:
        scaled = (np.nan_to_num(values, nan=vmin, posinf=vmax, neginf=vmin) - vmin) / (vmax - vmin)
        strength = np.clip(scaled, 0, 1).astype(np.float32)
    strength = np.clip(cv2.resize(strength, size_wh, interpolation=cv2.INTER_LINEAR), 0, 1)
    colour = colormaps[MAP_COLOURS](strength)[:, :, :3] * 255
    # Opacity follows the value: where there is no evidence the radiograph stays untouched.
    alpha = opacity * np.sqrt(strength)[:, :, None]
    mixed: Rgb = np.rint(base * (1 - alpha) + colour * alpha).astype(np.uint8)
    return mixed


@dataclass(frozen=True)
class BoxLayer:
    """Boxes of one colour: xyxy (N, 4) in pixels of the image; captions: none, or N texts ("" for none)."""

    xyxy: npt.ArrayLike
    colour: Colour
    captions: Sequence[str] = ()
    dashed: bool = False


def draw_layers(rgb: Rgb, layers: Sequence[BoxLayer], *, image_wh: tuple[float, float]) -> Rgb:
    """A copy of (H, W, 3), a picture of the image in any size, with the boxes of all layers, later ones on top.

    image_wh: size of the image whose pixels the boxes count. Captions are drawn after all boxes, and cover no other
    caption while there is room (see `place_plate`); those of later boxes are placed first.
    """
    factors = np.tile(np.divide(rgb.shape[1::-1], image_wh), 2)
    tags: list[_Tag] = []
    for layer in layers:
        boxes = np.asarray(layer.xyxy, dtype=np.float64).reshape(-1, 4) * factors
        assert len(layer.captions) in (0, len(boxes)), "one caption per box"
        rgb = draw_boxes(rgb, boxes, colour=layer.colour, dashed=layer.dashed)
        corners = _corners(boxes, rgb)
        tags += [_Tag(text, box, layer.colour) for text, box in zip(layer.captions, corners, strict=False) if text]
    return _draw_tags(rgb, tags)


def draw_boxes(rgb: Rgb, xyxy: npt.ArrayLike, *, colour: Colour = BLUE, dashed: bool = False) -> Rgb:
    """A copy of (H, W, 3) with boxes (N, 4) in its pixels.

    A thin dark edge around the lines keeps them visible on bright lungs and bright maps.
    """
    drawn = rgb.copy()
    thickness = 2 if min(drawn.shape[:2]) >= _MIN_SIDE_OF_THICK_LINES_PX else 1
    corners = _corners(np.asarray(xyxy, dtype=np.float64).reshape(-1, 4), drawn)
    for line, edge in ((BLACK, 1), (colour, 0)):
        before, after = thickness // 2 + edge, (thickness + 1) // 2 + edge
        for box in corners:
            for (x1, y1), (x2, y2) in _lines(box, dash=6 * thickness if dashed else 0):
                drawn[max(0, y1 - before) : y2 + after, max(0, x1 - before) : x2 + after] = line
    return drawn


def _corners(xyxy: npt.NDArray[np.float64], rgb: Rgb) -> list[Plate]:
    """Boxes (N, 4) in whole pixels, cut to the picture (H, W, 3)."""
    height, width = rgb.shape[:2]
    boxes: list[Plate] = np.rint(np.clip(xyxy, 0, [width - 1, height - 1] * 2)).astype(int).tolist()
    return boxes


def _lines(box: Sequence[int], *, dash: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ends of the four sides of a box, or of dashes of this length along them, with gaps of the same length."""
    x1, y1, x2, y2 = box
    across, down = dash or max(x2 - x1, 1), dash or max(y2 - y1, 1)
    rows = [((x, y), (min(x + across, x2), y)) for y in (y1, y2) for x in range(x1, max(x2, x1 + 1), 2 * across)]
    return rows + [((x, y), (x, min(y + down, y2))) for x in (x1, x2) for y in range(y1, max(y2, y1 + 1), 2 * down)]


class _Tag(NamedTuple):
    """A caption, its box in pixels of the picture, and their colour."""

    text: str
    box: Plate
    colour: Colour


def _draw_tags(rgb: Rgb, tags: Sequence[_Tag]) -> Rgb:
    """Captions on filled plates. The last one is placed first and, where there is no room, drawn over the others."""
    if not tags:
        return rgb
    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    size_px = max(12, round(min(picture.size) / 30))
    font, plates = font_of(size_px), list[Plate]()
    for tag in reversed(tags):
        plate_wh = (round(draw.textlength(tag.text, font=font)) + 6, round(1.4 * size_px))
        plates.append(place_plate(tag.box, plate_wh, picture.size, plates))
    for tag, (x1, y1, x2, y2) in zip(tags, reversed(plates), strict=True):
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=tag.colour, outline=BLACK)
        draw.text((x1 + 3, (y1 + y2) / 2), tag.text, fill=INK, font=font, anchor="lm")
    return np.asarray(picture).copy()


def with_words(rgb: Rgb, words: str) -> Rgb:
    """A copy of (H, W, 3) with words on a grey plate in the middle of its lower edge."""
    picture = Image.fromarray(rgb)
    width, height = picture.size
    font = font_of(max(10, round(min(width, height) / 22)))
    draw, place = ImageDraw.Draw(picture), (width / 2, height - font.size)
    left, top, right, bottom = draw.textbbox(place, words, font=font, anchor="ms")
    draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), fill=GREY)
    draw.text(place, words, fill=INK, font=font, anchor="ms")
    return np.asarray(picture).copy()


def grid(tiles: Sequence[Rgb], captions: Sequence[str] = (), *, columns: int = 4, tile_px: int = 320) -> Rgb:
    """Tiles of differing sizes in rows, each scaled into a tile_px square and captioned below.

    captions: none, or one text per tile; long ones are wrapped. Without tiles the picture is white.
    """
    assert len(captions) in (0, len(tiles)), "one caption per tile"
    assert columns > 0, "at least one column"
    texts = [wrap(text, width=max(8, tile_px // 9)) for text in captions] or [[] for _ in tiles]
    lines = max((len(text) for text in texts), default=0)
    cells = [_cell(tile, text, lines=lines, tile_px=tile_px) for tile, text in zip(tiles, texts, strict=True)]
    columns = min(columns, max(1, len(cells)))
    blank = np.full_like(cells[0], 255) if cells else np.full((tile_px, tile_px, 3), 255, dtype=np.uint8)
    cells += [blank] * (-len(cells) % columns if cells else 1)
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows, axis=0)


def _cell(tile: Rgb, text: Sequence[str], *, lines: int, tile_px: int) -> Rgb:
    """One tile, scaled and centred, with its caption below, and a margin around."""
    margin, line_px = max(4, tile_px // 40), max(14, tile_px // 16)
    height = tile_px + lines * line_px + (margin if lines else 0)
    cell: Rgb = np.full((height + 2 * margin, tile_px + 2 * margin, 3), 255, dtype=np.uint8)
    scaled = fitted(tile, tile_px)
    top = margin + (tile_px - scaled.shape[0]) // 2
    left = margin + (tile_px - scaled.shape[1]) // 2
    cell[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    if not text:
        return cell
    picture = Image.fromarray(cell)
    draw, font = ImageDraw.Draw(picture), font_of(round(line_px * 0.76))
    for index, line in enumerate(text):
        y = 2 * margin + tile_px + index * line_px
        draw.text((margin + tile_px / 2, y), line, fill=INK, font=font, anchor="ma")
    return np.asarray(picture).copy()


def fitted(picture: npt.NDArray[Any], longer_side_px: int) -> npt.NDArray[Any]:
    """(H, W) or (H, W, 3), resized so that its longer side is `longer_side_px`."""
    height, width = picture.shape[:2]
    scale = longer_side_px / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size_wh, interpolation=method), dtype=picture.dtype)


@cache
def font_of(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries along: present on every machine."""
    return ImageFont.truetype(findfont("DejaVu Sans"), size_px)


def save_png(path: Path, rgb: Rgb) -> Path:
    """Write (H, W, 3) as PNG, making the folder; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, optimize=True)
    return path


def save_jpeg(path: Path, rgb: Rgb) -> Path:
    """Write (H, W, 3) as JPEG, making the folder; returns the path. For galleries: a fifth of a PNG's size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, quality=_JPEG_QUALITY, subsampling=0)
    return path
