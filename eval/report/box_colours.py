"""What the colours and lines of boxes mean, the same in the pictures of all reports."""

from typing import NamedTuple

from eval.report.blocks import Legend
from eval.report.pictures import BLUE, GREEN, GREY, ORANGE, YELLOW, Colour


class BoxKind(NamedTuple):
    """Boxes of one origin. meaning: for the legend."""

    colour: Colour
    meaning: str
    is_dashed: bool = False


TRUE = BoxKind(GREEN, "true boxes, marked by radiologists or known from the phantom")
FROM_MAP = BoxKind(ORANGE, "boxes from the heat map (CAM)")
DETECTED = BoxKind(BLUE, "boxes of the detector")
CORRECT = BoxKind(BLUE, "correct boxes of the detector")
WRONG = BoxKind(BLUE, "wrong boxes of the detector", is_dashed=True)
NEXT_LABELS = BoxKind(YELLOW, "labels of the next round")
LEARNED = BoxKind(YELLOW, "boxes that the detector is trained on")
IGNORED = BoxKind(GREY, "ignore regions", is_dashed=True)


def legend_of(*kinds: BoxKind) -> Legend:
    """The legend of a block: pairs of CSS colour and meaning; dashed lines are striped."""
    return [[_css(kind), kind.meaning] for kind in kinds]


def _css(kind: BoxKind) -> str:
    colour = "rgb({}, {}, {})".format(*kind.colour)
    return f"repeating-linear-gradient(90deg, {colour} 0 4px, #0000 4px 7px)" if kind.is_dashed else colour
