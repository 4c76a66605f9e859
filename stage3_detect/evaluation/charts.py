"""The charts of stage 3's report: FROC curves, reliability of the scores, and the training."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr.tracking import read_log
from eval.detection.froc import RATES, mean_sensitivity
from eval.detection.matching import ClassMatches
from eval.leaderboard.tables import Rows
from eval.report.blocks import Block, Figure
from eval.report.box_colours import IGNORED, LEARNED, legend_of
from eval.report.charts import plot_curves
from eval.report.reliability_chart import reliability_block
from stage3_detect.evaluation.scores import ScoreResults

Matches = Mapping[str, Sequence[ClassMatches]]
"""Matches of each entry at IoU .4, by the name of the entry."""

_FROC_GRID = np.geomspace(RATES[0] / 2, RATES[-1], 200)


def froc_chart(run_dir: Path, rows: Rows, matches: Matches) -> Figure:
    """Mean sensitivity of each entry by false positives per image."""
    curves = {
        rows.shown[name]: (_FROC_GRID.tolist(), mean_sensitivity(own, _FROC_GRID).tolist())
        for name, own in matches.items()
    }
    path = "pictures/froc.png"
    labels = ("false positives of the finding per image", "mean sensitivity")
    ticks = [float(_FROC_GRID[0]), *RATES.tolist()]
    plot_curves(run_dir / path, curves, labels=labels, y_range=(0, 1), x_ticks=ticks)
    note = "Share of true boxes found at IoU .4 (mean over findings) at the lowest score that stays within the rate."
    return Figure("FROC curves", path, note)


def reliability_blocks(run_dir: Path, scores: ScoreResults, findings: Sequence[str]) -> list[Block]:
    """Share of correct boxes by score and by calibrated confidence; nothing without scored boxes."""
    if not scores.panels:
        return []
    note = "Test split: the share of boxes with this confidence that match a true box at IoU .4."
    others = [finding for finding in findings if finding not in {panel.name for panel in scores.panels}]
    title = "Reliability of the scores"
    return [reliability_block(run_dir, title, scores.panels, of="boxes", note=note, others=others)]


def training_figures(run_dir: Path, training_dir: Path) -> list[Figure]:
    """Curves of the training, and the first batch as the network sees it. training_dir: holds the log and `train/`."""
    log = read_log(training_dir)
    kinds = {
        "training_loss": ("Training loss", "train/", "_loss"),
        "validation": ("AP on the validation images", "metrics/mAP", "(B)"),
    }
    figures = []
    for name, (title, start, end) in kinds.items():
        keys = dict.fromkeys(key for entry in log for key in entry if key.startswith(start) and key.endswith(end))
        curves = {_curve_name(key): _series(log, key) for key in keys}
        if curves:
            path = f"pictures/{name}.png"
            plot_curves(run_dir / path, curves, labels=("epoch", ""), x_ticks="whole")
            figures.append(Figure(title, path))
    for batch in sorted((training_dir / "train").glob("train_batch?.jpg"))[:1]:
        path = "pictures/train_batch0.jpg"
        (run_dir / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(batch, run_dir / path)
        note = (
            "Images of the first batch after augmentation. Inside an ignore region the finding is not penalised; those "
            "of more than half an image, which come from its labels, are not shown."
        )
        figures.append(Figure("Training batch as the network sees it", path, note, legend=legend_of(LEARNED, IGNORED)))
    return figures


def _curve_name(key: str) -> str:
    """ "metrics/mAP50-95(B)" -> "AP50:95", "train/box_loss" -> "box"."""
    name = key.split("/")[1].removesuffix("_loss").removesuffix("(B)")
    return name.replace("mAP", "AP").replace("-", ":").replace("cls", "class")


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    known = [(entry["step"], entry[key]) for entry in log if key in entry]
    return [step for step, _ in known], [value for _, value in known]
