"""Box rules tuned a finding at a time on the tune split, by the metric that is reported.

Thousands of rules are tried in seconds: rules that differ in how many boxes they keep look at the maps once, Bayes
rules share their evidence, and all rules of a finding are matched to the true boxes together.

The AP of the rule that won, on the images that it won on, is the best of many and so too high; only the test split
says what the rule is worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cxr.arrays import Floats, Ints
from cxr.coco import CocoBoxes
from eval.detection.average_precision import average_precisions
from eval.detection.indexed import TruthIndex
from eval.detection.matching import MAIN_IOU, Detections, TrueBoxes
from stage2_pseudolabel.boxes.bayes import BayesRule
from stage2_pseudolabel.boxes.detect import Scored, detect, image_boxes, sizes_hw_of
from stage2_pseudolabel.boxes.families import TuneMaps, box_candidates, rule_families
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Found, Rule
from stage2_pseudolabel.settings.boxes import BoxSettings

__all__ = ["Frame", "Scored", "Tuned", "box_candidates", "detect", "mean_of", "tune_rules"]

CHOICE_IOUS = (0.3, 0.4, 0.5)
"""Rules are chosen by the mean of their AP at these: the reported .4, with its neighbours against chance."""

NEIGHBOURS = (0.25, 0.5, 0.25)
"""Weights of the next lower level (threshold or beta), a rule's own, and the next higher in what it is chosen by."""

MAX_BOXES_AT_ONCE = 500_000
"""Boxes of all rules that are matched together; bounds the memory to some 100 MB."""


@dataclass(frozen=True)
class Tuned:
    """The rules that were best on the tune split.

    rules: (K,), one a finding. aps: finding -> its AP at IoU .4 there (optimistic: of the best of many); NaN without a
    true box. by_kind: the same two if only rules of that kind had been tried. num_tried: rules tried, all findings
    together.
    """

    rules: tuple[Rule, ...]
    aps: dict[str, float]
    by_kind: Mapping[str, tuple[tuple[Rule, ...], dict[str, float]]]
    num_tried: int

    @property
    def mean(self) -> float:
        """Mean AP over the findings that have one; NaN when none has."""
        return mean_of(self.aps)


def tune_rules(scored: Scored, truth: CocoBoxes, settings: BoxSettings, *, frame: Frame) -> Tuned:
    """The best rule of each finding on the tune split.

    Best by AP at IoU .4, averaged with what is near: IoU .3 and .5, and the same rule's next levels. A few dozen boxes
    favour some of hundreds of rules by luck, and luck is narrower than merit. But no rule is taken whose AP at .4 is
    below what Bayes' prior reaches without a map, where that is tried (beta 0). A patient's own boxes never help it:
    they are no candidates there. Of rules that score alike the plainest wins, of those Bayes' (see `rule_families`),
    with few boxes. A finding without a true box in the tune split takes the plainest of the others.

    Args:
        scored: images and findings in the order of `truth`.
    """
    judge = _Judge(scored, truth, frame)
    tried = [_tried(judge, column, settings) for column in range(len(truth.findings))]
    best = [_best(candidates) for candidates in tried]
    kinds = {
        kind: [_best([one for one in candidates if one.rule.kind == kind]) for candidates in tried]
        for kind in dict.fromkeys(settings.rules)
    }
    return Tuned(
        *_named(truth, best), {kind: _named(truth, ones) for kind, ones in kinds.items()}, sum(map(len, tried))
    )


@dataclass(frozen=True)
class _Tried:
    """A rule, its AP at IoU .4, and what it is chosen by; NaN without a true box."""

    rule: Rule
    ap: float
    merit: float


def _named(truth: CocoBoxes, ones: Sequence[_Tried]) -> tuple[tuple[Rule, ...], dict[str, float]]:
    aps = {finding: one.ap for finding, one in zip(truth.findings, ones, strict=True)}
    return tuple(one.rule for one in ones), aps


