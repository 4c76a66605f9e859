"""The box rules that are tried for one finding, in families that look at the maps once."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import product

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats
from cxr.coco import CocoBoxes
from stage2_pseudolabel.boxes.bayes import BayesRule, Candidates, posterior_boxes
from stage2_pseudolabel.boxes.components import ComponentKind, ComponentRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Found, Maps, Rule, first_boxes
from stage2_pseudolabel.settings.boxes import BoxSettings, Kind

Background = npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class TuneMaps:
    """The tune split of one finding.

    maps: (N, h, w). has_box: (N,) whether the image has a true box of the finding. candidates: these boxes, with their
    maps where similarity is tried. patients: (N,), or the images where unknown.
    """

    maps: Maps
    has_box: npt.NDArray[np.bool_]
    candidates: Candidates
    patients: Sequence[str]

    @cached_property
    def negatives(self) -> Background:
        """(h, w) mean map of the images without the finding; None if there are fewer than two."""
        without = self.maps[~self.has_box]
        return without.mean(axis=0, dtype=np.float64).astype(np.float32) if len(without) > 1 else None

    def backgrounds(self, settings: BoxSettings) -> list[Background]:
        """What is subtracted from the maps, each to be tried; nothing where there are too few negatives."""
        found: list[Background] = [None] if "none" in settings.background else []
        if "negatives" in settings.background and self.negatives is not None:
            found.append(self.negatives)
        return found or [None]


@dataclass(frozen=True)
class Family:
    """Rules that differ only in how many boxes per image they keep (see `rule.first_boxes`).

    form: kind and background, and for Bayes' rules contrast and similarity. Families of one form differ in their level
        (threshold or beta) and are listed with rising levels.
    extras: number of options beyond the kind's plain form.
    rule: max_boxes -> the rule. find: max_boxes -> its boxes on the tune split, without those of the own patient.
    """

    kind: Kind
    form: tuple[object, ...]
    extras: int
    rule: Callable[[int], Rule]
    find: Callable[[int], Found]


def rule_families(settings: BoxSettings, tune: TuneMaps) -> list[Family]:
    """Every family of rules to be tried, in the order in which they win on ties.

    Plain families come first, otherwise the order is that of the settings. Of the plain ones Bayes' is first: where a
    few boxes cannot separate the rules, the usual place and size are better supported than a threshold. Without
    candidates Bayes' rules find nothing and are last.
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
            plain = ComponentRule(kind, level, sys.maxsize, settings.min_area, background)
            families.append(_component_family(plain, cache(partial(plain.find, tune.maps))))
    return families


def _component_family(rule: ComponentRule, shared: Callable[[], Found]) -> Family:
    """The family of `rule`; `shared` gives all its components."""

    def find(max_boxes: int) -> Found:
        return first_boxes(shared(), max_boxes)

    has_background = rule.background is not None
    form = (rule.kind, has_background)
    return Family(rule.kind, form, int(has_background), lambda count: replace(rule, max_boxes=count), find)


def _levels(kind: ComponentKind, settings: BoxSettings, maps: Maps, background: Background) -> list[float]:
    """Thresholds of one kind, rising; absolute ones are quantiles of the finding's maps over the tune split."""
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
    contrasts, similarities = dict.fromkeys(settings.bayes_contrasts), sorted(set(settings.bayes_similarities))
    forms = product(tune.backgrounds(settings), contrasts, similarities)
    for number, (background, contrast, similarity) in enumerate(forms):
        rule = BayesRule(tune.candidates, beta=0, contrast=contrast, background=background, similarity=similarity)
        evidence = cache(partial(rule.evidence, tune.maps))
        for beta in sorted(set(settings.bayes_betas)):
            if beta > 0 or number == 0:  # beta 0 ignores the map, so one form is enough
                families.append(_bayes_family(replace(rule, beta=beta), evidence, tune.patients))
    return families


def _bayes_family(rule: BayesRule, evidence: Callable[[], Floats], patients: Sequence[str]) -> Family:
    """The family of `rule`; `evidence` gives what all betas share."""

    def find(max_boxes: int) -> Found:
        return posterior_boxes(evidence(), rule.candidates, beta=rule.beta, max_boxes=max_boxes, patients=patients)

    has_background = rule.background is not None
    form = ("bayes", has_background, rule.contrast, rule.similarity)
    extras = has_background + (rule.contrast != "mean") + (rule.similarity > 0)
    return Family("bayes", form, extras, lambda count: replace(rule, max_boxes=count), find)


def box_candidates(truth: CocoBoxes, finding: str, frame: Frame, *, max_candidates: int) -> Candidates:
    """The true boxes of a finding, without regions (iscrowd), as candidates; evenly sampled above `max_candidates`."""
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
