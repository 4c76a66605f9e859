"""The tables of stage 3's report that no other stage has."""

import math

from cxr.labels import slug
from cxr.metrics import ReadMetrics
from eval.detection.froc import RATES, mean_sensitivity
from eval.detection.points import OperatingPoint
from eval.detection.reliability import MIN_SCORE
from eval.leaderboard.names import DETECTOR, TEACHER
from eval.leaderboard.tables import ENTRY, INTERVAL, Rows
from eval.report.blocks import Table
from eval.report.format import Cell, figure_text, in_format
from stage3_detect.evaluation.charts import Matches
from stage3_detect.evaluation.results import Evaluation

FORMATS = {
    "onnx": "ONNX Runtime",
    "openvino_fp32": "OpenVINO FP32",
    "openvino_fp16": "OpenVINO FP16",
    "openvino_int8": "OpenVINO INT8",
    "tensorrt_fp16": "TensorRT FP16",
}
_POINT_COLUMNS = {
    "sensitivity": "sensitivity",
    "precision": "precision",
    "false_positives_per_image": "false positives per image",
    "f1_score": "F1",
}


def froc_table(rows: Rows, matches: Matches) -> Table:
    """Mean sensitivity of each entry at the seven rates of false positives."""
    cells: list[list[Cell]] = [
        [rows.shown[name], rows.text("froc", name), *mean_sensitivity(own, RATES).tolist()]
        for name, own in matches.items()
    ]
    columns = [ENTRY, f"FROC {INTERVAL}", "1/8", "1/4", "1/2", "1", "2", "4", "8"]
    note = (
        "Share of true boxes found (IoU .4, mean over the findings) with at most this number of false positives of the "
        "finding per image. FROC is the mean over the seven rates."
    )
    return Table("Sensitivity by false positives per image", columns, cells, note, rows.highlight)


def point_table(metrics: ReadMetrics, point: OperatingPoint) -> Table:
    """An operating point on the test split: pooled over all findings, then per finding."""
    rows: list[list[Cell]] = [
        ["all findings", None, *(figure_text(metrics, f"{name}/{point.name}") for name in _POINT_COLUMNS)]
    ]
    for finding, score in point.scores.items():
        shown: Cell = score if math.isfinite(score) else "nothing shown"
        keys = [f"{name}/{point.name}/{slug(finding)}" for name in _POINT_COLUMNS]
        rows.append([finding, shown, *(figure_text(metrics, key) for key in keys)])
    columns = ["finding", "score from", *_POINT_COLUMNS.values()]
    note = f"Chosen: {point.about}. Figures are from the test split with 95 % intervals; boxes are correct from IoU .4."
    return Table(f"Operating point {point.name}", columns, rows, note, highlight=0)


def calibration_table(evaluation: Evaluation) -> Table:
    """Expected calibration error of the scores and of the calibrated confidence."""
    scores, metrics = evaluation.scores, evaluation.metrics
    heads = {"ece/detector": "of the scores", "ece/detector_calibrated": "of the calibrated confidence"}
    keys = [key for key in heads if key in metrics]
    rows: list[list[Cell]] = [["all findings", *(figure_text(metrics, key) for key in keys)]]
    for finding in evaluation.truth.findings:
        rows.append([finding, *(figure_text(metrics, f"{key}/{slug(finding)}") for key in keys)])
    note = (
        "Mean difference between confidence and share of correct boxes, over "
        f"{scores.num_scored} boxes of the test split with a score of at least {MIN_SCORE}. "
    )
    note += f"No curves: {scores.why_none}." if scores.why_none else "The curves are fitted on the tune split."
    return Table("Calibration error", ["finding", *(heads[key] for key in keys)], rows, note, highlight=0)


def format_tables(metrics: ReadMetrics, *, teacher: str) -> list[Table]:
    """Formats of the detector: milliseconds per image, and differences between exported files and the trained network.

    metrics: ``ms_per_image/<name>`` with ``/p99``, ``export/<format>/box_difference_px``, ``/score_difference`` and
    ``/ap40_loss``. A dash where a figure is missing; formats without any figure have no row.
    """
    rows: list[list[Cell]] = []
    for name in _timed_names(metrics):
        own = name.removeprefix(f"{DETECTOR}_")
        shown = {TEACHER: teacher, DETECTOR: "detector, PyTorch"}.get(name, f"detector, {FORMATS.get(own, own)}")
        times = [in_format(metrics.get(f"ms_per_image/{name}{end}"), ".1f") for end in ("", "/p99")]
        differences = [
            metrics.get(f"export/{own}/{what}_difference{end}") for what, end in (("box", "_px"), ("score", ""))
        ]
        loss = figure_text(metrics, f"export/{own}/ap40_loss")
        rows.append([shown, *times, *(in_format(value, ".2g") for value in differences), loss])
    columns = ["", "ms/image, median", "p99", "box difference, px", "score difference", f"AP40 lost {INTERVAL}"]
    note = (
        "Detector: one image at a time, from decoding to boxes. CAM teacher: mean time of its maps in batches, without "
        "decoding and boxes, as measured in stage 2. Differences: exported file against trained network on test "
        "images, the largest difference of boxes and scores, and the paired difference of AP40 (negative: gained)."
    )
    return [Table("Formats of the detector", columns, rows, note)] if rows else []


def _timed_names(metrics: ReadMetrics) -> list[str]:
    """Detector, each exported format with a figure, teacher."""
    exported = [f"{DETECTOR}_{key.split('/')[1]}" for key in metrics if key.startswith("export/")]
    timed = [key.split("/")[1] for key in metrics if key.startswith("ms_per_image/")]
    formats = [name for name in dict.fromkeys(exported + timed) if name.startswith(f"{DETECTOR}_")]
    return [name for name in (DETECTOR, *formats, TEACHER) if name in timed or name in formats]
