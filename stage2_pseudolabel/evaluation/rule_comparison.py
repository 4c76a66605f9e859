"""The chosen method once more with only one kind of box rule: how much the kind of rule matters."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.detection.average_precision import main_ap_measure
from eval.stats.bootstrap import Difference
from eval.stats.measures import Bootstrapped, bootstrap, difference, interval_figures
from stage2_pseudolabel.boxes.search import mean_of
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.split_data import SplitData


@dataclass(frozen=True, eq=False)
class RuleComparison:
    """One kind of rule, e.g. "bayes", with the maps of the chosen method.

    tune_ap: mean AP40 on the tune split. test: AP40 on the test split. gap: minus the AP40 of the chosen rules, paired.
    """

    kind: str
    tune_ap: float
    test: Bootstrapped
    gap: Difference


def compare_rules(best: CamEntry, test: SplitData) -> list[RuleComparison]:
    """Each kind of rule that was tried for the chosen entry, by falling AP40 on the tune split."""
    assert best.tuned is not None, "a prior has no rules to compare"
    compared = []
    for kind, (rules, aps) in best.tuned.by_kind.items():
        detections = test.detect(rules, best.methods)
        ap40 = bootstrap(main_ap_measure(test.truth, detections), test.counts)
        compared.append(RuleComparison(kind, mean_of(aps), ap40, difference(ap40, best.ap40)))
    return sorted(compared, key=lambda one: -one.tune_ap)


def rule_figures(compared: Sequence[RuleComparison]) -> dict[str, float]:
    """``rule_ap40/<kind>`` with ``/low`` and ``/high``, for metrics.json."""
    figures: dict[str, float] = {}
    for one in compared:
        figures |= interval_figures(f"rule_ap40/{one.kind}", one.test.mean, one.test.mean_interval)
    return figures
