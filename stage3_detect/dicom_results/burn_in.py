"""Draw boxes, captions and notes into the pixels of an image."""

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cxr.imaging.files import GrayImage
from eval.report.captions import Plate, chance_text, place_plate
from stage3_detect.dicom_results.result import TrackedBox
from stage3_detect.palette import colour_of

Overlay = npt.NDArray[np.uint8]
"""(H, W, 4) RGBA; alpha is 0 or 255."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_INK, _PAPER = (255, 255, 255, 255), (0, 0, 0, 255)


def draw_overlay(
    size_hw: tuple[int, int],
    boxes: Sequence[TrackedBox],
    findings: Sequence[str],
    notes: Sequence[str],
    *,
    scale: float,
) -> Overlay:
    """Boxes with captions, and a dark strip with the notes below the image, which must not be covered.

    Args:
        size_hw: of the image in the picture. findings: all of the model; their order gives the colours. scale: of the
            picture against the image whose pixels the boxes count.

    Returns:
        As high as the image and the strip.
    """
    height, width = size_hw
    font = ImageFont.load_default(max(12, round(min(size_hw) / 45)))
    lines = _wrapped(notes, width, font)
    line_px = round(1.4 * font.getbbox("Ag")[3])
    canvas = Image.new("RGBA", (width, height + line_px * len(lines) + 8))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, height, width, canvas.height), fill=_PAPER)
    for index, line in enumerate(lines):
        draw.text((8, height + 4 + index * line_px), line, fill=_INK, font=font)
    corners = [_scaled(box, scale, size_hw) for box in boxes]
    colours = [(*colour_of(box.finding, findings), 255) for box in boxes]
    thickness = max(2, round(min(size_hw) / 400))
    for place, colour in reversed(list(zip(corners, colours, strict=True))):
        _draw_box(draw, place, colour, thickness)
    taken: list[Plate] = []
    for box, place, colour in zip(boxes, corners, colours, strict=True):
        taken.append(_draw_caption(draw, caption_of(box), place, _Look(colour, font, (width, height), taken)))
    return np.asarray(canvas)


def caption_of(box: TrackedBox) -> str:
    """ "Pleural Effusion 1: 48 %", or the score without calibration."""
    return f"{box.label}: {chance_text(box.score, box.confidence)}"


def burn_colour(image: GrayImage, overlay: Overlay, size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) 8 bits: the image (h, w) in [0, 1], resized to size_hw, with the overlay on it and below it."""
    height, width = size_hw
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    resized = image if image.shape == size_hw else cv2.resize(image, (width, height), interpolation=method)
    grey = np.zeros(overlay.shape[:2], dtype=np.uint8)
    grey[:height] = np.rint(np.clip(resized, 0, 1) * 255)
    return np.where(overlay[:, :, 3:] > 0, overlay[:, :, :3], grey[:, :, None])


def burn_grey(image: GrayImage, overlay: Overlay, *, bits: int) -> npt.NDArray[np.uint16]:
    """(H, W) of `bits` bits: the image (h, w) in [0, 1] with the overlay's brightness on it and below it."""
    top = 2**bits - 1
    grey = np.zeros(overlay.shape[:2], dtype=np.uint16)
    grey[: image.shape[0]] = np.rint(np.clip(image, 0, 1) * top)
    bright = cv2.cvtColor(np.ascontiguousarray(overlay[:, :, :3]), cv2.COLOR_RGB2GRAY)
    return np.where(overlay[:, :, 3] > 0, np.rint(bright * (top / 255)).astype(np.uint16), grey)


def _scaled(box: TrackedBox, scale: float, size_hw: tuple[int, int]) -> Plate:
    height, width = size_hw
    x1, y1, x2, y2 = (round(value * scale) for value in box.xyxy)
    return min(x1, width - 1), min(y1, height - 1), min(x2, width - 1), min(y2, height - 1)


class _Look(NamedTuple):
    """How a caption looks, the size of the image, and the plates that are taken."""

    colour: tuple[int, int, int, int]
    font: Font
    size_wh: tuple[int, int]
    taken: Sequence[Plate]


def _draw_box(draw: ImageDraw.ImageDraw, place: Plate, colour: tuple[int, int, int, int], thickness: int) -> None:
    """With a thin dark edge on both sides, which keeps the lines visible on bright bone."""
    x1, y1, x2, y2 = place
    edge = max(1, thickness // 2)
    outer = (x1 - edge, y1 - edge, x2 + edge, y2 + edge)
    draw.rectangle(outer, outline=_PAPER, width=thickness + 2 * edge)
    draw.rectangle(place, outline=colour, width=thickness)


def _draw_caption(draw: ImageDraw.ImageDraw, text: str, place: Plate, look: _Look) -> Plate:
    _, top, right, bottom = draw.textbbox((0, 0), text, font=look.font)
    plate_wh = (int(right) + 8, int(bottom + top) + 4)
    plate = place_plate(place, plate_wh, look.size_wh, look.taken)
    draw.rectangle((plate[0], plate[1], plate[2] - 1, plate[3] - 1), fill=look.colour, outline=_PAPER)
    draw.text((plate[0] + 4, plate[1] + 2), text, fill=_PAPER, font=look.font)
    return plate


def _wrapped(notes: Sequence[str], width: int, font: Font) -> list[str]:
    """The notes in lines that fit the width."""
    lines = []
    for note in notes:
        letter = font.getlength(note) / max(len(note), 1)
        lines += wrap(note, max(8, int((width - 16) / max(letter, 1.0))))
    return lines
