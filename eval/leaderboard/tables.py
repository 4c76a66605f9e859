"""Tables and the bar chart of a leaderboard, made from figures by name: one row per entry, one column per measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.labels import slug
from cxr.metrics import ReadMetrics
from eval.leaderboard.names import AP40, ap40_key, is_reference
from eval.report.blocks import Figure, Table
from eval.report.charts import Bar, plot_bars
from eval.report.format import Cell, estimate_text, figure_text, gap_text, in_format
from eval.stats.bootstrap import Estimate
from eval.stats.measures import with_ends
from eval.stats.paired import Comparison

INTERVAL = "[95 %]"
ENTRY = "boxes by"
"""Name of the first column."""
MAIN_COLUMNS = {
    "ap10": "AP10",
    "ap50": "AP50",
    "label_ap40": "AP40, label known",
    "froc": "FROC",
    "tune_ap40": "AP40 on tune",
}
FURTHER_COLUMNS = {
    "ap30": "AP30",
    "ap70": "AP70",
    "ap5095": "AP50:95",
    "label_ap50": "AP50, label known",
    "voc40": "VOC AP40",
    "chex_map": "ChEX mAP",
    "peak_mib": "peak MiB",
}
LOCALIZATION_COLUMNS = {
    "froc": "FROC",
    "corloc": "CorLoc",
    "mean_iou": "mIoU",
    "mask_iou": "mask IoU",
    "pointing": "pointing game",
    "maxboxaccv2": "MaxBoxAccV2 (oracle threshold)",
    "rodeo": "RoDeO",
}
ACCURACY_COLUMNS = {
    kind: {f"{kind.lower()}_accuracy{t}": f"{kind} > .{t // 10}" for t in range(10, 80, 10)} for kind in ("IoU", "IoBB")
}
_ONE_DECIMAL = ("ms_per_image", "peak_mib")
_LOCALIZATION_NOTES = {
    "froc": "FROC: mean sensitivity at 1/8 to 8 false positives per image (IoU .4).",
    "corloc": "CorLoc: share of the images with a finding whose best-scored box has IoU .5 or more.",
    "mean_iou": "mIoU: mean IoU of the best-scored box over the images with a finding, 0 where there is no box.",
    "mask_iou": "Mask IoU: mean IoU of the best-scored box with the masks of the finding, 0 where there is no box.",
    "pointing": "Pointing game: share of the images with a finding in which the maximum of the map lies in a true box, "
    "and in its mask where there is one. "
    "Detectors and priors have no map and point at the centre of their best-scored box.",
    "maxboxaccv2": "MaxBoxAccV2 uses the best threshold per finding on the test split itself. It is an upper bound.",
    "rodeo": "RoDeO scores class, place and shape of the boxes, from the score with the best F1 on the tune split.",
}
_ACCURACY = "Share of the images with a finding whose best-scored box overlaps a true box by more than T."
_ACCURACY_NOTES = {
    "IoU": _ACCURACY,
    "IoBB": f"{_ACCURACY} IoBB is the overlap as a share of the predicted box (Wang et al. 2017), which favours small "
    "boxes.",
}


@dataclass(frozen=True)
class Rows:
    """The rows of a leaderboard's tables.

    shown: name in `metrics.json` -> name in the table, in the order of the rows. figures: values by name, means and per
    finding, with `/low` and `/high`. main: name of the row that stands out; "" for none.
    """

    shown: Mapping[str, str]
    figures: ReadMetrics
    main: str = ""

    @property
    def highlight(self) -> int | None:
        """Index of the row that stands out."""
        return list(self.shown).index(self.main) if self.main in self.shown else None

    def key(self, measure: str, name: str) -> str:
        """Name of a figure in `metrics.json`."""
        return ap40_key(self.figures, name) if measure == AP40 else f"{measure}/{name}"

    def text(self, measure: str, name: str, finding: str | None = None) -> str:
        """ "0.412 [0.350, 0.470]": the mean, or the value of one finding."""
        key = self.key(measure, name)
        return figure_text(self.figures, key if finding is None else f"{key}/{slug(finding)}")

    def cell(self, measure: str, name: str) -> Cell:
        """The mean without its interval."""
        value = self.figures.get(self.key(measure, name))
        return in_format(value, ".1f") if measure in _ONE_DECIMAL else value

    def known(self, columns: Mapping[str, str]) -> dict[str, str]:
        """Those of the columns for which any row has a figure."""
        return {
            measure: head
            for measure, head in columns.items()
            if any(self.figures.get(self.key(measure, name)) is not None for name in self.shown)
        }


def main_table(rows: Rows, *, title: str, note: str = "") -> Table:
    """AP40 with its interval, and the other main measures that any row has."""
    columns = rows.known({**MAIN_COLUMNS, "ms_per_image": "ms/image"})
    cells: list[list[Cell]] = [
        [shown, rows.text(AP40, name), *(rows.cell(measure, name) for measure in columns)]
        for name, shown in rows.shown.items()
    ]
    return Table(title, [ENTRY, f"AP40 {INTERVAL}", *columns.values()], cells, note, rows.highlight)


def further_tables(rows: Rows) -> list[Table]:
    """Collapsed tables: further kinds of AP, localisation, and accuracy of the best-scored box."""
    places = rows.known(LOCALIZATION_COLUMNS)
    return [
        measure_table(
            rows,
            "Further kinds of average precision",
            rows.known(FURTHER_COLUMNS),
            note="Label known: only images that have the finding. VOC AP40 is AP40 as in the VinBigData competition on "
            "Kaggle. ChEX mAP is the mean over IoU .4 to .75 after non-maximum suppression at IoU .25.",
        ),
        measure_table(rows, "Localisation", places, note=" ".join(_LOCALIZATION_NOTES[name] for name in places)),
        *(
            measure_table(rows, f"T({kind}) of the best-scored box", rows.known(columns), note=_ACCURACY_NOTES[kind])
            for kind, columns in ACCURACY_COLUMNS.items()
        ),
    ]


def measure_table(rows: Rows, title: str, columns: Mapping[str, str], *, note: str) -> Table:
    """Means with intervals; a dash where an entry has no such measure."""
    cells: list[list[Cell]] = [
        [shown, *(rows.cell(name, entry) if name in _ONE_DECIMAL else rows.text(name, entry) for name in columns)]
        for entry, shown in rows.shown.items()
    ]
    return Table(f"{title}, test split", [ENTRY, *columns.values()], cells, note, rows.highlight, collapsed=True)


def finding_table(
    rows: Rows, num_true: Mapping[str, int], *, measure: str = AP40, more: Mapping[str, Sequence[Cell]] | None = None
) -> Table:
    """One row per finding, one column per entry with intervals.

    num_true: true boxes per finding, in the order of the rows. more: further columns by name, one cell per finding.
    """
    more = more or {}
    cells: list[list[Cell]] = [
        [
            finding,
            count,
            *(rows.text(measure, name, finding) for name in rows.shown),
            *(column[k] for column in more.values()),
        ]
        for k, (finding, count) in enumerate(num_true.items())
    ]
    columns = ["finding", "true boxes", *rows.shown.values(), *more]
    note = "Findings without true boxes have no score. Ignore regions do not count as boxes."
    return Table(f"{measure.upper()} per finding {INTERVAL}, test split", columns, cells, note)


def difference_table(rows: Rows, compared: Sequence[Comparison], shares: Mapping[str, Estimate]) -> Table:
    """The main entry minus each of the others. shares: its AP40 as a share of that of some of them."""
    main = rows.shown[rows.main]
    cells: list[list[Cell]] = []
    for one in compared:
        cells.append([rows.shown[one.name], gap_text(one.gap), one.p_holm, one.result])
        if shares:
            cells[-1].append(estimate_text(shares.get(one.name)))
    columns = ["compared with", f"AP40 difference {INTERVAL}", "p (Holm)", f"{main} is"]
    note = (
        "Differences are paired: all entries are scored on the same bootstrap resamples of the test patients. "
        f"p-values are corrected for {len(cells)} comparisons."
    )
    return Table(f"Differences: {main} minus the others", columns + ["AP40 share"] * bool(shares), cells, note)


def ap40_chart(folder: Path, rows: Rows, path: str) -> Figure:
    """Bars of AP40 with intervals, saved as `folder`/`path` (PNG)."""
    bars = [ap40_bar(rows, name) for name in rows.shown]
    plot_bars(folder / path, bars, label="mean AP at IoU 0.4 on the test split")
    note = "Lines are 95 % intervals. Dark: the entry that is compared with the others. Grey: priors and human ceiling."
    return Figure("AP40 with intervals", path, note)


def ap40_bar(rows: Rows, name: str) -> Bar:
    """AP40 of one entry."""
    kind = "marked" if name == rows.main else "muted" if is_reference(name) else ""
    return Bar(rows.shown[name], *with_ends(rows.figures, ap40_key(rows.figures, name)), kind)
