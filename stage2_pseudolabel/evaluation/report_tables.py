"""The tables of stage 2's report that no other stage has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cxr.labels import slug
from eval.leaderboard.leaderboard import Leaderboard
from eval.leaderboard.names import AP40, display_name
from eval.leaderboard.tables import ENTRY, INTERVAL, Rows, finding_table, measure_table
from eval.report.blocks import Table
from eval.report.format import Cell, figure_text, gap_text, with_interval
from stage2_pseudolabel.boxes.sample_size import SizePoint
from stage2_pseudolabel.evaluation.evaluate import RuleComparison
from stage2_pseudolabel.evaluation.leaderboard import CamEntry


def chosen_table(board: Leaderboard[CamEntry]) -> Table:
    """AP40 per finding of the chosen method and the mean-box prior, with the rule, and the best method per finding."""
    rows, best = board.rows(), board.main
    shown = {name: rows.shown[name] for name in (best.name, "prior_mean_box") if name in rows.shown}
    rules = best.tuned.rules if best.tuned is not None else ()
    more: dict[str, Sequence[Cell]] = {
        "best here": [_best_here(board, column) for column in range(len(best.methods))],
        "method": [display_name(method) for method in best.methods],
        "rule": [str(rule) for rule in rules],
    }
    table = finding_table(Rows(shown, rows.figures), board.num_true, more=more)
    note = f"{table.note} Best here: the method with the highest AP40 on the test split itself."
    return replace(table, note=note)


def _best_here(board: Leaderboard[CamEntry], column: int) -> str:
    methods = [entry for entry in board.entries if not entry.is_prior]
    values = [entry.ap40.values[column] for entry in methods]
    if np.isnan(values).all():
        return ""
    top = int(np.nanargmax(values))
    return f"{values[top]:.3f} ({display_name(methods[top].name)})"


def rules_table(best: CamEntry, compared: Sequence[RuleComparison]) -> Table:
    """AP40 of each kind of box rule, with the maps of the chosen method."""
    rows: list[list[Cell]] = [
        ["best per finding", best.tune_ap, figure_text(best.figures, f"{AP40}/{best.name}"), None]
    ]
    for one in compared:
        ends = one.test.mean_interval
        rows.append([one.kind, one.tune_ap, with_interval(one.test.mean, ends.low, ends.high), gap_text(one.gap)])
    columns = ["rule", "AP40 on tune", f"AP40 on test {INTERVAL}", "minus the best rules, paired"]
    note = "Each kind uses its own best settings per finding, chosen on the tune split."
    return Table(f"Kinds of box rules: {display_name(best.name)}", columns, rows, note, highlight=0)


def faithfulness_table(board: Leaderboard[CamEntry]) -> Table | None:
    """Faithfulness of each method's maps; None where it was not measured."""
    rows = board.rows()
    columns = rows.known({"deletion": "deletion (low is good)", "insertion": "insertion", "road": "ROAD"})
    if not columns:
        return None
    note = (
        "How much the classifier's probability of a finding depends on what its map marks. Deletion and insertion: "
        "area under the probability while the most relevant pixels are replaced by the image's mean, or inserted into "
        "the blurred image. ROAD: probability without the least relevant pixels minus that without the most relevant "
        "ones, halved; removed pixels are imputed."
    )
    return measure_table(rows, "Faithfulness of the maps", columns, note=note)


def readers_table(board: Leaderboard[CamEntry]) -> Table | None:
    """AP40 on the images that each group of readers read; None without groups."""
    groups = list(board.main.readers)
    if not groups:
        return None
    rows = board.rows()
    cells: list[list[Cell]] = [
        [
            rows.shown[entry.name],
            *(figure_text(rows.figures, f"{AP40}/{entry.name}/readers/{slug(group)}") for group in groups),
        ]
        for entry in board.ranked
    ]
    return Table("AP40 by group of readers, test split", [ENTRY, *groups], cells, "", rows.highlight)


def rank_correlation_line(figures: Mapping[str, float]) -> str:
    """How similarly budgeted and exact ScoreCAM rank the cells of a map; "" where that was not measured."""
    value = figures.get("rank_correlation/scorecambudget")
    if value is None or np.isnan(value):
        return ""
    return (
        f"{display_name('scorecambudget')} and exact ScoreCAM rank the cells of a map similarly: their mean rank "
        f"correlation (Spearman) over the timing images is {value:.3f}."
    )


def tune_boxes_table(best: CamEntry, points: Sequence[SizePoint]) -> Table:
    """AP40 on the test split by the number of true boxes with which the rules are tuned."""
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
    columns = ["tune boxes", "boxes sampled", "images sampled", f"AP40 on test {INTERVAL}", "samples"]
    note = (
        "Boxes of all findings together, in random parts of the tune split (means over the samples). The interval "
        "covers the samples and, within each, a bootstrap of the test images."
    )
    return Table(f"Number of tune boxes: {display_name(best.name)}", columns, rows, note)
