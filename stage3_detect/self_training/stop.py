"""When rounds end, and which one counts. Both look at AP40 on the tune split's reader boxes and at nothing else."""

from collections.abc import Sequence


def best_round(aps: Sequence[float | None]) -> int:
    """Number of the round with the highest AP40, the first of equals; 0 where none has a figure."""
    known = [(ap, -number) for number, ap in enumerate(aps) if ap is not None]
    return -max(known)[1] if known else 0


def reason_to_stop(aps: Sequence[float | None], *, max_rounds: int, min_gain: float) -> str | None:
    """Why there is no further round after those with `aps`, from round 0 on; None where there is one.

    Round 0 learns from the teacher alone; `max_rounds` of relabelling may follow. Rounds end before that when the last
    one's AP40 does not exceed the best of those before by more than `min_gain`.
    """
    if len(aps) > max_rounds:
        return "as many rounds as asked for"
    if len(aps) < 2:
        return None
    last, before = aps[-1], max((ap for ap in aps[:-1] if ap is not None), default=None)
    if last is None or (before is not None and last - before <= min_gain):
        return "no gain on the tune split"
    return None
