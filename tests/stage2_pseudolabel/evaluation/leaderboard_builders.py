"""A tiny leaderboard: two images that are not square, maps of 4 x 6 cells, rules of one kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes, boxes_table
from cxr.imaging.pictures import Pictures
from cxr.imaging.settings import InputSettings
from cxr.tables import Dataset, empty_boxes, image_table
from eval.leaderboard.leaderboard import Kind
from eval.stats.measures import Bootstrapped
from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.search import Tuned
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.split_data import SplitData
from tests.builders import write_picture
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, blank_maps, truth_of

LESION, EFFUSION = FINDINGS
NET_HW = (32, 48)
NAN = float("nan")
HALF = ComponentRule("relative", 0.5)
COUNTS = np.array([[1, 1], [2, 0], [0, 2]], dtype=np.int32)
"""Resamples of the two images: both, the first alone, the second alone."""

ON_WIDE = ("wide", LESION, 10, 10, 30, 20)
ON_FLAT = ("flat", LESION, 45, 15, 60, 22.5)
"""True boxes that cells [1, 1:3] of the first image and [2, 3] of the second one fill."""


def lit_maps() -> np.ndarray:
    """Maps (2, 2, 4, 6) whose cells are 1 where `ON_WIDE` and `ON_FLAT` are."""
    maps = blank_maps()
    maps[0, 0, 1, 1:3] = 1
    maps[1, 0, 2, 3] = 1
    return maps


def pictures_of(root: Path, *, keep_aspect: bool = False) -> Pictures:
    """The two images of `truth_of`."""
    write_picture(root / "wide.png", (40, 60), bright_xyxy=(10, 10, 30, 20))
    write_picture(root / "flat.png", (30, 90), bright_xyxy=(45, 15, 60, 22))
    images = image_table(image_id=["wide", "flat"], path=["wide.png", "flat.png"])
    labels = pd.DataFrame(0.0, index=pd.Index(["wide", "flat"]), columns=list(FINDINGS))
    data = Dataset("tiny", root, images, labels, empty_boxes())
    return Pictures(data, InputSettings(size_hw=NET_HW, keep_aspect=keep_aspect, cache_dir=None))


def split_data(
    root: Path,
    maps: Mapping[str, np.ndarray],
    *,
    truth: CocoBoxes | None = None,
    readers: Mapping[str, Sequence[str]] | None = None,
) -> SplitData:
    """The two images with a lesion each, or with other true boxes; probabilities .9 for the first image, else .5."""
    probabilities = np.array([[0.9, 0.9], [0.5, 0.5]])
    return SplitData(
        truth or truth_of(ON_WIDE, ON_FLAT),
        SplitMaps(dict(maps), probabilities),
        pictures_of(root),
        Frame(NET_HW, False),
        COUNTS,
        readers or {},
    )


def tuned(*aps: float, rules: Sequence[ComponentRule] = (HALF, HALF)) -> Tuned:
    """Rules that reached these AP of the two findings on the tune split."""
    by_name = dict(zip(FINDINGS, aps, strict=True))
    return Tuned(tuple(rules), by_name, {"relative": (tuple(rules), by_name)}, 2)


def sampled(values: Sequence[float], samples: Sequence[Sequence[float]], *, name: str = "ap40") -> Bootstrapped:
    """A measure of the two findings."""
    return Bootstrapped(name, FINDINGS, np.array(values, dtype=float), np.array(samples, dtype=float).reshape(-1, 2))


def plain_entry(name: str, ap: float, *, spread: float = 0.01, tune: float = 0.0, prior: bool = False) -> CamEntry:
    """An entry that has only its AP40, the same for both findings, with 101 resamples within `spread`."""
    samples = np.repeat(np.linspace(ap - spread, ap + spread, 101)[:, None], 2, axis=1)
    methods = () if prior else (name, name)
    nothing = truth_of().with_boxes(boxes_table())
    own = None if prior else tuned(tune, tune)
    kind: Kind = "prior" if prior else "method"
    return CamEntry(name, kind, nothing, {"ap40": sampled([ap, ap], samples)}, own, methods)
