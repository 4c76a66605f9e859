"""The report of stage 2: `report.html` and `report.json` with their pictures."""

from collections.abc import Sequence
from pathlib import Path

from cxr.labels import slug
from eval.leaderboard.chain_pictures import Column, example_rows
from eval.leaderboard.examples import MAX_BOXES_SHOWN, MIN_SCORE_SHOWN
from eval.leaderboard.leaderboard import Leaderboard
from eval.leaderboard.names import display_name
from eval.leaderboard.tables import ap40_chart, difference_table, further_tables, main_table
from eval.leaderboard.verdict import verdict_block
from eval.report.blocks import Block, Figure, Text, write_report
from eval.report.box_colours import FROM_MAP, TRUE, legend_of
from eval.report.pictures import save_jpeg
from stage2_pseudolabel.evaluation.blank_image import blank_image_blocks
from stage2_pseudolabel.evaluation.evaluate import Evaluation
from stage2_pseudolabel.evaluation.gallery import example_gallery, method_galleries, shown_findings
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.report_tables import (
    chosen_table,
    faithfulness_table,
    rank_correlation_line,
    readers_table,
    rules_table,
    tune_boxes_table,
)
from stage2_pseudolabel.evaluation.split_data import SplitData
from stage2_pseudolabel.evaluation.verdict import verdict

_MAX_SHOWN_FINDINGS = 6
"""Findings with a picture of all methods."""
_BOXES = (
    f"Each map is scaled to its own maximum. At most {MAX_BOXES_SHOWN} boxes from the map are shown with their score, "
    f"those with at least {round(100 * MIN_SCORE_SHOWN)} % of the highest."
)


def write_cam_report(run_dir: Path, found: Evaluation, pseudo_labels: Sequence[Block] = ()) -> Path:
    """Write the report with its pictures; returns the path of the page.

    The first row shows the examples that `write_examples` has written. pseudo_labels: blocks about the pseudo-labels,
    whose pictures are already in the run folder.
    """
    board, rows = found.board, found.board.rows(found.timing)
    blocks: list[Block] = [
        *_first_row(run_dir, board, found.test),
        ap40_chart(run_dir, rows, "pictures/leaderboard.png"),
        verdict_block(verdict(board)),
        main_table(rows, title="Leaderboard, test split", note=_NOTE),
        difference_table(rows, list(board.compared.values()), {}),
        *further_tables(rows),
        *_optional_blocks(run_dir, found),
        Text("Findings"),
        chosen_table(board),
        *_galleries(run_dir, board, found.test),
        *_rule_blocks(found),
        *([Text("Pseudo-labels"), *pseudo_labels] if pseudo_labels else []),
    ]
    synthetic = bool(board.truth.info.get("synthetic"))
    lead = "CAM methods turn image labels into boxes. This page compares them on radiologists' boxes."
    title = "Stage 2: CAM leaderboard and pseudo-labels"
    return write_report(run_dir, title=title, lead=lead, blocks=blocks, synthetic=synthetic)


_NOTE = (
    "The method and its box rules are chosen on the tune split; all other figures are from the test split. Intervals "
    "are 95 % bootstrap intervals over patients (over images where no patient is known)."
)


def _optional_blocks(run_dir: Path, found: Evaluation) -> list[Block]:
    line = rank_correlation_line(found.timing)
    tables = [table for table in (faithfulness_table(found.board), readers_table(found.board)) if table is not None]
    blank = [] if found.blank is None else blank_image_blocks(run_dir, found.blank, found.test)
    return [*([Text("ScoreCAM budget", line)] if line else []), *tables, *blank]


def _rule_blocks(found: Evaluation) -> list[Block]:
    tables = [rules_table(found.board.main, found.rules)] if found.rules else []
    tables += [tune_boxes_table(found.board.main, found.tune_boxes)] if found.tune_boxes else []
    return [Text("Box rules"), *tables] if tables else []


def _first_row(run_dir: Path, board: Leaderboard[CamEntry], test: SplitData) -> list[Block]:
    """The examples of `write_examples` with the boxes from the maps and the true boxes; nothing without examples."""
    columns = {"cam": Column(board.main.detections, FROM_MAP), "truth": Column(test.truth, TRUE)}
    rows = example_rows(run_dir, columns, out=run_dir)
    return [] if rows is None else [rows]


def _galleries(run_dir: Path, board: Leaderboard[CamEntry], test: SplitData) -> list[Figure]:
    save_jpeg(run_dir / "pictures" / "examples.jpg", example_gallery(board, test))
    figures = [
        Figure(
            f"Best, median and worst image of each finding: {display_name(board.main.name)}",
            "pictures/examples.jpg",
            f"Test images with the finding, ranked by the IoU of the best-scored box with a true box. {_BOXES}",
            legend=legend_of(TRUE, FROM_MAP),
        )
    ]
    columns = shown_findings(test, _MAX_SHOWN_FINDINGS)
    note = f"One test image with the finding; methods by falling AP40. {_BOXES}"
    for column, picture in zip(columns, method_galleries(board, test, columns), strict=True):
        finding = board.truth.findings[column]
        path = f"pictures/methods_{slug(finding)}.jpg"
        save_jpeg(run_dir / path, picture)
        figures.append(Figure(f"All methods on one image: {finding}", path, note, legend=legend_of(TRUE, FROM_MAP)))
    return figures
