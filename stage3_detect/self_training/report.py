"""Section of a run's report about the self-training rounds."""

from pathlib import Path

from cxr.coco import CocoBoxes
from cxr.metrics import Metrics
from eval.report.blocks import Block, Figure, Table
from eval.report.box_colours import DETECTED, FROM_MAP, NEXT_LABELS, legend_of
from eval.report.format import Cell, figure_text
from stage3_detect.self_training.pictures import NAME
from stage3_detect.self_training.rounds import RoundsResult


def rounds_blocks(run_dir: Path, trained: RoundsResult, tune: CocoBoxes) -> list[Block]:
    """A table of the rounds and pictures of the last relabelling, if there are several; the box correction."""
    if len(trained.history) < 2:
        return [_correction_table(trained, tune)]
    rows = [_row(number, figures) for number, figures in enumerate(trained.history)]
    counted = ["boxes", "kept", "dropped", "new"]
    columns = ["round", "tune AP40", "gain over the best earlier round", *counted, "mean confidence"]
    note = "AP40 on the tune split decides when to stop and which round is best, so its figure is slightly optimistic."
    table = Table(f"Rounds: {trained.stopped}", columns, rows, note, highlight=trained.best_round)
    blocks: list[Block] = [table, _correction_table(trained, tune)]
    last = run_dir / "rounds" / str(len(trained.history) - 1) / NAME
    if last.is_file():
        words = "The labels of the next round have their confidence. The detector is that of the round before."
        legend = legend_of(FROM_MAP, DETECTED, NEXT_LABELS)
        blocks.append(Figure("The last relabelling", last.relative_to(run_dir).as_posix(), words, legend=legend))
    return blocks


def _row(number: int, figures: Metrics) -> list[Cell]:
    values = [figures[name] for name in ("num_boxes", "num_kept", "num_dropped", "num_added")]
    counts = [None if value is None else round(value) for value in values]
    aps = (figure_text(figures, "tune_ap40"), figure_text(figures, "tune_gain"))
    return [number, *aps, *counts, figures["mean_confidence"]]


def _correction_table(trained: RoundsResult, tune: CocoBoxes) -> Table:
    """How boxes are corrected, per finding."""
    real = tune.without_ignored().boxes["finding"].value_counts()
    rows: list[list[Cell]] = []
    for name in tune.findings:
        x, y, width, height = trained.correction.factors(name)
        rows.append([name, int(real.get(name, 0)), f"{x:+z.2f}", f"{y:+z.2f}", f"{width:.2f}", f"{height:.2f}"])
    columns = ["finding", "tune boxes", "right by", "down by", "width times", "height times"]
    note = (
        "Medians over the true boxes of the tune split that a detection overlaps, shrunk towards no change where there "
        "are few. Shifts are in widths and heights of the corrected box."
    )
    return Table("Box correction", columns, rows, note)
