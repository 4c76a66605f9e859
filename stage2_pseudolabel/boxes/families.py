"""The box rules that are tried for one finding, in families that look at the maps once."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats
from cxr.coco import CocoBoxes
from stage2_pseudolabel.boxes.bayes import BayesRule, Candidates, evidence_matrix, posterior_boxes
from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.merge import merge_boxes
from stage2_pseudolabel.boxes.rule import Found, Maps, Rule, first_boxes
from stage2_pseudolabel.settings.boxes import BoxSettings, Contrast, Kind, Merge

Background = npt.NDArray[np.float32] | None
ComponentKind = Literal["relative", "absolute", "percentile", "otsu"]


@dataclass(frozen=True)
class TuneMaps:
    """What the rules of one finding are made from, of the tune split.

    maps: (N, h, w). has_box: (N,) whether the image has a true box of the finding. candidates: its true boxes, with
        their maps where likeness to them is tried.
    owners: (N,) patients, or images where unknown.
    """

    maps: Maps
    has_box: npt.NDArray[np.bool_]
    candidates: Candidates
    owners: Sequence[str]

    @cached_property
    def negatives(self) -> Background:
        """(h, w) mean map of the images without the finding; None of fewer than two."""
        without = self.maps[~self.has_box]
        return without.mean(axis=0, dtype=np.float64).astype(np.float32) if len(without) > 1 else None

    def backgrounds(self, settings: BoxSettings) -> list[Background]:
        """What is taken away from the maps, each to be tried; nothing where the negatives are too few."""
        found: list[Background] = [None] if "none" in settings.background else []
        if "negatives" in settings.background and self.negatives is not None:
            found.append(self.negatives)
        return found or [None]


@dataclass(frozen=True)
class Family:
    """Rules that differ only in how many boxes an image they keep (`rule.first_boxes` makes few out of many).

    form: kind, background, and merging, or contrast and likeness: families of one form differ in their level (threshold
        or beta), and come with it rising. extras: how much of that is beyond the kind's plain form.
    rule: max_boxes -> the rule. find: max_boxes -> what it finds on the tune split, own boxes left out.
    """

    kind: Kind
    form: tuple[object, ...]
    extras: int
    rule: Callable[[int], Rule]
    find: Callable[[int], Found]


def rule_families(settings: BoxSettings, tune: TuneMaps) -> list[Family]:
    """Every family of rules to be tried: plain ones first, of those Bayes', otherwise in the order of the settings.

    Bayes' first, since where a handful of boxes cannot tell the rules apart, their place and size say more than a
    threshold that nothing supports; last without candidates, when its rules find nothing.
    """
    families: list[Family] = []
    for kind in dict.fromkeys(settings.rules):
        families += _bayes(settings, tune) if kind == "bayes" else _components(kind, settings, tune)
    bayes_first = len(tune.candidates) > 0
    return sorted(families, key=lambda family: (family.extras, (family.kind == "bayes") != bayes_first))


def _components(kind: ComponentKind, settings: BoxSettings, tune: TuneMaps) -> list[Family]:
    families = []
    for background in tune.backgrounds(settings):
        for level in _levels(kind, settings, tune.maps, background):
            form = _ComponentForm(
                tune.maps, ComponentRule(kind, level, min_area=settings.min_area, background=background)
            )
            for merge in dict.fromkeys(settings.merge):
                chosen = (merge, settings.merge_iou)
                families.append(
                    Family(
                        kind,
                        (kind, background is not None, merge),
                        (background is not None) + (merge != "none"),
                        partial(form.rule, *chosen),
                        partial(form.find, *chosen),
                    )
                )
    return families


@dataclass(frozen=True)
class _ComponentForm:
    """Component rules that share their components: they differ in what is merged, and how many are kept."""

    maps: Maps
    plain: ComponentRule

    @cached_property
    def components(self) -> Found:
        return replace(self.plain, max_boxes=sys.maxsize).find(self.maps)

    def rule(self, merge: Merge, merge_iou: float, max_boxes: int) -> ComponentRule:
        return replace(self.plain, merge=merge, merge_iou=merge_iou, max_boxes=max_boxes)

    def find(self, merge: Merge, merge_iou: float, max_boxes: int) -> Found:
        return first_boxes(merge_boxes(self.components, merge, iou=merge_iou), max_boxes)


def _levels(kind: ComponentKind, settings: BoxSettings, maps: Maps, background: Background) -> list[float]:
    """Thresholds of one kind, rising; absolute ones are quantiles of the finding's own maps over the tune split."""
    if kind == "absolute":
        values = maps if background is None else maps - background
        shares = sorted(set(settings.absolute_quantiles))
        return [float(level) for level in np.quantile(values, shares)] if maps.size else [0.0] * len(shares)
    listed = {
        "relative": settings.relative_thresholds,
        "percentile": settings.percentiles,
        "otsu": settings.otsu_factors,
    }
    return sorted(set(listed[kind]))


def _bayes(settings: BoxSettings, tune: TuneMaps) -> list[Family]:
    families = []
    contrasts, likenesses = dict.fromkeys(settings.bayes_contrasts), sorted(set(settings.bayes_similarities))
    forms = product(tune.backgrounds(settings), contrasts, likenesses)
    for number, (background, contrast, likeness) in enumerate(forms):
        form = _BayesForm(tune, contrast, background, likeness)
        key = ("bayes", background is not None, contrast, likeness)
        extras = (background is not None) + (contrast != "mean") + (likeness > 0)
        for beta in sorted(set(settings.bayes_betas)):
            if beta > 0 or number == 0:  # beta 0 looks at no map: the first form stands for all
                families.append(Family("bayes", key, extras, partial(form.rule, beta), partial(form.find, beta)))
    return families


@dataclass(frozen=True)
class _BayesForm:
    """Bayes rules that share their evidence."""

    tune: TuneMaps
    contrast: Contrast
    background: Background
    likeness: float

    @cached_property
    def evidence(self) -> Floats:
        return evidence_matrix(
            self.tune.maps,
            self.tune.candidates,
            contrast=self.contrast,
            background=self.background,
            likeness=self.likeness,
        )

    def rule(self, beta: float, max_boxes: int) -> BayesRule:
        return BayesRule(
            self.tune.candidates,
            beta=beta,
            max_boxes=max_boxes,
            contrast=self.contrast,
            background=self.background,
            likeness=self.likeness,
        )

    def find(self, beta: float, max_boxes: int) -> Found:
        tune = self.tune
        return posterior_boxes(self.evidence, tune.candidates, beta=beta, max_boxes=max_boxes, owners=tune.owners)


def box_candidates(truth: CocoBoxes, finding: str, frame: Frame, *, max_candidates: int) -> Candidates:
    """The finding's true boxes as candidates; an even sample of them where there are more than `max_candidates`.

    Regions (iscrowd) are none.
    """
    own = truth.boxes[(truth.boxes["finding"] == finding).to_numpy()]
    if "iscrowd" in own:
        own = own[(own["iscrowd"] == 0).to_numpy()]
    if len(own) > max_candidates:
        own = own.iloc[np.linspace(0, len(own) - 1, max_candidates).round().astype(int)]
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    rows = [row_of[image_id] for image_id in own["image_id"]]
    sizes = truth.images[["height", "width"]].to_numpy(dtype=np.int64)[rows].tolist()
    corners = own[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
    boxes = [frame.from_image(box[None], (height, width)) for box, (height, width) in zip(corners, sizes, strict=True)]
    groups = truth.groups
    return Candidates(np.concatenate([np.zeros((0, 4)), *boxes]), tuple(groups[row] for row in rows), tuple(rows))
