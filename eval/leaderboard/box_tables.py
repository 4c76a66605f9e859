"""Tables of a leaderboard of boxes, whoever made them: a row an entry, a column a measure."""

from collections.abc import Mapping, Sequence

from eval.report.blocks import Table
from eval.report.format import Cell, with_interval
from eval.stats.measures import Bootstrapped

Rows = Sequence[tuple[str, Mapping[str, Bootstrapped]]]
"""Name as it is shown, and measures by name, of each entry."""

INTERVAL = "[95 %]"
AP_COLUMNS = {
    "ap10": "AP10",
    "ap30": "AP30",
    "ap50": "AP50",
    "ap70": "AP70",
    "ap5095": "AP50:95",
    "voc40": "VOC AP40",
}
"""Beside AP40."""
PLACE_COLUMNS = {
    "froc": "FROC",
    "corloc": "CorLoc",
    "pointing": "pointing game",
    "maxboxaccv2": "MaxBoxAccV2 (oracle threshold)",
    "rodeo": "RoDeO",
}
ACCURACY_COLUMNS = {
    f"{kind.lower()}_accuracy{t}": f"{kind} > .{t // 10}"
    for kind in ("IoU", "IoBB")
    for t in (10, 30, 50, 70)
}

_PLACE_NOTES = {
    "froc": "FROC: mean sensitivity at 1/8 to 8 false boxes an image (IoU .4).",
    "corloc": "CorLoc: share of images with the finding whose best-scored box has IoU .5.",
    "pointing": "Pointing game: the map's maximum (without a map, and in stage 3 for all: the best-scored box's "
    "centre) lies in a true box.",
    "maxboxaccv2": "MaxBoxAccV2 takes for each finding the threshold that is best on the test split itself: an upper "
    "bound, no fair figure.",
    "rodeo": "RoDeO judges class, place and shape of the boxes that are put out.",
}


def localization_table(rows: Rows, *, highlight: int | None = None) -> Table:
    """What boxes and maps are judged by beside AP, with intervals; measures that no entry has are left out."""
    known = {name: head for name, head in PLACE_COLUMNS.items() if any(name in own for _, own in rows)}
    note = " ".join(_PLACE_NOTES[name] for name in known)
    return measure_table("Localisation, test split", rows, known, note=note, highlight=highlight)


def accuracy_table(rows: Rows, *, highlight: int | None = None) -> Table:
    """T(IoU) and T(IoBB): share of images whose best-scored box overlaps a true one by more than T."""
    note = (
        "IoBB is the overlap as a share of the predicted box (Wang et al. 2017), which favours small boxes. Only "
        "images that have the finding count."
    )
    title = "Accuracy of the box at T, test split"
    return measure_table(title, rows, ACCURACY_COLUMNS, note=note, highlight=highlight)


def measure_table(
    title: str, rows: Rows, measures: Mapping[str, str], *, note: str = "", highlight: int | None = None
) -> Table:
    """Means with intervals. measures: name -> head of its column; what an entry lacks is a dash."""
    cells: list[list[Cell]] = [
        [shown, *(drawn_text(own[name]) if name in own else None for name in measures)] for shown, own in rows
    ]
    return Table(title, ["boxes by", *measures.values()], cells, note, highlight)


def drawn_text(drawn: Bootstrapped, finding: str | None = None) -> str:
    """ "0.412 [0.350, 0.470]": the mean, or the value of one finding."""
    if finding is None:
        interval = drawn.mean_interval
        return with_interval(drawn.mean, interval.low, interval.high)
    interval = drawn.interval(finding)
    return with_interval(float(drawn.values[drawn.findings.index(finding)]), interval.low, interval.high)
