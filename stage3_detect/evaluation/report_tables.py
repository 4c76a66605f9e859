"""The tables of stage 3's report."""

import math

from eval.detection.froc import RATES, mean_sensitivity
from eval.detection.indexed import Indexed
from eval.detection.matching import MAIN_IOU
from eval.detection.reliability import MIN_JUDGED_SCORE
from eval.leaderboard.box_tables import (
    AP_COLUMNS,
    INTERVAL,
    Rows,
    accuracy_table,
    drawn_text,
    localization_table,
)
from eval.report.blocks import Table
from eval.report.format import Cell, gap_text, with_interval
from stage3_detect.evaluation.results import DETECTOR, HUMAN, RODEO, TEACHER, Human, Judgement, Metrics
from stage3_detect.evaluation.scores import CALIBRATED, RAW, PointResult


def score_table(judgement: Judgement, timing: Metrics) -> Table:
    """Average precision of all entries at all thresholds, and milliseconds an image; the human ceiling stands last."""
    rows: list[list[Cell]] = []
    for entry in judgement.entries:
        others = [entry.measures[name].mean for name in AP_COLUMNS]
        rows.append(
            [
                judgement.shown(entry.name),
                drawn_text(entry.ap40),
                *others,
                _one_decimal(timing.get(f"ms_per_image/{entry.name}")),
            ]
        )
    columns = ["boxes by", f"AP40 {INTERVAL}", *AP_COLUMNS.values(), "ms/image"]
    if judgement.human is not None:
        rows.append([judgement.shown(HUMAN), _human_text(judgement.human), *[None] * (len(columns) - 2)])
    values = zip(judgement.truth.findings, judgement.detector.ap40.values, strict=True)
    empty = [finding for finding, value in values if math.isnan(value)]
    note = (
        f"Mean over the findings with true boxes; left out: {', '.join(empty) or 'none'}. Intervals are of a bootstrap "
        "over patients (images where no patient is known), the same resamples for all. VOC AP40: Kaggle's form."
    )
    return Table("Test split, against the readers' boxes", columns, rows, note, highlight=0)


def difference_table(judgement: Judgement) -> Table:
    """The detector minus each of the others."""
    rows: list[list[Cell]] = []
    for one in judgement.against:
        share = judgement.shares.get(one.name)
        reached = None if share is None else with_interval(share.value, share.low, share.high)
        rows.append([judgement.shown(one.name), gap_text(one.gap), one.p_holm, one.place, reached])
    columns = [
        "the detector against",
        f"AP40, detector minus this {INTERVAL}",
        "p (Holm)",
        "the detector is",
        "as a share of this",
    ]
    note = f"Paired: the same resamples of the test patients. p is corrected for {len(rows)} comparisons."
    return Table("The detector against each of the others", columns, rows, note)


def finding_table(judgement: Judgement) -> Table:
    """AP40 of each finding, with intervals."""
    real = judgement.truth.without_ignored().boxes["finding"].value_counts()
    rows: list[list[Cell]] = []
    for finding in judgement.truth.findings:
        own = [drawn_text(entry.ap40, finding) for entry in judgement.entries]
        ceiling = [] if judgement.human is None else [_human_text(judgement.human, finding)]
        rows.append([finding, int(real.get(finding, 0)), *own, *ceiling])
    names = [judgement.shown(entry.name) for entry in judgement.entries]
    ceiling = [] if judgement.human is None else [judgement.shown(HUMAN)]
    note = "A finding without true boxes has no score; ignore regions are no boxes."
    return Table(f"AP40 by finding {INTERVAL}", ["finding", "true boxes", *names, *ceiling], rows, note)


def froc_table(judgement: Judgement) -> Table:
    """Sensitivity at the seven rates of false positives."""
    rows: list[list[Cell]] = []
    for entry in judgement.entries:
        at_rates = mean_sensitivity(
            Indexed(judgement.truth, entry.detections).match((MAIN_IOU,)), RATES
        ).tolist()
        rows.append([judgement.shown(entry.name), drawn_text(entry.measures["froc"]), *at_rates])
    columns = ["boxes by", f"FROC {INTERVAL}", "1/8", "1/4", "1/2", "1", "2", "4", "8"]
    note = (
        "Mean over findings of the share of true boxes found (IoU .4) with no more than so many false positives of the "
        "finding an image; FROC is the mean over the seven rates."
    )
    return Table("Sensitivity by false positives an image", columns, rows, note, highlight=0)


def froc_by_finding_table(judgement: Judgement) -> Table:
    """FROC of each finding, with intervals."""
    rows: list[list[Cell]] = [
        [finding, *(drawn_text(entry.measures["froc"], finding) for entry in judgement.entries)]
        for finding in judgement.truth.findings
    ]
    names = [judgement.shown(entry.name) for entry in judgement.entries]
    return Table(f"FROC by finding {INTERVAL}", ["finding", *names], rows)


def place_tables(judgement: Judgement) -> list[Table]:
    """What else boxes are judged by."""
    rows: Rows = [
        (judgement.shown(entry.name), {k: v for k, v in entry.measures.items() if k != RODEO})
        for entry in judgement.entries
    ]
    return [
        localization_table(rows, highlight=0),
        accuracy_table(rows, highlight=0),
        *_rodeo_table(judgement),
    ]


