"""What a leaderboard shows, in sentences with figures that a radiologist understands."""

import math
from collections.abc import Iterable, Sequence

from eval.leaderboard.leaderboard import AnyEntry, Leaderboard
from eval.leaderboard.names import HUMAN, PRIORS, TEACHER, ap40_key, display_name, sentence_name
from eval.report.blocks import Verdict
from eval.report.format import capital, listed, short, short_interval
from eval.stats.bootstrap import CONFIDENCE, Estimate
from eval.stats.measures import with_ends


def verdict_block(sentences: Sequence[str]) -> Verdict:
    """The first sentence as the main result, the others as details."""
    return Verdict("Result", "\n\n".join([sentences[0], " ".join(sentences[1:])]))


def comparison_sentence(first: str, second: str, values: tuple[float, float], gap: Estimate) -> str:
    """ "The detector finds more lesions than its CAM teacher: AP40 .44 against .24, difference .20 [.15, .25]."

    first, second: names in the middle of a sentence. values: AP40 of both. gap: first minus second, paired.
    """
    figures = f"AP40 {short(values[0])} against {short(values[1])}"
    figures += f", difference {short_interval(gap.value, gap.low, gap.high)}"
    if not gap.is_clear:
        return f"{capital(first)} and {second} do not differ significantly: {figures}."
    return f"{capital(first)} finds {'more' if gap.value > 0 else 'fewer'} lesions than {second}: {figures}."


def against(board: Leaderboard[AnyEntry], name: str) -> str:
    """The main entry against another one."""
    main, other = board.main, board.entry(name)
    teacher = f" ({display_name(board.teacher)})" if name == TEACHER and board.teacher else ""
    return comparison_sentence(
        sentence_name(main.name),
        sentence_name(name) + teacher,
        (main.ap40.mean, other.ap40.mean),
        board.compared[name].gap,
    )


def against_strongest_prior(board: Leaderboard[AnyEntry]) -> list[str]:
    """The main entry against the prior with the highest AP40; nothing where no prior has a value."""
    priors = [entry for entry in board.entries if entry.name in PRIORS and not math.isnan(entry.ap40.mean)]
    return [against(board, max(priors, key=lambda entry: entry.ap40.mean).name)] if priors else []


def against_human(board: Leaderboard[AnyEntry]) -> list[str]:
    """The main entry against the human ceiling: paired on the same images, otherwise by comparing the two intervals."""
    key, main = ap40_key(board.metrics, HUMAN), sentence_name(board.main.name)
    value, low, high = with_ends(board.metrics, key)
    if value is None:
        return []
    gap, human = board.against_human, sentence_name(HUMAN)
    if gap is not None:
        return [comparison_sentence(main, human, (board.main.ap40.mean, value), gap)]
    own = board.main.ap40.mean_interval
    if low is None or high is None or math.isnan(own.low):
        result = "cannot be compared with"
    elif own.low > high:
        result = "is above"
    else:
        result = "is below" if own.high < low else "does not differ significantly from"
    split = "tune" if key.startswith("tune_") else "test"
    return [
        f"{capital(human)}, compared with the others, reaches AP40 {short_interval(value, low, high)} on the {split} "
        f"split; {main} {result} that (comparison of the two intervals, not paired)."
    ]


def about_intervals(board: Leaderboard[AnyEntry]) -> str:
    """What the intervals are, and which differences are not significant after Holm's correction."""
    if math.isnan(board.main.ap40.mean_interval.low):
        return "There are no intervals because the test split has a single patient."
    text = f"Intervals are {round(100 * CONFIDENCE)} % bootstrap intervals of paired differences"
    lost = [one.name for one in board.compared.values() if one.gap.is_clear and not one.survives]
    if not lost:
        return f"{text}."
    differences = "the difference" if len(lost) == 1 else "the differences"
    verb = "is" if len(lost) == 1 else "are"
    return (
        f"{text}; after Holm's correction for {len(board.compared)} comparisons, {differences} from {named(lost)} "
        f"{verb} no longer significant."
    )


def named(names: Iterable[str]) -> str:
    """ "GradCAM, PCAM and the mean-box prior"."""
    return listed([sentence_name(name) for name in names])
