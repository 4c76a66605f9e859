"""The test split: images, true boxes, maps and resamples. Nothing is chosen on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.coco import CocoBoxes
from cxr.imaging.pictures import Pictures
from eval.stats.bootstrap import Counts
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Rule
from stage2_pseudolabel.boxes.search import Scored, detect
from stage2_pseudolabel.cam_maps.store import SplitMaps


@dataclass(frozen=True)
class SplitData:
    """Images, true boxes and maps of the test split, and the bootstrap resamples that all entries share.

    truth: N images, K findings. maps: (N, K, h, w) per method and probabilities (N, K), in the order of `truth`.
    pictures: the N images. frame: how maps lie over them.
    counts: (R, N) of `resample_counts` over `truth.groups`, shared by all entries so that differences are paired.
    readers: group of readers -> ids of the images that the group read; empty without groups.
    """

    truth: CocoBoxes
    maps: SplitMaps
    pictures: Pictures
    frame: Frame
    counts: Counts
    readers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def detect(self, rules: Sequence[Rule], methods: Sequence[str]) -> CocoBoxes:
        """Scored boxes of all findings in all images. rules, methods: (K,) box rule and CAM method of each finding.

        Findings of one method are detected together, because the maps of two methods may differ in size.
        """
        tables = [self._found(rules, methods, method) for method in dict.fromkeys(methods)]
        return self.truth.with_boxes(pd.concat(tables, ignore_index=True))

    def _found(self, rules: Sequence[Rule], methods: Sequence[str], method: str) -> pd.DataFrame:
        columns = [column for column, own in enumerate(methods) if own == method]
        findings = tuple(self.truth.findings[column] for column in columns)
        boxes = self.truth.boxes
        truth = CocoBoxes(self.truth.images, boxes[boxes["finding"].isin(findings)], findings, self.truth.info)
        scored = Scored(self.maps.maps[method][:, columns], self.maps.probabilities[:, columns])
        own_rules = [rules[column] for column in columns]
        return detect(scored, truth, own_rules, frame=self.frame)

    def read_by(self, group: str) -> npt.NDArray[np.int32]:
        """(N,) 1 for the images that this group of readers read, else 0."""
        own = self.truth.images["image_id"].isin(list(self.readers[group]))
        return np.asarray(own, dtype=np.int32)
