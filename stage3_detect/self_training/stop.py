"""When the rounds end, and which is the best. Both depend only on AP40 on the tune split."""

from collections.abc import Sequence


def best_round(aps: Sequence[float | None]) -> int:
    """Number of the round with the highest AP40, the first on ties; 0 where no round has an AP40."""
    known = [(ap, -number) for number, ap in enumerate(aps) if ap is not None]
    return -max(known)[1] if known else 0


def reason_to_stop(aps: Sequence[float | None], *, max_rounds: int, min_gain: float) -> str | None:
    """Why no further round follows; None where one follows. aps: AP40 of the rounds so far, from round 0 on.

    Round 0 is trained on the teacher's boxes alone; up to `max_rounds` relabelled rounds follow. They end earlier when
    the last AP40 does not exceed the best earlier one by more than `min_gain`.
    """
    if len(aps) > max_rounds:
        return "reached max_rounds"
    if len(aps) < 2:
        return None
    last, before = aps[-1], max((ap for ap in aps[:-1] if ap is not None), default=None)
    if last is None or (before is not None and last - before <= min_gain):
        return "no gain on the tune split"
    return None
