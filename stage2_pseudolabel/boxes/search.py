"""Tune the box rule of each finding on the tune split, by the metric that is reported.

Thousands of rules are tried in seconds: rules that differ only in how many boxes they keep share their boxes, Bayes
rules share their evidence, and the boxes of all rules of a finding are matched to the true boxes together.

The AP of the chosen rule on the tune split is the best of many and therefore too high; the test split gives its real
AP.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from cxr.arrays import Floats, Ints
from cxr.coco import CocoBoxes
from eval.detection.average_precision import average_precisions, evaluate
from eval.detection.indexed import TruthIndex
from eval.detection.matching import MAIN_IOU, Detections, TrueBoxes
from stage2_pseudolabel.boxes.bayes import BayesRule
from stage2_pseudolabel.boxes.detect import Scored, detect, image_boxes, sizes_hw_of
from stage2_pseudolabel.boxes.families import TuneMaps, box_candidates, rule_families
from stage2_pseudolabel.boxes.fused_rule import AnyRule, fused_rules
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Found, Rule
from stage2_pseudolabel.settings.boxes import BoxSettings

CHOICE_IOUS = (0.3, 0.4, 0.5)
"""Rules are chosen by mean AP at these IoUs: the reported .4 and its neighbours, to reduce the effect of chance."""

NEIGHBOURS = (0.25, 0.5, 0.25)
"""Weights of the next lower level (threshold or beta), a rule's own level, and the next higher one in its score."""

MAX_BOXES_AT_ONCE = 500_000
"""Boxes of all rules that are matched together; bounds the memory to some 100 MB."""

MIN_CELLS_FOR_PROCESSES = 200_000
"""Cells of all maps from which on the findings are shared among processes; below, starting them takes longer."""


@dataclass(frozen=True)
class Tuned:
    """The rules that are best on the tune split.

    rules: (K,), one per finding. aps: finding -> its AP at IoU .4 there (optimistic, the best of many); NaN without a
    true box. by_kind: the same two if only rules of that kind are tried. num_tried: rules tried, over all findings.
    """

    rules: tuple[AnyRule, ...]
    aps: dict[str, float]
    by_kind: Mapping[str, tuple[tuple[AnyRule, ...], dict[str, float]]]
    num_tried: int

    @property
    def mean(self) -> float:
        """Mean AP over the findings that have one; NaN when none has."""
        return mean_of(self.aps)


def tune_rules(scored: Scored, truth: CocoBoxes, settings: BoxSettings, *, frame: Frame) -> Tuned:
    """Find the best rule of each finding on the tune split.

    The score of a rule is its mean AP at IoU .3, .4 and .5, averaged with that of the same rule at the next levels. A
    few dozen boxes favour some of hundreds of rules by luck; luck rarely extends to the neighbours. Where the prior
    without a map is tried (Bayes, beta 0), no rule is chosen whose AP at .4 is below the prior's. The boxes of an
    image's own patient are no candidates there. On ties the simplest rule wins, then Bayes, then the one
    with the fewest boxes (`rule_families`). A finding without a true box in the tune split gets the simplest rule.

    Args:
        scored: images and findings in the order of `truth`.
    """
    sizes_hw, patients = sizes_hw_of(truth), truth.groups
    searches = []
    for column, (finding, true) in enumerate(zip(truth.findings, TruthIndex(truth).by_class, strict=True)):
        maps = np.ascontiguousarray(scored.maps[:, column])
        candidates = box_candidates(truth, finding, frame, max_candidates=settings.max_candidates)
        if any(settings.bayes_similarities):
            candidates = candidates.with_maps(maps)
        has_box = np.isin(np.arange(len(maps)), true.image)
        tune = TuneMaps(maps, has_box, candidates, patients)
        searches.append(_Search(tune, scored.probabilities[:, column], true, sizes_hw, frame))
    num_processes = min(len(searches), os.cpu_count() or 1) if scored.maps.size >= MIN_CELLS_FOR_PROCESSES else 1
    # max_nbytes=None: results must not refer to joblib's temporary files
    tried = Parallel(n_jobs=num_processes, max_nbytes=None)(delayed(_try_all)(one, settings) for one in searches)
    by_kind: dict[str, tuple[tuple[AnyRule, ...], dict[str, float]]] = {
        kind: _rules_and_aps(truth, [_best([one for one in rules if one.rule.kind == kind]) for rules in tried])
        for kind in dict.fromkeys(settings.rules)
    }
    best = [_best(rules) for rules in tried]
    return Tuned(*_rules_and_aps(truth, best), by_kind, num_tried=sum(map(len, tried)))


