"""What the way from maps to boxes is worth: the chosen method once more with the best rule of each kind only."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.detection.average_precision import main_ap_measure
from eval.stats.bootstrap import Difference
from eval.stats.measures import Bootstrapped, bootstrap, difference, interval_figures
from stage2_pseudolabel.boxes.search import mean_of
from stage2_pseudolabel.evaluation.box_splits import HeldOut
from stage2_pseudolabel.evaluation.leaderboard import Entry


@dataclass(frozen=True, eq=False)
class RuleWorth:
    """One kind of rule, e.g. "bayes", with the maps of the chosen method.

    tune_ap: mean AP40 on the tune split. test: AP40 on the test split. gap: that minus the chosen rules' AP40, paired.
    """

    kind: str
    tune_ap: float
    test: Bootstrapped
    gap: Difference


def rules_worth(best: Entry, held: HeldOut) -> list[RuleWorth]:
    """Each kind of rule that was tried for the chosen entry, best on the tune split first."""
    assert best.tuned is not None, "a prior has no rules to compare"
    worths = []
    for kind, (rules, aps) in best.tuned.by_kind.items():
        detections = held.detect(rules, best.methods)
        test = bootstrap(main_ap_measure(held.truth, detections), held.counts)
        worths.append(RuleWorth(kind, mean_of(aps), test, difference(test, best.ap40)))
    return sorted(worths, key=lambda worth: -worth.tune_ap)


def rule_figures(worths: Sequence[RuleWorth]) -> dict[str, float]:
    """``rule_ap40/<kind>`` with ``/low`` and ``/high``, for metrics.json."""
    figures: dict[str, float] = {}
    for worth in worths:
        figures |= interval_figures(f"rule_ap40/{worth.kind}", worth.test.mean, worth.test.mean_interval)
    return figures
