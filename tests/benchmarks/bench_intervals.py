"""Coverage: how often the 95 % intervals of AP and of other measures hold the true value, on simulated detectors.

    python tests/benchmarks/bench_intervals.py [--sets 300] [--classes 12] [--images 300] [--resamples 200]

A test set has the same number of images each time, and on average 5, 20 or 100 true boxes of each class. An image with
a class has one or two boxes; how difficult the image is changes the scores of its boxes and whether they are found.
Classes are in turn hard, medium and easy. Two detectors of different skill see the same boxes. The true value of a
measure is that of 200,000 images. Coverage is given for plain percentiles of the resamples and for the intervals in use
(eval/stats/intervals.py): of single classes, of the mean over the classes, and of the difference of the two detectors.
Prints tables and, as the last line, one JSON object.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from cxr.arrays import Floats
from eval.detection.average_precision import ap5095_measure, ap_measure
from eval.detection.froc import froc_measure
from eval.detection.matching import IOUS, MAIN_IOU, ClassMatches
from eval.stats.bootstrap import Interval, percentile_interval, resample_counts
from eval.stats.intervals import Resampled, difference_of
from eval.stats.measures import Bootstrapped, Measure, bootstrap, share_measure

NUM_BOXES = (5, 20, 100)
SKILLS = {"hard": -0.5, "medium": 1.0, "easy": 2.5}
LOSS = 1.0
"""How much less skill the second detector has."""
LARGE = 200_000
"""Images that give the true value."""

NAMES = ("ap40", "froc", "corloc40", "ap5095")

Pair = tuple[Sequence[ClassMatches], Sequence[ClassMatches]]


class Scene:
    """The true boxes of one class, and what all detectors may take for one, in simulated images."""

    def __init__(self, num_images: int, chance: float, rng: np.random.Generator) -> None:
        """chance: that an image has the class; 3 in 10 of these have a second box."""
        self.rng = rng
        present = rng.uniform(size=num_images) < chance
        self.num_true = present * (1 + (rng.uniform(size=num_images) < 0.3))
        difficulty = rng.normal(size=num_images)
        self.of_true = np.repeat(np.arange(num_images), self.num_true)
        self.clearness = 0.7 * difficulty[self.of_true] + 0.5 * rng.normal(size=len(self.of_true))
        self.of_false = np.repeat(np.arange(num_images), rng.poisson(0.3 + 0.4 * present))
        self.likeness = 0.3 * difficulty[self.of_false] + 0.7 * rng.normal(size=len(self.of_false)) - 1

    def detect(self, name: str, skill: float) -> ClassMatches:
        """The detections of one detector, with their matches at all thresholds."""
        rng, num = self.rng, len(self.of_true)
        seen = self.clearness + 0.5 * rng.normal(size=num)
        found = rng.uniform(size=num) < logistic(1 + skill + 0.9 * seen)
        overlap = logistic(0.7 + 0.3 * skill + 0.6 * seen + 0.8 * rng.normal(size=num))[found]
        right = (0.6 * skill + 0.8 * seen + 0.5 * rng.normal(size=num))[found]
        wrong = self.likeness + 0.7 * rng.normal(size=len(self.likeness))
        image, scores = np.append(self.of_true[found], self.of_false), np.append(right, wrong)
        hit = np.append(overlap, np.zeros(len(wrong))) >= np.array(IOUS)[:, None]
        order = np.lexsort((-scores, image))
        hit = hit[:, order]
        return ClassMatches(name, IOUS, scores[order], image[order], hit, np.zeros_like(hit), self.num_true)


def logistic(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))


def simulate(skills: Sequence[float], num_boxes: float, given: argparse.Namespace, rng: np.random.Generator) -> Pair:
    """One test set with a class for each skill, seen by two detectors."""
    chance = num_boxes / given.images / 1.3
    pairs = []
    for k, skill in enumerate(skills):
        scene = Scene(given.images, chance, rng)
        pairs.append((scene.detect(str(k), skill), scene.detect(str(k), skill - LOSS)))
    return [first for first, _ in pairs], [second for _, second in pairs]


def corloc(matches: Sequence[ClassMatches]) -> Measure:
    """Share of the images with a class whose best-scored box is right."""
    cases = np.stack([one.num_true > 0 for one in matches], axis=1).astype(np.float64)
    hits = np.zeros_like(cases)
    for k, one in enumerate(matches):
        image, first = np.unique(one.image, return_index=True)
        hits[image, k] = one.hit[IOUS.index(MAIN_IOU)][first]
    return share_measure("corloc40", [one.finding for one in matches], hits * cases, cases, independent=True)


def measures(matches: Sequence[ClassMatches], *, slow: bool) -> list[Measure]:
    quick = [ap_measure(matches, MAIN_IOU), froc_measure(matches), corloc(matches)]
    return [*quick, ap5095_measure(matches)] if slow else quick


class Tally:
    """How often intervals hold the true value, by measure and what the interval is of."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
        self.true: dict[str, dict[str, float]] = {}
        self.off: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, key: tuple[str, str], true: float, percentiles: Interval, used: Interval) -> None:
        if not np.isnan(percentiles.low):
            both = [one.low <= true <= one.high for one in (percentiles, used)]
            self.held[key].append((both[0], both[1]))

    def add_set(
        self, true: tuple[Floats, Floats], found: tuple[Bootstrapped, Bootstrapped], kinds: Sequence[str]
    ) -> None:
        """One measure on one test set, by both detectors. true: (K,) true values. kinds: of each class."""
        first, second = found
        for k, kind in enumerate(kinds):
            one, other = (by.of(str(k)) for by in found)
            self._compare(first.name, kind, (true[0][k], true[1][k]), (one, other))
        known = ~np.isnan(first.values)
        means = (float(true[0][known].mean()), float(true[1][known].mean()))
        self._compare(first.name, "mean", means, (first.of(), second.of()))
        middle = [(ends.low + ends.high) / 2 - first.mean for ends in (percentiles(first.of()), first.mean_interval)]
        self.off[first.name].append((middle[0], middle[1]))

    def _compare(self, name: str, kind: str, true: tuple[float, float], found: tuple[Resampled, Resampled]) -> None:
        self.add((name, kind), true[0], percentiles(found[0]), found[0].interval)
        gap = difference_of(*found)
        plain = percentile_interval(found[0].samples - found[1].samples)
        self.add((name, f"{kind}, difference"), true[0] - true[1], plain, Interval(gap.low, gap.high))


