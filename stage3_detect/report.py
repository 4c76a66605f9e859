"""The page of a stage 3 run: figures, charts, training batches, detections beside the readers' boxes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.coco import CocoBoxes
from cxr.images import read_image
from cxr.tracking import read_log
from eval.charts import Bar, plot_bars, plot_curves
from eval.pictures import BLUE, GREEN, Rgb, as_rgb, draw_boxes, grid, save_png
from eval.report import Figure, Table, Text, write_report
from stage3_detect.evaluate import DETECTOR, MAIN_IOU, PRIORS, Comparison, verdict
from stage3_detect.yolo_dataset import YoloFolder

Metrics = dict[str, float | None]
_NAMES = {"detector": "detector", "teacher": "CAM teacher", PRIORS[0]: "mean box", PRIORS[1]: "centre box"}


def write_stage3_report(
    run_dir: Path, comparison: Comparison, metrics: Metrics, folder: YoloFolder, *, num_gallery_images: int
) -> Path:
    """Write pictures and report.html into the run folder; returns the page."""
    blocks = [
        _scores_table(comparison, metrics),
        Figure("AP at IoU 0.4 on the test split", _bars(run_dir, comparison), "Whiskers: 95 % intervals."),
        _class_table(comparison),
        _speed_table(metrics),
        Text("What it learned from", _data_words(folder)),
        *_training_figures(run_dir),
        _gallery(run_dir, comparison, num_gallery_images),
    ]
    synthetic = bool(comparison.truth.info.get("synthetic", False))
    title = "Stage 3: detector from pseudo-boxes"
    return write_report(run_dir, title=title, lead=verdict(comparison), blocks=blocks, synthetic=synthetic)


def _scores_table(comparison: Comparison, metrics: Metrics) -> Table:
    rows = []
    for name, scored in comparison.scored.items():
        others = [scored.result.mean_ap(iou) for iou in (0.1, 0.3, 0.5, 0.7)]
        main = f"{_text(scored.result.mean_ap(MAIN_IOU))} ({_text(scored.mean.low)} to {_text(scored.mean.high)})"
        rows.append([_label(name, comparison), main, *map(_text, others), _text(scored.result.mean_ap5095())])
    left_out = comparison.scored[DETECTOR].result.left_out
    note = f"Mean over findings with reader boxes; left out: {', '.join(left_out) or 'none'}. "
    note += f"Kaggle's VOC form at .4 for the detector: {_text(metrics.get('voc40/detector'))}."
    columns = ["", "AP40 (95 % interval)", "AP10", "AP30", "AP50", "AP70", "AP50:95"]
    return Table("Test split, against the readers' boxes", columns, rows, note)


def _class_table(comparison: Comparison) -> Table:
    aps = {name: scored.result.ap(MAIN_IOU) for name, scored in comparison.scored.items()}
    counts = comparison.truth.boxes["finding"].value_counts()
    rows = [
        [finding, int(counts.get(finding, 0)), *(_text(ap[finding]) for ap in aps.values())]
        for finding in comparison.truth.findings
    ]
    columns = ["finding", "reader boxes", *(_label(name, comparison) for name in aps)]
    return Table("AP40 by finding", columns, rows, "A finding without reader boxes has no score.")


def _speed_table(metrics: Metrics) -> Table:
    names = {
        "detector, PyTorch": "ms_per_image/detector",
        "detector, ONNX Runtime": "ms_per_image/detector_onnx",
        "CAM teacher": "ms_per_image/teacher",
    }
    rows = [
        [label, _text(metrics.get(key), 1), _text(metrics.get(f"{key}/p99"), 1)]
        for label, key in names.items()
    ]
    box, score = metrics.get("onnx/box_difference_px"), metrics.get("onnx/score_difference")
    note = (
        f"One image at a time, decoding to boxes. Exported against trained network: at most {box:.2g} px and "
    )
    return Table("Milliseconds an image", ["", "median", "p99"], rows, note + f"{score:.2g} in score.")


def _data_words(folder: YoloFolder) -> str:
    words = f"{folder.num_positives} images with pseudo-boxes and {folder.num_normals} without; "
    words += f"{folder.num_held_out} more chose the best epoch. "
    if folder.num_doubtful or folder.num_regions:
        words += f"{folder.num_doubtful} images were left out, which have ignore regions and no box; "
        words += f"{folder.num_regions} ignore regions of the others are not used. "
    named = ", ".join(image_id for image_id, _ in folder.excluded[:20])
    return words + (f"{len(folder.excluded)} could not be read: {named}." if folder.excluded else "")


def _training_figures(run_dir: Path) -> list[Figure]:
    log = read_log(run_dir)
    losses = {"box": "train/box_loss", "class": "train/cls_loss"}
    scores = {"AP50": "metrics/mAP50(B)", "AP50:95": "metrics/mAP50-95(B)"}
    titles = {
        "training_loss": "Training loss",
        "validation": "AP on the validation part (pseudo-boxes or tune split)",
    }
    figures = []
    for (name, title), series in zip(titles.items(), (losses, scores), strict=True):
        curves = {label: _series(log, key) for label, key in series.items()}
        path = plot_curves(run_dir / "pictures" / f"{name}.png", curves, labels=("epoch", ""))
        figures.append(Figure(title, _relative(path, run_dir)))
    for number, batch in enumerate(sorted((run_dir / "train").glob("train_batch?.jpg"))[:2]):
        copy = run_dir / "pictures" / f"train_batch{number}.png"
        save_png(copy, np.asarray(Image.open(batch).convert("RGB")))
        figures.append(Figure("Training batch as the network sees it", _relative(copy, run_dir)))
    return figures


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    known = [(entry["step"], entry[key]) for entry in log if key in entry]
    return [step for step, _ in known], [value for _, value in known]


def _bars(run_dir: Path, comparison: Comparison) -> str:
    bars = [
        Bar(
            _label(name, comparison),
            scored.result.mean_ap(MAIN_IOU),
            scored.mean.low,
            scored.mean.high,
            "marked" if name == DETECTOR else "muted" if name in PRIORS else "",
        )
        for name, scored in comparison.scored.items()
    ]
    return _relative(plot_bars(run_dir / "pictures" / "ap40.png", bars, label="AP40"), run_dir)


def _gallery(run_dir: Path, comparison: Comparison, num_images: int) -> Figure:
    """Evenly spaced test images with boxes and, as the last quarter, images without."""
    truth, detections = comparison.truth, comparison.scored[DETECTOR].predictions
    with_box = set(truth.boxes["image_id"])
    has_box = truth.images["image_id"].isin(with_box)
    num_empty = min(num_images // 4, int((~has_box).sum()))
    parts = [
        _spread(truth.images[has_box], num_images - num_empty),
        _spread(truth.images[~has_box], num_empty),
    ]
    # as many detections as there are reader boxes: a fair number to look at, chosen for the picture only
    shown = detections.boxes.nlargest(len(truth.boxes), "score")
    least = float(shown["score"].min()) if len(shown) else 0.0
    tiles = [_tile(row, truth, shown) for part in parts for row in part.to_dict("records")]
    path = save_png(run_dir / "pictures" / "gallery.png", grid(tiles, columns=4))
    note = f"Readers' boxes green; blue the detections with a score of at least {least:.2f}: on the whole test split "
    note += "they are as many as the readers' boxes."
    return Figure("Test images", _relative(path, run_dir), note)


def _spread(images: pd.DataFrame, count: int) -> pd.DataFrame:
    count = min(count, len(images))
    return (
        images.iloc[np.linspace(0, len(images) - 1, count).round().astype(int)] if count else images.iloc[:0]
    )


def _tile(row: dict[str, Any], truth: CocoBoxes, shown: pd.DataFrame) -> Rgb:
    image_id = row["image_id"]
    picture = as_rgb(read_image(Path(truth.info["data_root"]) / str(row["path"]), region=row["region"]))
    readers = truth.boxes[truth.boxes["image_id"] == image_id]
    own = shown[shown["image_id"] == image_id]
    corners = ["x1", "y1", "x2", "y2"]
    picture = draw_boxes(
        picture, readers[corners].to_numpy(), colour=GREEN, captions=list(readers["finding"])
    )
    captions = [f"{name} {score:.2f}" for name, score in zip(own["finding"], own["score"], strict=True)]
    return draw_boxes(picture, own[corners].to_numpy(), colour=BLUE, captions=captions)


def _label(name: str, comparison: Comparison) -> str:
    return f"{_NAMES[name]} ({comparison.teacher_method})" if name == "teacher" else _NAMES[name]


def _relative(path: Path, run_dir: Path) -> str:
    return path.relative_to(run_dir).as_posix()


def _text(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"
