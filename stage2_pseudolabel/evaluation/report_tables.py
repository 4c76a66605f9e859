"""The tables of stage 2's report."""

from collections.abc import Mapping, Sequence

import numpy as np

from cxr.coco import CocoBoxes
from eval.leaderboard.box_tables import (
    AP_COLUMNS,
    INTERVAL,
    accuracy_table,
    drawn_text,
    localization_table,
)
from eval.leaderboard.run_tables import display_name
from eval.report.blocks import Table
from eval.report.format import Cell, with_interval
from stage2_pseudolabel.boxes.sample_size import SizePoint
from stage2_pseudolabel.evaluation.leaderboard import Board, Entry
from stage2_pseudolabel.evaluation.rule_comparison import RuleWorth


def leaderboard_table(board: Board, timing: Mapping[str, float]) -> Table:
    """Average precision: best on the test split first; the chosen entry is marked. The human ceiling stands last."""
    rows: list[list[Cell]] = []
    for entry in board.ranked:
        name = entry.name
        rows.append(
            [
                _shown(board, entry),
                drawn_text(entry.ap40),
                *(_mean(entry, measure) for measure in AP_COLUMNS),
                entry.tune_ap,
                _one_decimal(timing.get(f"ms_per_image/{name}")),
                _one_decimal(timing.get(f"peak_mib/{name}")),
            ]
        )
    columns = ["boxes by", f"AP40 {INTERVAL}", *AP_COLUMNS.values(), "AP40 on tune", "ms/image", "peak MiB"]
    if board.human is not None:
        rows.append([display_name("human"), drawn_text(board.human), *[None] * (len(columns) - 2)])
    note = (
        "Rules and the method are chosen on the tune split; everything else is of the test split. Intervals are of a "
        "bootstrap over patients (images where no patient is known). VOC AP40 is Kaggle's form of AP40."
    )
    return Table("Leaderboard, test split", columns, rows, note, board.ranked.index(board.best))


def place_tables(board: Board) -> list[Table]:
    """What else boxes and maps are judged by, with intervals, and the accuracy of the best-scored box."""
    rows = [(_shown(board, entry), entry.measures) for entry in board.ranked]
    highlight = board.ranked.index(board.best)
    return [localization_table(rows, highlight=highlight), accuracy_table(rows, highlight=highlight)]


def finding_table(board: Board, truth: CocoBoxes) -> Table:
    """AP40 a finding: the chosen method, the mean-box prior, and whichever method is best there on the test split."""
    prior = next((entry for entry in board.entries if entry.name == "prior_mean_box"), None)
    counted = truth.without_ignored().boxes
    rules = board.best.tuned.rules if board.best.tuned is not None else ()
    rows: list[list[Cell]] = []
    for column, finding in enumerate(truth.findings):
        rows.append(
            [
                finding,
                int((counted["finding"] == finding).sum()),
                display_name(board.best.methods[column]),
                drawn_text(board.best.ap40, finding),
                None if prior is None else drawn_text(prior.ap40, finding),
                _top_there(board, column),
                str(rules[column]),
            ]
        )
    columns = [
        "finding",
        "true boxes",
        "chosen method",
        f"AP40 {INTERVAL}",
        "prior: mean box",
        "best here",
        "rule",
    ]
    note = "Best here: the highest AP40 on the test split itself, on which nothing was chosen."
    return Table("Findings, test split", columns, rows, note)


def _top_there(board: Board, column: int) -> str:
    methods = [entry for entry in board.entries if not entry.is_prior]
    values = [entry.ap40.values[column] for entry in methods]
    if np.isnan(values).all():
        return ""
    top = int(np.nanargmax(values))
    return f"{values[top]:.3f} ({display_name(methods[top].name)})"


def rules_table(board: Board, worths: Sequence[RuleWorth]) -> Table:
    """What the rule from maps to boxes is worth, with the maps of the chosen method."""
    rows: list[list[Cell]] = [["chosen a finding", board.best.tune_ap, drawn_text(board.best.ap40), None]]
    for worth in worths:
        gap = f"{worth.gap.value:+.3f} {with_interval(None, worth.gap.low, worth.gap.high)}"
        rows.append([worth.kind, worth.tune_ap, drawn_text(worth.test), gap])
    columns = ["rule", "AP40 on tune", f"AP40 on test {INTERVAL}", "minus the chosen rules, paired"]
    note = "Each kind with its own best settings for each finding, found on the tune split."
    return Table(
        f"What the box rule is worth: {display_name(board.best.name)}", columns, rows, note, highlight=0
    )


def readers_table(board: Board) -> Table | None:
    """AP40 on the images that each group of readers read; None where no groups are known."""
    groups = list(board.best.readers)
    if not groups:
        return None
    rows: list[list[Cell]] = [
        [_shown(board, entry), *(drawn_text(entry.readers[group]) for group in groups)]
        for entry in board.ranked
    ]
    columns = ["boxes by", *groups]
    return Table(
        "AP40 by group of readers, test split", columns, rows, highlight=board.ranked.index(board.best)
    )


def rank_correlation_line(figures: Mapping[str, float]) -> str:
    """How far ScoreCAM's budgeted form ranks cells as the exact one does; "" where that was not measured."""
    value = figures.get("rank_correlation/scorecambudget")
    if value is None or np.isnan(value):
        return ""
    return (
        f"The cells of {display_name('scorecambudget')} rank as those of exact ScoreCAM with a mean correlation "
        f"(Spearman) of {value:.3f} over the timing images."
    )


def tune_boxes_table(board: Board, points: Sequence[SizePoint]) -> Table:
    """How AP40 on the test split depends on the number of true boxes that the rules are tuned by."""
    rows: list[list[Cell]] = [
        [
            "all" if point.size is None else str(point.size),
            f"{point.num_boxes:.0f}",
            f"{point.num_images:.0f}",
            with_interval(point.ap40, point.low, point.high),
            str(len(point.draws)),
        ]
        for point in points
    ]
    columns = ["tune boxes", "boxes drawn", "images drawn", f"AP40 on test {INTERVAL}", "draws"]
    note = (
        "Boxes of all findings together, in random parts of the tune split (means over the draws). The interval is "
        "over the draws and, in each, a bootstrap of the test images."
    )
    return Table(f"What tune boxes are worth: {display_name(board.best.name)}", columns, rows, note)


def _shown(board: Board, entry: Entry) -> str:
    return display_name(entry.name) + (" (chosen)" if entry is board.best else "")


def _mean(entry: Entry, measure: str) -> float | None:
    return entry.measures[measure].mean if measure in entry.measures else None


def _one_decimal(value: float | None) -> Cell:
    return None if value is None or np.isnan(value) else f"{value:.1f}"
