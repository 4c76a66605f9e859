"""Captions of boxes: the probability in words, and a place without overlap."""

from collections.abc import Iterator, Sequence

Plate = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the rendered picture."""


def chance_text(score: float, confidence: float | None) -> str:
    """ "45 %", the calibrated confidence of a box; its score as ".2f" where there is no calibration (None)."""
    if confidence is None:
        return "<0.01" if score < 0.01 else f"{score:.2f}"
    return percent(confidence)


def percent(share: float) -> str:
    """ "45 %", "<1 %": a small chance must not read as none."""
    return "<1 %" if share < 0.01 else f"{100 * share:.0f} %"


def unbroken(text: str) -> str:
    """The text with no-break spaces, which keep a number in one line with its name."""
    return text.replace(" ", "\u00a0")


def place_plate(box: Plate, plate_wh: tuple[int, int], size_wh: tuple[int, int], taken: Sequence[Plate]) -> Plate:
    """Place of a caption: the first place near its box that lies in the picture and covers no other caption.

    The places are tried in this order: above the box, below it, inside it, further down, further up. If all are taken,
    the caption goes to the corner of the box.
    """
    width, height = plate_wh
    for x, y in _places(box, plate_wh, size_wh):
        plate = (x, y, x + width, y + height)
        if y >= 0 and plate[3] <= size_wh[1] and not any(_overlap(plate, other) for other in taken):
            return plate
    x, y = max(0, min(box[0], size_wh[0] - width)), max(0, min(box[1], size_wh[1] - height))
    return (x, y, x + width, y + height)


def _places(box: Plate, plate_wh: tuple[int, int], size_wh: tuple[int, int]) -> Iterator[tuple[int, int]]:
    x1, y1, x2, y2 = box
    width, height = plate_wh
    left, right = (max(0, min(x, size_wh[0] - width)) for x in (x1, x2 - width + 1))
    above, below, inside_top, inside_bottom = y1 - height, y2 + 1, y1, y2 - height + 1
    yield from ((left, above), (left, below), (right, above), (right, below))
    yield from ((left, inside_top), (left, inside_bottom), (right, inside_top), (right, inside_bottom))
    yield from ((left, y) for y in range(inside_top, size_wh[1], height))
    yield from ((left, y) for y in range(above, -1, -height))


def _overlap(a: Plate, b: Plate) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
