"""Render a radiograph with its boxes, captions that do not overlap, and a note below."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import cv2
import numpy as np
from PIL import Image, ImageDraw

from cxr.imaging.files import Pixels, min_max, write_png
from eval.report.captions import Plate, chance_text, place_plate
from eval.report.pictures import BLACK, INK, WHITE, Colour, Rgb, as_rgb, font_of
from stage3_detect.model.predictor import FoundBox
from stage3_detect.palette import colour_of

MIN_SIDE_PX, MAX_SIDE_PX = 640, 1280
"""Limits of the longer side of a rendered picture. Small images are enlarged, so that captions have room."""

_SMALLEST_FONT_PX, _LARGEST_FONT_PX = 9, 26


@dataclass(frozen=True)
class _Tag:
    """A caption and its box."""

    text: str
    box: Plate
    colour: Colour


def render_found(image: Pixels, boxes: Sequence[FoundBox], findings: Sequence[str], *, note: str) -> Rgb:
    """Render an image (H, W) as RGB with its `shown` boxes, and with `note` on a strip below.

    findings: all findings of the run; their order gives the colours.
    """
    longest = max(image.shape)
    scale = min(max(longest, MIN_SIDE_PX), MAX_SIDE_PX) / longest
    size_wh = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    resized = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    picture = as_rgb(min_max(np.asarray(resized)))  # 12 bits in a file of 16 would be black
    height, width = picture.shape[:2]
    ends = np.array([width - 1, height - 1] * 2)
    tags = []
    for box in boxes:
        if box.shown:
            x1, y1, x2, y2 = np.clip(np.rint(np.array(box.xyxy) * scale), 0, ends).astype(int).tolist()
            colour = colour_of(box.finding, findings)
            tags.append(_Tag(caption(box), (x1, y1, x2, y2), colour))
    _draw_lines(picture, tags)
    return _with_note(_draw_tags(picture, tags), note)


def caption(box: FoundBox) -> str:
    """Finding and confidence in percent; the score where the run has no calibration."""
    return f"{box.finding} {chance_text(box.score, box.confidence)}"


def write_picture(path: Path, rgb: Rgb) -> None:
    """Write a PNG file and its folder; OpenCV's compression takes a tenth of the time of Pillow's best."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, rgb)


def _draw_lines(picture: Rgb, tags: Sequence[_Tag]) -> None:
    """Paint the boxes in place. A thin dark edge keeps the lines visible on bright bone. The first boxes are on top."""
    thickness = 3 if min(picture.shape[:2]) >= 800 else 2
    for tag in reversed(tags):
        x1, y1, x2, y2 = tag.box
        for colour, size in ((BLACK, thickness + 2), (tag.colour, thickness)):
            cv2.rectangle(picture, (x1, y1), (x2, y2), colour, size)


def _draw_tags(picture: Rgb, tags: Sequence[_Tag]) -> Rgb:
    if not tags:
        return picture
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    size_px = _font_px(draw, [tag.text for tag in tags], canvas.size)
    font, taken = font_of(size_px), list[Plate]()
    for tag in tags:
        plate_wh = (round(draw.textlength(tag.text, font=font)) + 8, round(size_px * 1.45))
        plate = place_plate(tag.box, plate_wh, canvas.size, taken)
        taken.append(plate)
        draw.rectangle((plate[0], plate[1], plate[2] - 1, plate[3] - 1), fill=tag.colour, outline=BLACK)
        middle = (plate[0] + 4, (plate[1] + plate[3]) / 2)
        draw.text(middle, tag.text, fill=INK, font=font, anchor="lm")
    return np.asarray(canvas).copy()


def _font_px(draw: ImageDraw.ImageDraw, texts: Sequence[str], size_wh: tuple[int, int]) -> int:
    """Font size for the picture's size, smaller where the longest text would not fit."""
    size_px = min(max(round(min(size_wh) / 42), 15), _LARGEST_FONT_PX)
    while size_px > _SMALLEST_FONT_PX:
        if max(draw.textlength(text, font=font_of(size_px)) for text in texts) + 8 <= size_wh[0]:
            break
        size_px -= 1
    return size_px


def _with_note(picture: Rgb, note: str) -> Rgb:
    """Add a dark strip with the note below the picture, as high as the note needs."""
    width = picture.shape[1]
    size_px = min(max(round(width / 60), 13), 18)
    font = font_of(size_px)
    per_line = max(8, int((width - 12) / max(font.getlength(note) / max(len(note), 1), 1)))
    lines = wrap(note, width=per_line)
    line_px = round(size_px * 1.4)
    strip = Image.new("RGB", (width, line_px * len(lines) + 8), BLACK)
    draw = ImageDraw.Draw(strip)
    for index, line in enumerate(lines):
        draw.text((6, 4 + index * line_px), line, fill=WHITE, font=font)
    return np.concatenate([picture, np.asarray(strip)], axis=0)
