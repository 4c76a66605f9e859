"""The charts of stage 3's report: AP40 as bars, FROC as curves, reliability, and the training."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxr.tracking import read_log
from eval.detection.froc import RATES, mean_sensitivity
from eval.detection.indexed import Indexed
from eval.detection.matching import MAIN_IOU
from eval.report.blocks import Figure
from eval.report.charts import Bar, plot_bars, plot_curves, plot_reliability
from eval.report.pictures import save_png
from stage3_detect.evaluation.results import HUMAN, Entry, Judgement

_FROC_GRID = np.geomspace(RATES[0] / 2, RATES[-1], 200)
_NUM_BATCHES = 2


def ap_chart(run_dir: Path, judgement: Judgement) -> Figure:
    """AP40 of all entries as bars with intervals."""
    bars = [_bar(judgement, entry) for entry in judgement.entries]
    if judgement.human is not None:
        bars.append(Bar(judgement.shown(HUMAN), *judgement.human.of(), "muted"))
    path = "pictures/ap40.png"
    plot_bars(run_dir / path, bars, label="mean AP at IoU 0.4 on the test split")
    note = (
        "Lines are 95 % intervals. Dark: the detector; grey: what looks at no image, and the human ceiling."
    )
    return Figure("AP40 with intervals", path, note)


def _bar(judgement: Judgement, entry: Entry) -> Bar:
    ends = entry.ap40.mean_interval
    kind = "marked" if entry is judgement.detector else "muted" if entry.is_prior else ""
    return Bar(judgement.shown(entry.name), entry.ap40.mean, ends.low, ends.high, kind)


def froc_chart(run_dir: Path, judgement: Judgement) -> Figure:
    """Mean sensitivity of each entry by false positives an image."""
    curves = {}
    for entry in judgement.entries:
        matches = Indexed(judgement.truth, entry.detections).match((MAIN_IOU,))
        values = mean_sensitivity(matches, _FROC_GRID)
        curves[judgement.shown(entry.name)] = (_FROC_GRID.tolist(), values.tolist())
    path = "pictures/froc.png"
    labels = ("false positives of the finding an image", "mean sensitivity")
    ticks = [float(_FROC_GRID[0]), *RATES.tolist()]
    plot_curves(run_dir / path, curves, labels=labels, y_range=(0, 1), x_ticks=ticks)
    note = "Share of true boxes found at IoU .4, mean over findings, at the lowest score that stays within the rate."
    return Figure("FROC curves", path, note)


def reliability_chart(run_dir: Path, judgement: Judgement) -> list[Figure]:
    """Share of right boxes by score and by calibrated confidence; nothing without a judged box."""
    if not judgement.scores.panels:
        return []
    path = "pictures/reliability.png"
    plot_reliability(run_dir / path, judgement.scores.panels)
    note = (
        "Boxes of the test split: how often a box of so much confidence pairs off with a true one at IoU .4."
    )
    return [Figure("Reliability of the scores", path, note)]


def training_figures(run_dir: Path, learned_in: Path) -> list[Figure]:
    """Curves of the training, and batches as the network sees them. learned_in: the folder of its log and of train/."""
    log = read_log(learned_in)
    kinds = {
        "training_loss": ("Training loss", "train/", "_loss"),
        "validation": ("AP on the images that choose the best epoch", "metrics/mAP", "(B)"),
    }
    figures = []
    for name, (title, start, end) in kinds.items():
        keys = dict.fromkeys(
            key for entry in log for key in entry if key.startswith(start) and key.endswith(end)
        )
        curves = {_curve_name(key): _series(log, key) for key in keys}
        if curves:
            path = f"pictures/{name}.png"
            plot_curves(run_dir / path, curves, labels=("epoch", ""), x_ticks="whole")
            figures.append(Figure(title, path))
    for number, batch in enumerate(sorted((learned_in / "train").glob("train_batch?.jpg"))[:_NUM_BATCHES]):
        path = f"pictures/train_batch{number}.png"
        save_png(run_dir / path, np.asarray(Image.open(batch).convert("RGB")))
        figures.append(Figure("Training batch as the network sees it", path))
    return figures


def _curve_name(key: str) -> str:
    """ "metrics/mAP50-95(B)" -> "AP50:95", "train/box_loss" -> "box"."""
    name = key.split("/")[1].removesuffix("_loss").removesuffix("(B)")
    return name.replace("mAP", "AP").replace("-", ":").replace("cls", "class")


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    known = [(entry["step"], entry[key]) for entry in log if key in entry]
    return [step for step, _ in known], [value for _, value in known]