def fuse_tuned(by_method: Sequence[Tuned], scored: Scored, truth: CocoBoxes, *, frame: Frame) -> Tuned:
    """The rules of several methods as one: their boxes are fused, and the AP is that of the fused boxes.

    Args:
        by_method: what `tune_rules` found for each method. scored: the maps of these methods, in this order.
    """

    def fused(rules: Sequence[Sequence[AnyRule]]) -> tuple[tuple[AnyRule, ...], dict[str, float]]:
        together = fused_rules(rules)
        found = truth.with_boxes(detect(scored, truth, together, frame=frame, leave_own_out=True))
        return together, evaluate(truth, found, ious=(MAIN_IOU,)).ap(MAIN_IOU)

    kinds = {kind: fused([one.by_kind[kind][0] for one in by_method]) for kind in by_method[0].by_kind}
    return Tuned(*fused([one.rules for one in by_method]), kinds, sum(one.num_tried for one in by_method))


@dataclass(frozen=True)
class _Tried:
    """A rule with its AP at IoU .4 and the score by which it is chosen; NaN without a true box."""

    rule: Rule
    ap: float
    score: float


def _rules_and_aps(truth: CocoBoxes, chosen: Sequence[_Tried]) -> tuple[tuple[Rule, ...], dict[str, float]]:
    """(K,) rules, and finding -> AP at IoU .4, of the rule chosen for each finding."""
    aps = {finding: one.ap for finding, one in zip(truth.findings, chosen, strict=True)}
    return tuple(one.rule for one in chosen), aps


def _best(candidates: Sequence[_Tried]) -> _Tried:
    """The first rule with the highest score, of those whose AP is not below that of Bayes' prior without a map."""
    priors = [one.ap for one in candidates if isinstance(one.rule, BayesRule) and one.rule.beta == 0]
    lowest = max(priors, default=0.0)
    allowed = [one for one in candidates if one.ap >= lowest]
    return max(allowed or candidates, key=lambda one: -1.0 if np.isnan(one.score) else one.score)


@dataclass(frozen=True)
class _Search:
    """The tune split for one finding: N maps, probabilities (N,), true boxes, and image sizes (N, 2)."""

    tune: TuneMaps
    probabilities: Floats
    true: TrueBoxes
    sizes_hw: Ints
    frame: Frame

    def aps(self, found: Sequence[Found], counts: Sequence[int]) -> Floats:
        """(T, R, C) AP at CHOICE_IOUS of R rules' boxes, with C numbers of boxes per image."""
        block = np.cumsum([len(one) for one in found]) // MAX_BOXES_AT_ONCE
        cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(found)]
        parts = []
        for some in (found[start:end] for start, end in pairwise(cuts)):
            image = np.concatenate([one.image for one in some])
            shift = np.repeat(np.arange(len(some)) * len(self.sizes_hw), [len(one) for one in some])
            boxes = np.concatenate([one.boxes for one in some])
            scores = self.probabilities[image] * np.concatenate([one.evidence for one in some])
            pixels = image_boxes(boxes, self.sizes_hw[image], frame=self.frame)
            detections = Detections(image + shift, pixels, scores)
            parts.append(average_precisions(detections, self.true, num_sets=len(some), ious=CHOICE_IOUS, counts=counts))
        return np.concatenate(parts, axis=1)


def _try_all(search: _Search, settings: BoxSettings) -> list[_Tried]:
    """Every rule for one finding with its AP, in the order in which they win on ties."""
    families = rule_families(settings, search.tune)
    counts = sorted(set(settings.max_boxes))
    if search.true.num_true.any():
        aps = search.aps([family.find(counts[-1]) for family in families], counts)
    else:
        aps = np.full((len(CHOICE_IOUS), len(families), len(counts)), np.nan)
    scores = _with_neighbours(aps.mean(axis=0), [family.form for family in families])
    return [
        _Tried(family.rule(count), float(ap), float(score))
        for family, own_aps, own in zip(families, aps[CHOICE_IOUS.index(MAIN_IOU)], scores, strict=True)
        for count, ap, score in zip(counts, own_aps, own, strict=True)
    ]


def _with_neighbours(scores: Floats, forms: Sequence[object]) -> Floats:
    """Scores (F, C) of F families, each averaged with its form's next levels; the end levels are repeated."""
    smooth = np.empty_like(scores)
    for form in dict.fromkeys(forms):
        own = [row for row, other in enumerate(forms) if other == form]
        padded = np.pad(scores[own], ((1, 1), (0, 0)), mode="edge")
        below, at, above = NEIGHBOURS
        smooth[own] = below * padded[:-2] + at * padded[1:-1] + above * padded[2:]
    return np.round(smooth, 12)  # so that equal scores stay equal


def mean_of(aps: Mapping[str, float]) -> float:
    """Mean over the findings that have a score; NaN when none has."""
    values = [value for value in aps.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")