def percentiles(one: Resampled) -> Interval:
    return percentile_interval(one.samples)


def run(num_boxes: int, given: argparse.Namespace) -> Tally:
    """The tally over all test sets with this number of boxes."""
    rng, tally = np.random.default_rng(num_boxes), Tally()
    kinds = [list(SKILLS)[k % len(SKILLS)] for k in range(given.classes)]
    large = argparse.Namespace(**(vars(given) | {"images": LARGE}))
    many = simulate(list(SKILLS.values()), num_boxes * LARGE / given.images, large, rng)
    columns = [list(SKILLS).index(kind) for kind in kinds]
    true = [[m.values(LARGE)[columns] for m in measures(seen, slow=True)] for seen in many]
    counts = resample_counts([str(i) for i in range(given.images)], num_resamples=given.resamples)
    for name, values in zip(NAMES, true[0], strict=True):
        tally.true[name] = {kind: float(values[kinds.index(kind)]) for kind in SKILLS}
    for number in range(given.sets):
        pair = simulate([SKILLS[kind] for kind in kinds], num_boxes, given, rng)
        both = [measures(seen, slow=number % 5 == 0) for seen in pair]
        for k, (one, other) in enumerate(zip(*both, strict=True)):
            tally.add_set((true[0][k], true[1][k]), (bootstrap(one, counts), bootstrap(other, counts)), kinds)
    return tally


def tables(tallies: Mapping[int, Tally]) -> list[Table]:
    """Coverage, how far the middle of the intervals is from the estimate, and the true values."""
    heads = [f"{num} boxes" for num in tallies]
    some = tallies[NUM_BOXES[0]]
    coverage = Table("measure", "of", *heads, title="Coverage of nominal 95 %: percentiles -> in use")
    for key in some.held:
        shares = [np.mean(tally.held[key], axis=0) for tally in tallies.values()]
        coverage.add_row(*key, *(f"{plain:.3f} -> {used:.3f}" for plain, used in shares))
    centres = Table("measure", *heads, title="Middle of the interval of the mean minus its estimate")
    for name in some.off:
        middles = [np.mean(tally.off[name], axis=0) for tally in tallies.values()]
        centres.add_row(name, *(f"{plain:+.3f} -> {used:+.3f}" for plain, used in middles))
    true = Table("measure", *heads, title=f"True values of {', '.join(SKILLS)} classes")
    for name in NAMES:
        own = [tally.true[name].values() for tally in tallies.values()]
        true.add_row(name, *(", ".join(f"{value:.3f}" for value in values) for values in own))
    return [coverage, centres, true]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("sets", 300), ("classes", 12), ("images", 300), ("resamples", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    begin = time.process_time()
    tallies = {num: run(num, given) for num in NUM_BOXES}
    for table in tables(tallies):
        Console(width=110).print(table)
    figures = {
        f"{name}/{kind}/{num}/{which}": round(float(share), 3)
        for num, tally in tallies.items()
        for (name, kind), held in tally.held.items()
        for which, share in zip(("percentiles", "used"), np.mean(held, axis=0), strict=True)
    }
    spent = {"cpu_s": round(time.process_time() - begin)}
    Console(width=100_000).print(json.dumps(vars(given) | figures | spent), markup=False, highlight=False)


if __name__ == "__main__":
    main()