def _rodeo_table(judgement: Judgement) -> list[Table]:
    metrics = judgement.metrics
    rows: list[list[Cell]] = []
    for entry in judgement.entries:
        key = f"{RODEO}/{entry.name}"
        if metrics.get(key) is not None:
            ends = metrics.get(f"{key}/low"), metrics.get(f"{key}/high")
            rows.append([judgement.shown(entry.name), with_interval(metrics[key], *ends)])
    note = (
        "RoDeO judges class, place and shape of the boxes that are put out: those from the score of best F1 on the "
        "tune split on. Teacher and priors as stage 2 measured them."
    )
    return [Table("RoDeO, test split", ["boxes by", f"RoDeO {INTERVAL}"], rows, note)] if rows else []


FORMS = {
    "onnx": "ONNX Runtime",
    "openvino_fp32": "OpenVINO FP32",
    "openvino_fp16": "OpenVINO FP16",
    "openvino_int8": "OpenVINO INT8",
    "tensorrt_fp16": "TensorRT FP16",
}
_POINT_COLUMNS = {
    "sensitivity": "sensitivity",
    "precision": "precision",
    "false_positives_per_image": "false positives an image",
    "f1_score": "F1",
}


def point_table(found: PointResult) -> Table:
    """An operating point: all findings together, then each."""
    first: list[Cell] = ["all findings", None, *(drawn_text(found.pooled[name]) for name in _POINT_COLUMNS)]
    rows = [first]
    for finding, score in found.point.scores.items():
        shown: Cell = score if math.isfinite(score) else "nothing shown"
        rows.append(
            [finding, shown, *(drawn_text(found.by_finding[name], finding) for name in _POINT_COLUMNS)]
        )
    columns = ["finding", "score from", *_POINT_COLUMNS.values()]
    note = f"Chosen: {found.point.about}. Figures are of the test split, with 95 % intervals; a box is right at IoU .4."
    return Table(f"Operating point {found.point.name}", columns, rows, note, highlight=0)


def calibration_table(judgement: Judgement) -> Table:
    """Expected calibration error before and after."""
    scores = judgement.scores
    kinds = [kind for kind in (RAW, CALIBRATED) if kind in scores.ece]
    rows: list[list[Cell]] = [["all findings", *(drawn_text(scores.ece[kind][0]) for kind in kinds)]]
    for finding in judgement.truth.findings:
        rows.append([finding, *(drawn_text(scores.ece[kind][1], finding) for kind in kinds)])
    heads = {RAW: "of the scores", CALIBRATED: "of the calibrated confidence"}
    note = (
        f"Mean distance between confidence and share of right boxes, over {scores.num_judged} boxes of the test split "
        f"with a score of at least {MIN_JUDGED_SCORE}. "
    )
    note += (
        f"No curves: {scores.why_none}." if scores.why_none else "The curves are fitted on the tune split."
    )
    return Table("Calibration error", ["finding", *(heads[kind] for kind in kinds)], rows, note, highlight=0)


def form_tables(metrics: Metrics, *, teacher: str) -> list[Table]:
    """The forms of the detector: milliseconds an image, and how far exported files are from the trained network.

    metrics: ``ms_per_image/<name>`` with ``/p99``, ``export/<form>/box_difference_px``, ``/score_difference`` and
    ``/ap40_loss``; what is not there is a dash, a form without any figure has no row.
    """
    rows: list[list[Cell]] = []
    for name in _form_names(metrics):
        form = name.removeprefix(f"{DETECTOR}_")
        times = [_one_decimal(metrics.get(f"ms_per_image/{name}{end}")) for end in ("", "/p99")]
        loss = [metrics.get(f"export/{form}/ap40_loss{end}") for end in ("", "/low", "/high")]
        apart = [metrics.get(f"export/{form}/{what}") for what in ("box_difference_px", "score_difference")]
        shown = {TEACHER: teacher, DETECTOR: "detector, PyTorch"}.get(
            name, f"detector, {FORMS.get(form, form)}"
        )
        rows.append([shown, *times, *(_short(value) for value in apart), with_interval(*loss)])
    columns = [
        "",
        "ms/image, median",
        "p99",
        "boxes apart, px",
        "scores apart",
        f"AP40 lost (minus: gained) {INTERVAL}",
    ]
    note = (
        "The detector: one image at a time, from decoding to boxes. The CAM teacher: the mean of its maps alone, of "
        "decoded pictures in batches, as stage 2 measured it; decoding and boxes come on top. Exported files "
        "beside the trained network on test images: how far boxes and scores lie apart at most, and AP40 on the test "
        "split, paired."
    )
    return [Table("Forms of the detector", columns, rows, note)] if rows else []


def _form_names(metrics: Metrics) -> list[str]:
    """Detector, each exported form that has a figure, teacher."""
    exported = [key.split("/")[1] for key in metrics if key.startswith("export/")]
    timed = [key.split("/")[1] for key in metrics if key.startswith("ms_per_image/")]
    forms = [f"{DETECTOR}_{form}" for form in exported] + [n for n in timed if n.startswith(f"{DETECTOR}_")]
    return [name for name in (DETECTOR, *dict.fromkeys(forms), TEACHER) if name in timed or name in forms]


def _short(value: float | None) -> Cell:
    return None if value is None or math.isnan(value) else f"{value:.2g}"


def _human_text(human: Human, finding: str | None = None) -> str:
    return with_interval(*human.of(finding))


def _one_decimal(value: float | None) -> Cell:
    return None if value is None or math.isnan(value) else f"{value:.1f}"
