"""The CAM leaderboard: every method and prior on the test split. The method is chosen on the tune split alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes
from cxr.labels import slug
from cxr.metrics import ReadMetrics
from eval.detection.indexed import IndexedDetections
from eval.detection.rodeo import rodeo_measure
from eval.leaderboard.leaderboard import Entry, FileCell, Leaderboard, bootstrapped
from eval.leaderboard.names import AP40, PER_FINDING, RODEO, or_lowest
from eval.stats.measures import Bootstrapped, bootstrap, interval_figures
from stage2_pseudolabel.boxes.search import Tuned
from stage2_pseudolabel.evaluation.map_measures import all_measures
from stage2_pseudolabel.evaluation.split_data import SplitData

Choice = Literal["one", "per_finding"]


@dataclass(frozen=True, eq=False)
class CamEntry(Entry):
    """A CAM method or prior on the leaderboard.

    tuned: the box rule of each finding and its AP40 on the tune split; None for a prior without rules.
    methods: (K,) the CAM method of each finding; () for a prior. A prior is never chosen.
    readers: AP40 on the images that each group of readers read.
    min_scores: finding -> the score from which its boxes count for RoDeO.
    """

    tuned: Tuned | None = None
    methods: tuple[str, ...] = ()
    readers: Mapping[str, Bootstrapped] = field(default_factory=dict)
    min_scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def tune_ap(self) -> float:
        """Mean AP40 on the tune split; NaN for a prior without rules."""
        return float("nan") if self.tuned is None else self.tuned.mean

    @property
    def figures(self) -> dict[str, float]:
        """Also ``ap40/<name>/readers/<group>`` and ``tune_ap40/<name>``."""
        figures = super().figures
        for group, scored in self.readers.items():
            figures |= interval_figures(f"{AP40}/{self.name}/readers/{slug(group)}", scored.mean, scored.mean_interval)
        return figures | {f"tune_{AP40}/{self.name}": self.tune_ap}

    def method_of(self, finding: str | None) -> str:
        if finding is not None and self.methods:
            return self.methods[self.ap40.findings.index(finding)]
        return self.methods[0] if len(set(self.methods)) == 1 else ""

    def details(self, finding: str | None) -> dict[str, FileCell]:
        """Columns "rule" and "tune_ap40" of `leaderboard.csv`."""
        if finding is None or self.tuned is None:
            return {"rule": "", f"tune_{AP40}": self.tune_ap}
        rule = self.tuned.rules[self.ap40.findings.index(finding)]
        return {"rule": str(rule), f"tune_{AP40}": self.tuned.aps[finding]}


def score_entry(
    name: str,
    test: SplitData,
    detections: CocoBoxes,
    *,
    tuned: Tuned | None = None,
    methods: Sequence[str] = (),
    min_scores: Mapping[str, float] | None = None,
) -> CamEntry:
    """Score boxes on the test split by all measures, in the resamples that all entries share.

    methods: the same CAM method K times; () for a prior. `choose_best` makes the entry with a method per finding.
    """
    assert len(set(methods)) <= 1, "choose_best combines entries of several methods"
    maps = test.maps.of(methods[0]) if methods else None
    found = all_measures(test.truth, detections, maps=maps, frame=test.frame, min_scores=min_scores)
    measures = bootstrapped(found, test.counts)
    ap40 = next(measure for measure in found if measure.name == AP40)
    readers = {}
    for group, image_ids in test.readers.items():
        own = test.truth.images["image_id"].isin(list(image_ids)).to_numpy(dtype=np.bool_)
        readers[group] = bootstrap(ap40.within(own), test.counts)
    kind: Literal["method", "prior"] = "method" if methods else "prior"
    return CamEntry(name, kind, detections, measures, tuned, tuple(methods), readers, dict(min_scores or {}))


def choose_best(entries: Sequence[CamEntry], *, how: Choice) -> CamEntry:
    """The entry whose boxes are exported, chosen by AP40 on the tune split only; the first on ties.

    one: the method with the highest mean. per_finding: an entry named `per_finding`, which uses for each finding the
    method that is best for it. A finding without an AP on the tune split (it has no true box there) is taken from the
    method with the highest mean.
    """
    methods = [entry for entry in entries if not entry.is_prior and entry.name != PER_FINDING]
    assert methods, "a leaderboard needs a method"
    best = max(methods, key=lambda entry: or_lowest(entry.tune_ap))
    if how == "one":
        return best
    aps = [entry.tuned.aps if entry.tuned is not None else {} for entry in methods]
    parts = []
    for finding in best.ap40.findings:
        own = [or_lowest(one.get(finding)) for one in aps]
        parts.append(methods[int(np.argmax(own))] if max(own) >= 0 else best)
    return _combined(parts)


def _combined(parts: Sequence[CamEntry]) -> CamEntry:
    """One entry whose k-th finding is that of `parts[k]`, without RoDeO.

    This is exact because every other measure scores one finding at a time.
    """
    first, findings = parts[0], parts[0].ap40.findings
    pairs = list(zip(findings, parts, strict=True))
    tables = [part.detections.boxes[part.detections.boxes["finding"] == name] for name, part in pairs]
    return CamEntry(
        PER_FINDING,
        "method",
        first.detections.with_boxes(pd.concat(tables, ignore_index=True)),
        {name: _columns_of([part.measures[name] for part in parts]) for name in first.measures if name != RODEO},
        _combined_rules(parts),
        tuple(part.methods[column] for column, part in enumerate(parts)),
        {group: _columns_of([part.readers[group] for part in parts]) for group in first.readers},
        {name: part.min_scores[name] for name, part in pairs if name in part.min_scores},
    )


def _combined_rules(parts: Sequence[CamEntry]) -> Tuned:
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


def _columns_of(scored: Sequence[Bootstrapped]) -> Bootstrapped:
    """Column k of the k-th one."""
    values = np.array([own.values[column] for column, own in enumerate(scored)])
    samples = np.stack([own.samples[:, column] for column, own in enumerate(scored)], axis=1)
    cases = [np.nan if own.num_cases is None else own.num_cases[column] for column, own in enumerate(scored)]
    num_cases = None if scored[0].num_cases is None else np.array(cases)
    return Bootstrapped(scored[0].name, scored[0].findings, values, samples, num_cases)


def make_leaderboard(
    entries: Sequence[CamEntry],
    test: SplitData,
    *,
    how: Choice = "one",
    human: Bootstrapped | None = None,
    more: ReadMetrics | None = None,
) -> Leaderboard[CamEntry]:
    """Choose the best entry on the tune split; it becomes the main one, compared with all others on the test split.

    human: `eval.readers.human.HumanCounts.ap` of the same images and resamples. more: further figures by name.
    """
    best = choose_best(entries, how=how)
    everyone = tuple(entries)
    if how == PER_FINDING:
        # RoDeO matches the boxes of all findings of an image together, so it is computed on the combined boxes.
        measure = rodeo_measure(IndexedDetections(test.truth, best.detections), min_score=best.min_scores)
        best = replace(best, measures={**best.measures, RODEO: bootstrap(measure, test.counts)})
        everyone = (*everyone, best)
    return Leaderboard(test.truth, everyone, best, human, more or {})


def rules_of(board: Leaderboard[CamEntry]) -> dict[str, dict[str, dict[str, str | float]]]:
    """Method -> finding -> box rule in plain values, for the manifest."""
    return {
        entry.name: {
            finding: rule.as_dict() for finding, rule in zip(entry.ap40.findings, entry.tuned.rules, strict=True)
        }
        for entry in board.entries
        if entry.tuned is not None
    }
