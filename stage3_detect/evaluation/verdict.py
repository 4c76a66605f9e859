"""What the comparison says, in sentences for the head of the report and the manifest."""

import math
from collections.abc import Mapping

from eval.leaderboard.box_tables import drawn_text
from eval.leaderboard.run_tables import display_name
from eval.report.format import gap_text, listed, with_interval
from eval.stats.bootstrap import CONFIDENCE
from eval.stats.paired import Comparison
from stage3_detect.evaluation.results import PRIORS, TEACHER, Judgement


def verdict(judgement: Judgement) -> str:
    """The detector against its teacher, other detectors, the strongest prior and the human ceiling."""
    against = {one.name: one for one in judgement.against}
    lines = [
        f"The detector reaches a mean AP40 of {drawn_text(judgement.detector.ap40)} on the test split.",
        _sentence(judgement, against[TEACHER]),
        *(_against_other(judgement, against[entry.name]) for entry in judgement.beside),
        *_against_prior(judgement, against),
        *_against_human(judgement),
    ]
    if math.isnan(judgement.detector.ap40.mean_interval.low):
        lines.append("There are no intervals: the test split is of a single patient.")
    else:
        lines.append(_corrected(judgement))
    return " ".join(lines)


def _sentence(judgement: Judgement, one: Comparison) -> str:
    return f"It is {one.place} {_named(judgement, one.name)} ({gap_text(one.gap)})."


def _named(judgement: Judgement, name: str) -> str:
    """An entry in the middle of a sentence."""
    if name == TEACHER:
        return f"its CAM teacher, {display_name(judgement.teacher)}"
    shown = display_name(name)
    return f"the {shown}" if name not in PRIORS else f'the prior "{shown.removeprefix("prior: ")}"'


def _against_other(judgement: Judgement, one: Comparison) -> str:
    share = judgement.shares[one.name]
    reached = with_interval(share.value, share.low, share.high)
    return f"{_sentence(judgement, one)} Its AP40 is {reached} of that one's."


def _against_prior(judgement: Judgement, against: Mapping[str, Comparison]) -> list[str]:
    """The strongest of those that look at no image."""
    priors = [entry for entry in judgement.entries if entry.is_prior and not math.isnan(entry.ap40.mean)]
    if not priors:
        return []
    strongest = max(priors, key=lambda entry: entry.ap40.mean)
    return [_sentence(judgement, against[strongest.name])]


def _against_human(judgement: Judgement) -> list[str]:
    """By two intervals of their own: stage 2 keeps no resamples of its readers."""
    human, own = judgement.human, judgement.detector.ap40
    if human is None:
        return []
    value, low, high = human.of()
    ends = own.mean_interval
    if low is None or high is None or math.isnan(ends.low):
        place = "not to be compared with"
    elif ends.low > high:
        place = "clearly above"
    else:
        place = "clearly below" if ends.high < low else "not clearly apart from"
    return [
        f"One reader against the others reaches {with_interval(value, low, high)} on the {human.split} split; the "
        f"detector is {place} that (their intervals compared, not paired)."
    ]


def _corrected(judgement: Judgement) -> str:
    clear = [one for one in judgement.against if one.gap.is_clear]
    lost = [_named(judgement, one.name) for one in clear if not one.survives]
    words = f"Differences are paired, with {round(100 * CONFIDENCE)} % intervals"
    if not clear:
        return f"{words}."
    if not lost:
        return f"{words}; {len(clear)} of {len(judgement.against)} are clear, also after Holm's correction."
    return f"{words}; after Holm's correction for {len(judgement.against)}, that from {listed(lost)} is not clear."
