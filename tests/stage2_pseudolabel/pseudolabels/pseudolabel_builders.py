"""Tiny training sets, maps and predictors for the tests of pseudo-labels. Pictures are 60 x 40, maps 6 x 4 cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.tables import BOX_COLUMNS, Dataset, Exclusion, box_table, image_table
from eval.detection.confidence import ConfidenceFigures
from eval.detection.curves import Confidence
from eval.stats.calibration import Curve
from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors
from stage2_pseudolabel.pseudolabels.export import ExportRules, PseudoLabels, make_pseudo_labels
from stage2_pseudolabel.pseudolabels.tune_statistics import TuneStatistics
from stage2_pseudolabel.settings.exported_boxes import PseudoLabelSettings
from tests.builders import write_picture
from tests.stage2_pseudolabel.stage2_builders import FINDINGS

FRAME = Frame((32, 48), False)
RULE = ComponentRule("relative", 0.5, 2)
LIT_CELLS = (1, slice(1, 3))
LIT_BOX = [10.0, 10.0, 30.0, 20.0]
"""What RULE makes of a map that is lit in LIT_CELLS, in pixels of a picture."""


def training_set(root: Path, labels: Sequence[Sequence[float]], *boxes: tuple[object, ...]) -> Dataset:
    """One image per row of labels (of FINDINGS), i0, i1, ...; boxes are rows of BOX_COLUMNS."""
    names = [f"i{index}" for index in range(len(labels))]
    for name in names:
        write_picture(root / f"{name}.png", (40, 60))
    images = image_table(image_id=names, path=[f"{name}.png" for name in names])
    table = pd.DataFrame(list(labels), index=names, columns=list(FINDINGS), dtype=float)
    return Dataset("tiny", root, images, table, box_table(pd.DataFrame(list(boxes), columns=BOX_COLUMNS)))


def lit_maps(num_images: int, *, dark: Sequence[tuple[int, int]] = ()) -> np.ndarray:
    """(N, 2, 4, 6) lit in LIT_CELLS; not at the (image, finding) pairs of `dark`."""
    maps = np.zeros((num_images, 2, 4, 6), dtype=np.float32)
    maps[:, :, LIT_CELLS[0], LIT_CELLS[1]] = 1
    for image, finding in dark:
        maps[image, finding] = 0
    return maps


def statistics() -> TuneStatistics:
    """The confidence is half the odds of the score."""
    curve = Curve(scale=1.0, offset=float(np.log(0.5)))
    return TuneStatistics(Confidence(curve, {}), ConfidenceFigures(4, 2, 0.2, 0.25, 0.1))


def exported(
    data: Dataset,
    maps: np.ndarray | Mapping[str, np.ndarray],
    *,
    probability: float | np.ndarray = 0.9,
    settings: PseudoLabelSettings | ExportRules | None = None,
    using: BoxPredictors | None = None,
    bad: Sequence[str] = (),
) -> PseudoLabels:
    """Pseudo-labels by RULE from the maps of "pcam"."""
    all_maps = maps if isinstance(maps, Mapping) else {"pcam": maps}
    shape = (len(data.images), len(FINDINGS))
    lost = tuple(Exclusion(name, "no picture") for name in bad)
    scored = SplitMaps(dict(all_maps), np.full(shape, probability), lost)
    rules = settings if isinstance(settings, ExportRules) else ExportRules(settings or PseudoLabelSettings())
    return make_pseudo_labels(data, scored, using or predictors(), statistics=statistics(), rules=rules)


def predictors(*methods: str) -> BoxPredictors:
    """RULE on the maps of "pcam", or of one method per finding."""
    return BoxPredictors(FINDINGS, methods or ("pcam", "pcam"), (RULE, RULE), FRAME)
