"""What the leaderboard says, in words: what was chosen, what is really worse, and whether maps beat no map at all."""

import math
from collections.abc import Sequence

from eval.leaderboard.box_tables import drawn_text
from eval.leaderboard.run_tables import display_name
from eval.report.format import gap_text, listed
from eval.stats.bootstrap import CONFIDENCE
from eval.stats.measures import Bootstrapped
from eval.stats.paired import Comparison, compare_paired
from stage2_pseudolabel.evaluation.leaderboard import PER_FINDING, Board, Entry


def comparisons(board: Board) -> list[Comparison]:
    """The chosen entry against every other method (not the priors), the closest first."""
    others = [entry for entry in board.entries if entry is not board.best and not entry.is_prior]
    found = compare_paired(board.best.ap40, {entry.name: entry.ap40 for entry in others})
    return sorted(found, key=lambda one: one.gap.value)


def verdict(board: Board) -> str:
    """Sentences for the head of the report and the manifest."""
    lines = [_chosen(board), *_without_map(board.best), _point_best(board)]
    lines += [*_rivals(comparisons(board)), *_priors(board)]
    if board.human is not None:
        lines.append(_against_human(board, board.human))
    if math.isnan(board.best.ap40.mean_interval.low):
        lines.append("There are no intervals: the test split is of a single patient.")
    return " ".join(lines)


def _chosen(board: Board) -> str:
    best = board.best
    what = display_name(best.name)
    if best.name == PER_FINDING:
        pairs = zip(best.ap40.findings, best.methods, strict=True)
        what += f" ({', '.join(f'{finding}: {display_name(method)}' for finding, method in pairs)})"
    return f"Chosen on the tune split: {what}, mean AP40 {drawn_text(best.ap40)} on the test split."


def _without_map(best: Entry) -> list[str]:
    """For which findings the tuned rule looks at no map, so that the boxes say nothing of the method."""
    rules = () if best.tuned is None else best.tuned.rules
    pairs = zip(best.ap40.findings, rules, strict=False)
    blind = [finding for finding, rule in pairs if rule.as_dict().get("beta") == 0]
    if not blind:
        return []
    return [
        f"For {', '.join(blind)} the best rule on the tune split looks at no map: those boxes are the prior's."
    ]


def _point_best(board: Board) -> str:
    """Which method has the highest AP40 on the test split; a fact about this sample, on which nothing was chosen."""
    methods = [entry for entry in board.ranked if not entry.is_prior]
    top = methods[0]
    if top.ap40.mean == board.best.ap40.mean or math.isnan(top.ap40.mean):
        return "No method has a higher point estimate there."
    gap = board.differences[top.name]
    really = "significantly better than the chosen one" if gap.high < 0 else "not significantly better"
    return f"The highest point estimate there is that of {display_name(top.name)}, {top.ap40.mean:.3f}: {really}."


def _rivals(compared: Sequence[Comparison]) -> list[str]:
    if not compared:
        return ["There is no other method to compare it with."]
    worse = [one for one in compared if one.gap.low > 0]
    better = [one for one in compared if one.gap.high < 0]
    equal = [one for one in compared if one not in worse and one not in better]
    confidence = round(100 * CONFIDENCE)
    number = len(compared)
    head = (
        f"Against {number} other method{'s' * (number > 1)} ({confidence} % intervals of paired differences"
    )
    head += "): " if number == 1 else "; after Holm's correction for that many in brackets): "
    parts = [
        f"{_counted(equal)} not significantly worse",
        f"{_counted(worse)} significantly worse" + _surviving(worse, number),
    ]
    if better:
        parts.append(f"{_counted(better)} significantly better" + _surviving(better, number))
    return [head + "; ".join(parts) + "."]


def _counted(group: Sequence[Comparison]) -> str:
    """ "2 (PCAM, LayerCAM)", or "none"."""
    names = ", ".join(display_name(one.name) for one in group)
    return f"{len(group)} ({names})" if group else "none"


def _surviving(group: Sequence[Comparison], number: int) -> str:
    return f" [{sum(one.survives for one in group)}]" if group and number > 1 else ""


def _priors(board: Board) -> list[str]:
    priors = [entry.name for entry in board.entries if entry.is_prior]
    beaten = [name for name in priors if board.differences[name].low > 0]
    missed = [name for name in priors if name not in beaten]
    lines = []
    if beaten:
        lines.append(f"Clearly better than {_with_gaps(board, beaten)}.")
    if missed:
        lines.append(f"NOT clearly better than {_with_gaps(board, missed)}.")
    return lines


def _with_gaps(board: Board, names: Sequence[str]) -> str:
    return listed([f"{display_name(name)} ({gap_text(board.differences[name])})" for name in names])


def _against_human(board: Board, human: Bootstrapped) -> str:
    gap = board.differences["human"]
    place = "below" if gap.high < 0 else "above" if gap.low > 0 else "not clearly apart from"
    return (
        f"One reader against the others reaches {drawn_text(human)}; the chosen method is {place} that "
        f"({gap_text(gap)})."
    )
