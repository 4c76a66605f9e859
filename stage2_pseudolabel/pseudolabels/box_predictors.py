"""The predictors of pseudo-boxes: a CAM method and a box rule for each finding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Bools
from cxr.boxes import area
from cxr.coco import boxes_table
from stage2_pseudolabel.boxes.detect import image_boxes
from stage2_pseudolabel.boxes.fused_rule import AnyRule, find_boxes
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Found, nothing_found
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.report_places import PlaceGate


@dataclass(frozen=True)
class BoxPredictors:
    """findings, methods, rules: (K,) each. frame: how the maps lie over the images."""

    findings: tuple[str, ...]
    methods: tuple[str, ...]
    rules: tuple[AnyRule, ...]
    frame: Frame

    def __post_init__(self) -> None:
        assert len(self.findings) == len(self.methods) == len(self.rules), "one method and one rule per finding"

    def boxes(
        self,
        scored: SplitMaps,
        images: pd.DataFrame,
        *,
        wanted: Bools,
        patients: Sequence[str] | None = None,
        gate: PlaceGate | None = None,
    ) -> pd.DataFrame:
        """Predict boxes with score = probability x evidence; boxes without area inside the image are dropped.

        Args:
            scored: maps and probabilities of N images; the columns are the findings.
            images: (N) rows with image_id, width, height.
            wanted: (N, K), true where boxes of the finding are wanted.
            patients: (N,) patients of the images whose true boxes the rules know (the tune split).
            gate: places of findings; there are no boxes elsewhere.

        Returns:
            table of cxr.coco.BOX_FIELDS and method, sorted by image, then finding, then falling score.
        """
        assert wanted.shape == (len(images), len(self.findings)), wanted.shape
        found = [nothing_found() for _ in self.findings]
        for method in dict.fromkeys(self.methods):
            stacks = scored.stacks_of(method)  # once per method, because maps are read from disk
            for column in range(len(self.findings)):
                if self.methods[column] == method:
                    rows = np.flatnonzero(wanted[:, column])
                    own = None if patients is None else [patients[row] for row in rows.tolist()]
                    maps = [stack[rows, column] for stack in stacks]
                    if gate is not None:
                        place = images.iloc[rows], self.findings[column]
                        maps = [gate.masked(one, *place, frame=self.frame) for one in maps]
                    one = find_boxes(self.rules[column], maps, patients=own)
                    found[column] = Found(rows[one.image], one.boxes, one.evidence)
        table = self._table(found, scored, images)
        return table if gate is None else table[gate.holds(table, images)].reset_index(drop=True)

    def _table(self, found: Sequence[Found], scored: SplitMaps, images: pd.DataFrame) -> pd.DataFrame:
        column = np.repeat(np.arange(len(found)), [len(one) for one in found])
        image = np.concatenate([one.image for one in found])
        evidence = np.concatenate([one.evidence for one in found])
        sizes_hw = images[["height", "width"]].to_numpy(dtype=np.int64)[image]
        corners = image_boxes(np.concatenate([one.boxes for one in found]), sizes_hw, frame=self.frame)
        names = (images["image_id"].to_numpy(dtype=object)[image], np.array(self.findings, dtype=object)[column])
        scores = scored.probabilities[image, column] * evidence
        rows = zip(*names, *corners.T.tolist(), scores.tolist(), strict=True)
        table = boxes_table(list(rows)).assign(method=np.array(self.methods, dtype=object)[column])
        order = np.lexsort((column, image))
        kept = order[area(corners)[order] > 0]
        return table.iloc[kept].reset_index(drop=True)
