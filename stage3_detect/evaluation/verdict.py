"""The verdict of stage 3: the detector against its teacher, other detectors, the best prior and the human ceiling."""

from collections.abc import Mapping

from eval.leaderboard.leaderboard import Entry, Leaderboard
from eval.leaderboard.names import TEACHER
from eval.leaderboard.verdict import about_intervals, against, against_human, against_strongest_prior, short_interval
from eval.stats.bootstrap import Difference


def verdict(board: Leaderboard[Entry], shares: Mapping[str, Difference]) -> list[str]:
    """Sentences for the report and the manifest, the main result first. shares: see `Evaluation`."""
    sentences = [against(board, TEACHER)]
    for name, share in shares.items():
        reached = short_interval(share.value, share.low, share.high)
        sentences += [against(board, name), f"It reaches {reached} of that detector's AP40."]
    return [*sentences, *against_strongest_prior(board), *against_human(board), about_intervals(board)]