def _best(candidates: Sequence[_Tried]) -> _Tried:
    """The first of those with the most merit, of the rules whose AP is not below that of Bayes' prior without a map."""
    priors = [one.ap for one in candidates if isinstance(one.rule, BayesRule) and one.rule.beta == 0]
    floor = max(priors, default=0.0)
    able = [one for one in candidates if one.ap >= floor]
    return max(able or candidates, key=lambda one: -1.0 if np.isnan(one.merit) else one.merit)


@dataclass(frozen=True)
class _Judge:
    """AP of found boxes on the tune split."""

    scored: Scored
    truth: CocoBoxes
    frame: Frame

    @cached_property
    def owners(self) -> list[str]:
        return self.truth.groups

    @cached_property
    def true(self) -> tuple[TrueBoxes, ...]:
        return TruthIndex(self.truth).by_class

    @cached_property
    def sizes_hw(self) -> Ints:
        return sizes_hw_of(self.truth)

    def aps(self, column: int, found: Sequence[Found], counts: Sequence[int]) -> Floats:
        """(T, R, C) AP at CHOICE_IOUS of R rules' boxes for the finding `column`, with C numbers of boxes an image."""
        parts = []
        for some in _blocks(found):
            image = np.concatenate([one.image for one in some])
            shift = np.repeat(np.arange(len(some)) * len(self.sizes_hw), [len(one) for one in some])
            boxes = np.concatenate([one.boxes for one in some])
            evidence = np.concatenate([one.evidence for one in some])
            detections = Detections(
                image + shift,
                image_boxes(boxes, self.sizes_hw[image], frame=self.frame),
                self.scored.probabilities[image, column] * evidence,
            )
            true = self.true[column]
            parts.append(average_precisions(detections, true, num_sets=len(some), ious=CHOICE_IOUS, counts=counts))
        return np.concatenate(parts, axis=1)


def _blocks(found: Sequence[Found]) -> list[Sequence[Found]]:
    """Parts of the list with a bounded number of boxes each."""
    block = np.cumsum([len(one) for one in found]) // MAX_BOXES_AT_ONCE
    cuts = np.flatnonzero(np.diff(block)) + 1
    return [found[start:end] for start, end in zip([0, *cuts], [*cuts, len(found)], strict=True)]


def _tried(judge: _Judge, column: int, settings: BoxSettings) -> list[_Tried]:
    """Every rule for one finding with its AP, in the order in which they win when equal."""
    finding = judge.truth.findings[column]
    candidates = box_candidates(judge.truth, finding, judge.frame, max_candidates=settings.max_candidates)
    maps = judge.scored.maps[:, column]
    if any(settings.bayes_similarities):
        candidates = candidates.with_maps(maps)
    has_box = np.zeros(len(judge.owners), dtype=np.bool_)
    has_box[judge.true[column].image] = True
    families = rule_families(settings, TuneMaps(maps, has_box, candidates, judge.owners))
    counts = sorted(set(settings.max_boxes))
    if judge.true[column].num_true.any():
        aps = judge.aps(column, [family.find(counts[-1]) for family in families], counts)
    else:
        aps = np.full((len(CHOICE_IOUS), len(families), len(counts)), np.nan)
    merits = _with_neighbours(aps.mean(axis=0), [family.form for family in families])
    return [
        _Tried(family.rule(count), float(ap), float(merit))
        for family, own_aps, own in zip(families, aps[CHOICE_IOUS.index(MAIN_IOU)], merits, strict=True)
        for count, ap, merit in zip(counts, own_aps, own, strict=True)
    ]


def _with_neighbours(merits: Floats, forms: Sequence[object]) -> Floats:
    """(F, C) of F families: each with its form's next levels; at either end a level is its own neighbour."""
    smooth = np.empty_like(merits)
    for form in dict.fromkeys(forms):
        own = [row for row, other in enumerate(forms) if other == form]
        padded = np.pad(merits[own], ((1, 1), (0, 0)), mode="edge")
        below, at, above = NEIGHBOURS
        smooth[own] = below * padded[:-2] + at * padded[1:-1] + above * padded[2:]
    return np.round(smooth, 12)  # rules that score alike still do


def mean_of(aps: Mapping[str, float]) -> float:
    """Mean over the findings that have a score; NaN when none has."""
    values = [value for value in aps.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")
