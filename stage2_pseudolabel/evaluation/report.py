"""The report of stage 2: `report.html` and `report.json` with their pictures, in the order of the questions asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxr.labels import slug
from eval.leaderboard.box_tables import drawn_text
from eval.leaderboard.run_tables import display_name
from eval.report.blocks import Block, Figure, Table, Text, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.pictures import save_jpeg
from eval.stats.measures import Bootstrapped
from stage2_pseudolabel.boxes.sample_size import SizePoint
from stage2_pseudolabel.evaluation.box_splits import HeldOut
from stage2_pseudolabel.evaluation.galleries import (
    MAX_BOXES_SHOWN,
    MIN_SCORE_SHOWN,
    example_gallery,
    method_galleries,
    shown_findings,
)
from stage2_pseudolabel.evaluation.leaderboard import Board, Entry
from stage2_pseudolabel.evaluation.report_tables import (
    finding_table,
    leaderboard_table,
    place_tables,
    rank_correlation_line,
    readers_table,
    rules_table,
    tune_boxes_table,
)
from stage2_pseudolabel.evaluation.rule_comparison import RuleWorth
from stage2_pseudolabel.evaluation.verdict import verdict

_MAX_SHOWN_FINDINGS = 6
"""Findings with a picture of all methods; each is a figure of its own."""
_WHICH = (
    f"Of the boxes the {MAX_BOXES_SHOWN} strongest are drawn, of at least {round(100 * MIN_SCORE_SHOWN)} % of the "
    "strongest one's score."
)


@dataclass(frozen=True, eq=False)
class SummaryFacts:
    """What the report is made of, beside the board and the test split.

    timing: `ms_per_image/<method>`, `peak_mib/<method>` and, where measured, `rank_correlation/scorecambudget`.
    rules: what each kind of rule is worth. tune_boxes: AP40 by the number of tune boxes.
    pseudo: the blocks about the pseudo-labels, whose pictures lie in the run folder already.
    human_on_tune: AP40 of one reader against the others on the tune split, where the test split has a consensus alone.
    """

    timing: Mapping[str, float] = field(default_factory=dict)
    rules: Sequence[RuleWorth] = ()
    tune_boxes: Sequence[SizePoint] = ()
    pseudo: Sequence[Block] = ()
    human_on_tune: Bootstrapped | None = None


def write_summary(run_dir: Path, board: Board, held: HeldOut, facts: SummaryFacts) -> Path:
    """Write the report with its pictures; returns the page's path."""
    blocks: list[Block] = [
        leaderboard_table(board, facts.timing),
        _chart(run_dir, board),
        *place_tables(board),
        *_human_blocks(facts.human_on_tune),
        *_timing_blocks(facts.timing),
        *_reader_blocks(board),
        Text("Findings"),
        finding_table(board, held.truth),
        *_pictures(run_dir, board, held),
        *_rule_blocks(board, facts),
        *([Text("Pseudo-labels"), *facts.pseudo] if facts.pseudo else []),
    ]
    synthetic = bool(held.truth.info.get("synthetic"))
    title = "Stage 2: CAM leaderboard and pseudo-labels"
    return write_report(run_dir, title=title, lead=verdict(board), blocks=blocks, synthetic=synthetic)


def _chart(run_dir: Path, board: Board) -> Figure:
    bars = [_bar(board, entry) for entry in board.ranked]
    if board.human is not None:
        ends = board.human.mean_interval
        bars.append(Bar(display_name("human"), board.human.mean, ends.low, ends.high, "muted"))
    plot_bars(run_dir / "pictures" / "leaderboard.png", bars, label="mean AP at IoU 0.4 on the test split")
    note = "Lines are 95 % intervals. Dark: the chosen method; grey: what looks at no map, and the human ceiling."
    return Figure("AP40 with intervals", "pictures/leaderboard.png", note)


def _bar(board: Board, entry: Entry) -> Bar:
    ends = entry.ap40.mean_interval
    kind = "marked" if entry is board.best else "muted" if entry.is_prior else ""
    return Bar(display_name(entry.name), entry.ap40.mean, ends.low, ends.high, kind)


def _human_blocks(on_tune: Bootstrapped | None) -> list[Block]:
    if on_tune is None:
        return []
    body = (
        f"One reader against the others reaches AP40 {drawn_text(on_tune)} on the tune "
        "split. The test split's boxes have a single reader or are a consensus, so there is no such figure of it."
    )
    return [Text("Human ceiling", body)]


def _timing_blocks(timing: Mapping[str, float]) -> list[Block]:
    line = rank_correlation_line(timing)
    return [Text("ScoreCAM in a budget", line)] if line else []


def _reader_blocks(board: Board) -> list[Table]:
    table = readers_table(board)
    return [] if table is None else [table]


def _rule_blocks(board: Board, facts: SummaryFacts) -> list[Block]:
    tables = [rules_table(board, facts.rules)] if facts.rules else []
    tables += [tune_boxes_table(board, facts.tune_boxes)] if facts.tune_boxes else []
    return [Text("Box rules"), *tables] if tables else []


def _pictures(run_dir: Path, board: Board, held: HeldOut) -> list[Figure]:
    save_jpeg(run_dir / "pictures" / "examples.jpg", example_gallery(board, held))
    figures = [
        Figure(
            f"{display_name(board.best.name)} against the readers: best, median and worst image of each finding",
            "pictures/examples.jpg",
            "Ranked by the IoU of the best-scored box with a true one, among test images with the finding. Readers' "
            "boxes green, boxes from the map blue with their score. The map is stretched to its own maximum. "
            + _WHICH,
        )
    ]
    columns = shown_findings(held, _MAX_SHOWN_FINDINGS)
    note = (
        "One test image with the finding; methods by falling AP40. Readers' boxes green, each method's boxes blue "
        f"with their score. Each map is stretched to its own maximum. {_WHICH} There is such a picture for "
        f"{_MAX_SHOWN_FINDINGS} findings at most."
    )
    for column, picture in zip(columns, method_galleries(board, held, columns), strict=True):
        finding = held.truth.findings[column]
        name = f"pictures/methods_{slug(finding)}.jpg"
        save_jpeg(run_dir / name, picture)
        figures.append(Figure(f"All methods on one image: {finding}", name, note))
    return figures
