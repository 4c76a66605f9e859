"""Every method and prior on the test split, with intervals; the choice is made on the tune split alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes
from cxr.labels import slug
from eval.detection.indexed import Indexed
from eval.detection.rodeo import rodeo_measure
from eval.stats.bootstrap import Difference
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures, difference, interval_figures
from stage2_pseudolabel.boxes.search import Tuned
from stage2_pseudolabel.evaluation.box_splits import HeldOut
from stage2_pseudolabel.evaluation.map_measures import measures_of

PRIMARY, RODEO = "ap40", "rodeo"
PER_FINDING = "per_finding"
"""Name of the entry that takes each finding from the method that is best there on the tune split."""

Choice = Literal["one", "per_finding"]


@dataclass(frozen=True, eq=False)
class Entry:
    """A row of the leaderboard.

    tuned: the rules of each finding and what they reached on the tune split; None for a prior without rules.
    detections, measures: on the test split. methods: the CAM method of each finding (K,); () for a prior, whatever its
        rules, and a prior is never chosen. readers: AP40 on the images that each group of readers read.
    min_scores: finding -> the score from which its boxes count for RoDeO.
    """

    name: str
    tuned: Tuned | None
    detections: CocoBoxes
    measures: Mapping[str, Bootstrapped]
    methods: tuple[str, ...] = ()
    readers: Mapping[str, Bootstrapped] = field(default_factory=dict)
    min_scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_prior(self) -> bool:
        return not self.methods

    @property
    def tune_ap(self) -> float:
        """Mean AP40 on the tune split; NaN for a prior without rules."""
        return float("nan") if self.tuned is None else self.tuned.mean

    @property
    def ap40(self) -> Bootstrapped:
        return self.measures[PRIMARY]


@dataclass(frozen=True, eq=False)
class Board:
    """All entries, the chosen one, and what separates it from the others on the test split.

    differences: mean AP40 of the chosen entry minus that of each other, paired. metrics: flat, for metrics.json.
    human: AP40 of one reader against the others, where there are several.
    """

    entries: tuple[Entry, ...]
    best: Entry
    differences: Mapping[str, Difference]
    metrics: Mapping[str, float]
    human: Bootstrapped | None = None

    @property
    def ranked(self) -> list[Entry]:
        """By falling AP40 on the test split; without a value last."""
        return sorted(self.entries, key=lambda entry: -_known(entry.ap40.mean))


def score_entry(
    name: str,
    held: HeldOut,
    detections: CocoBoxes,
    *,
    tuned: Tuned | None = None,
    methods: Sequence[str] = (),
    min_scores: Mapping[str, float] | None = None,
) -> Entry:
    """Judge boxes on the test split, by all measures and in the resamples that all entries share.

    methods: the one CAM method of all findings, K times; () for a prior. An entry of several methods is made by
    `choose_best`.
    """
    assert len(set(methods)) <= 1, "an entry of several methods is put together from theirs"
    maps = held.maps.maps[methods[0]] if methods else None
    found = measures_of(held.truth, detections, maps=maps, frame=held.frame, min_scores=min_scores)
    measures = {measure.name: measure for measure in found}
    drawn = {key: bootstrap(measure, held.counts) for key, measure in measures.items()}
    readers = {}
    for group in held.readers:
        own = held.read_by(group)
        values = measures[PRIMARY].resampled(own[None])[0]
        draws = measures[PRIMARY].resampled(held.counts * own)
        readers[group] = Bootstrapped(PRIMARY, measures[PRIMARY].findings, values, draws)
    return Entry(name, tuned, detections, drawn, tuple(methods), readers, dict(min_scores or {}))


def choose_best(entries: Sequence[Entry], *, how: Choice) -> Entry:
    """The entry whose boxes are exported, chosen by AP40 on the tune split and by nothing else; of equals the first.

    one: the method with the highest mean. per_finding: an entry named `per_finding`, in which each finding is of the
    method that is best there; a finding that no method has a tune AP of (no true box there) is of the best in the mean.
    """
    methods = [entry for entry in entries if not entry.is_prior and entry.name != PER_FINDING]
    assert methods, "a leaderboard needs a method"
    best = max(methods, key=lambda entry: _known(entry.tune_ap))
    if how == "one":
        return best
    parts = [_best_of(methods, finding, best) for finding in best.ap40.findings]
    return _put_together(parts)


def _best_of(methods: Sequence[Entry], finding: str, otherwise: Entry) -> Entry:
    aps = [_known(entry.tuned.aps[finding] if entry.tuned else math.nan) for entry in methods]
    return methods[int(np.argmax(aps))] if max(aps) >= 0 else otherwise


def _put_together(parts: Sequence[Entry]) -> Entry:
    """One entry whose k-th finding is that of `parts[k]`.

    Exact, since every measure looks at one finding at a time, except RoDeO, which is left out here.
    """
    first = parts[0]
    shared = [name for name in first.measures if name != RODEO]
    return Entry(
        PER_FINDING,
        _tuned_of(parts),
        first.detections.with_boxes(_boxes_of(parts)),
        {name: _columns_of([part.measures[name] for part in parts]) for name in shared},
        tuple(part.methods[column] for column, part in enumerate(parts)),
        {group: _columns_of([part.readers[group] for part in parts]) for group in first.readers},
        {
            name: part.min_scores[name]
            for name, part in zip(first.ap40.findings, parts, strict=True)
            if name in part.min_scores
        },
    )


def _with_rodeo(entry: Entry, held: HeldOut) -> Entry:
    """RoDeO pairs boxes of all classes of an image, so that of several methods together is counted anew."""
    measure = rodeo_measure(Indexed(held.truth, entry.detections), min_score=entry.min_scores)
    return replace(entry, measures={**entry.measures, RODEO: bootstrap(measure, held.counts)})


def _tuned_of(parts: Sequence[Entry]) -> Tuned:
    findings = parts[0].ap40.findings
    tuned = [part.tuned for part in parts if part.tuned is not None]
    assert len(tuned) == len(parts), "a method without tuned rules"
    by_kind = {
        kind: (
            tuple(own.by_kind[kind][0][column] for column, own in enumerate(tuned)),
            {name: own.by_kind[kind][1][name] for name, own in zip(findings, tuned, strict=True)},
        )
        for kind in tuned[0].by_kind
    }
    return Tuned(
        tuple(own.rules[column] for column, own in enumerate(tuned)),
        {name: own.aps[name] for name, own in zip(findings, tuned, strict=True)},
        by_kind,
        sum({part.name: own.num_tried for part, own in zip(parts, tuned, strict=True)}.values()),
    )


def _boxes_of(parts: Sequence[Entry]) -> pd.DataFrame:
    findings = parts[0].ap40.findings
    tables = [
        part.detections.boxes[part.detections.boxes["finding"] == name]
        for name, part in zip(findings, parts, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def _columns_of(drawn: Sequence[Bootstrapped]) -> Bootstrapped:
    """The k-th column of the k-th."""
    values = np.array([own.values[column] for column, own in enumerate(drawn)])
    draws = np.stack([own.samples[:, column] for column, own in enumerate(drawn)], axis=1)
    return Bootstrapped(drawn[0].name, drawn[0].findings, values, draws)


def make_board(
    entries: Sequence[Entry], held: HeldOut, *, how: Choice = "one", human: Bootstrapped | None = None
) -> Board:
    """Choose the best on the tune split and compare every other entry with it on the test split.

    human: `eval.readers.human.human_measure` of the same images, drawn with the same counts.
    """
    best = choose_best(entries, how=how)
    everyone = tuple(entries)
    if how == PER_FINDING:
        best = _with_rodeo(best, held)
        everyone = (*everyone, best)
    differences = {
        entry.name: difference(best.ap40, entry.ap40) for entry in everyone if entry.name != best.name
    }
    if human is not None:
        differences["human"] = difference(best.ap40, human)
    metrics: dict[str, float] = {}
    for entry in everyone:
        metrics |= _figures(entry)
    if human is not None:
        metrics |= bootstrap_figures(PRIMARY, "human", human)
    return Board(everyone, best, differences, metrics, human)


def _figures(entry: Entry) -> dict[str, float]:
    figures: dict[str, float] = {}
    for measure, drawn in entry.measures.items():
        figures |= bootstrap_figures(measure, entry.name, drawn)
    for group, drawn in entry.readers.items():
        figures |= interval_figures(
            f"{PRIMARY}/{entry.name}/readers/{slug(group)}", drawn.mean, drawn.mean_interval
        )
    return figures | {f"tune_{PRIMARY}/{entry.name}": entry.tune_ap}


def _known(value: float) -> float:
    """Not-a-number ranks below every AP."""
    return -1.0 if math.isnan(value) else value
