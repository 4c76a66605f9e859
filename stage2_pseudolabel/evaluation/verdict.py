"""The verdict of stage 2: the chosen CAM method, the methods that are worse, and whether maps beat no map at all."""

import math

from cxr.wording import counted
from eval.leaderboard.leaderboard import Leaderboard
from eval.leaderboard.names import PER_FINDING, display_name, sentence_name
from eval.leaderboard.verdict import about_intervals, against_human, against_strongest_prior, named
from eval.report.format import capital, listed, short, short_interval
from stage2_pseudolabel.boxes.fused_rule import single_rules
from stage2_pseudolabel.evaluation.leaderboard import CamEntry


def verdict(board: Leaderboard[CamEntry]) -> list[str]:
    """Sentences for the report and the manifest, the main result first."""
    return [
        *against_strongest_prior(board),
        *_advice(board),
        _chosen(board.main),
        *_other_methods(board),
        *_highest(board),
        *_without_map(board.main),
        *against_human(board),
        about_intervals(board),
    ]


def _advice(board: Leaderboard[CamEntry]) -> list[str]:
    """What to do where the maps are not better than every prior."""
    gaps = [one.gap for one in board.compared.values() if board.entry(one.name).is_prior]
    if all(gap.is_clear and gap.value > 0 for gap in gaps):
        return []
    return [
        "The boxes may come from the usual places of the findings rather than from the image: train a better "
        "classifier or add training images before stage 3."
    ]


def _chosen(best: CamEntry) -> str:
    ends = best.ap40.mean_interval
    reached = f"AP40 {short_interval(best.ap40.mean, ends.low, ends.high)} on the test split"
    if best.name != PER_FINDING:
        return f"{capital(sentence_name(best.name))} is the best CAM method on the tune split and reaches {reached}."
    pairs = zip(best.ap40.findings, best.methods, strict=True)
    methods = ", ".join(f"{finding}: {display_name(method)}" for finding, method in pairs)
    return f"The best method per finding on the tune split ({methods}) reaches {reached}."


def _other_methods(board: Leaderboard[CamEntry]) -> list[str]:
    """How the chosen method compares with the other methods."""
    others = [one for one in board.compared.values() if not board.entry(one.name).is_prior]
    if not others:
        return ["There is no other method to compare it with."]
    words = {
        "better": "significantly better than",
        "worse": "significantly worse than",
        "not significantly different": "not significantly different from",
    }
    groups = {text: [one.name for one in others if one.result == result] for result, text in words.items()}
    parts = [f"{text} {len(names)} ({named(names)})" for text, names in groups.items() if names]
    number = counted(len(others), "other method")
    if all(one.result == "not significantly different" for one in others):
        return [f"It does not differ significantly from the {number}: {named(one.name for one in others)}."]
    return [f"Of the {number}, it is {listed(parts)}."]


def _highest(board: Leaderboard[CamEntry]) -> list[str]:
    """The method with the highest AP40 on the test split, if it is not the chosen one."""
    top = next(entry for entry in board.ranked if not entry.is_prior)
    if math.isnan(top.ap40.mean) or top.ap40.mean == board.main.ap40.mean:
        return []
    return [f"{capital(sentence_name(top.name))} has the highest AP40 on the test split, {short(top.ap40.mean)}."]


def _without_map(best: CamEntry) -> list[str]:
    """The findings whose best rule ignores the map, so that their boxes do not depend on the method."""
    rules = () if best.tuned is None else best.tuned.rules
    pairs = zip(best.ap40.findings, rules, strict=False)
    blind = [finding for finding, rule in pairs if all(one.as_dict().get("beta") == 0 for one in single_rules(rule))]
    if not blind:
        return []
    return [f"For {listed(blind)}, the best rule ignores the map: its boxes are those of the prior."]
