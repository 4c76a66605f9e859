"""A leaderboard of entries that have only AP40, for the tests of eval.leaderboard."""

import numpy as np

from cxr.coco import boxes_table
from eval.leaderboard.leaderboard import Entry, Kind, Leaderboard
from eval.stats.measures import Bootstrapped
from tests.eval.detection.box_builders import NAN, coco_boxes

FINDINGS = ("Edema", "Nodule/Mass")
TRUTH = coco_boxes([("a", "Edema", 0, 0, 30, 20, NAN)], findings=FINDINGS)


def ap40(value: float, spread: float = 0.01, *, size: int = 101) -> Bootstrapped:
    """The same value for both findings, with resamples within `spread`."""
    samples = np.repeat(np.linspace(value - spread, value + spread, size)[:, None], 2, axis=1)
    return Bootstrapped("ap40", FINDINGS, np.array([value, value]), samples)


def entry(name: str, value: float, *, kind: Kind = "detector", spread: float = 0.01, size: int = 101) -> Entry:
    return Entry(name, kind, TRUTH.with_boxes(boxes_table()), {"ap40": ap40(value, spread, size=size)})


def board_of(*entries: Entry, **options: object) -> Leaderboard[Entry]:
    """The first entry is the main one."""
    return Leaderboard(TRUTH, entries, entries[0], **options)  # type: ignore[arg-type]
