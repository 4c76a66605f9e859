"""The report of a stage 3 run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.metrics import ReadMetrics
from cxr.wording import counted
from eval.detection.indexed import IndexedDetections
from eval.detection.matching import MAIN_IOU
from eval.leaderboard.names import HUMAN, TEACHER
from eval.leaderboard.tables import Rows, ap40_chart, difference_table, finding_table, further_tables, main_table
from eval.leaderboard.verdict import verdict_block
from eval.report.blocks import Block, Text, write_report
from stage3_detect.evaluation.charts import froc_chart, reliability_blocks, training_figures
from stage3_detect.evaluation.gallery import gallery, overview
from stage3_detect.evaluation.report_tables import calibration_table, format_tables, froc_table, point_table
from stage3_detect.evaluation.results import Evaluation
from stage3_detect.labels.yolo_folder import YoloFolder

_MAX_NAMED = 20


@dataclass(frozen=True, eq=False)
class ReportParts:
    """What the report shows in addition to the evaluation.

    folder: what the final network was trained on; the training's log and `train/` are next to it.
    metrics: figures of the run, for times and exported files.
    blocks: further blocks, such as the self-training rounds, whose pictures are already in the run folder.
    """

    folder: YoloFolder
    metrics: ReadMetrics
    num_gallery_images: int
    blocks: Sequence[Block] = ()


def write_detector_report(run_dir: Path, evaluation: Evaluation, parts: ReportParts) -> Path:
    """Write `report.html` and `report.json` with their pictures into the run folder; returns the page."""
    board, rows = evaluation.board, evaluation.board.rows({**evaluation.metrics, **parts.metrics})
    num_true = board.num_true
    blocks: list[Block] = [
        *overview(run_dir, evaluation),
        ap40_chart(run_dir, rows, "pictures/ap40.png"),
        verdict_block(evaluation.sentences),
        main_table(rows, title="Detector, test split", note=_main_note(num_true)),
        difference_table(rows, list(board.compared.values()), evaluation.shares),
        *further_tables(rows),
        Text("Findings"),
        finding_table(rows, num_true),
        finding_table(rows, num_true, measure="froc"),
        Text("False positives"),
        *_froc_blocks(run_dir, evaluation, rows),
        Text("Operating points and calibration"),
        *_score_blocks(run_dir, evaluation),
        Text("Pictures"),
        *gallery(run_dir, evaluation, num_images=parts.num_gallery_images),
        Text("Training"),
        Text("Training data", folder_words(parts.folder)),
        *training_figures(run_dir, parts.folder.data_yaml.parent.parent),
        *parts.blocks,
        *format_tables(parts.metrics, teacher=rows.shown[TEACHER]),
    ]
    synthetic = bool(evaluation.truth.info.get("synthetic"))
    title = "Stage 3: a detector trained on image labels"
    lead = "The detector is trained on pseudo-boxes. This page compares it with the CAM method that made them."
    return write_report(run_dir, title=title, lead=lead, blocks=blocks, synthetic=synthetic)


def _main_note(num_true: dict[str, int]) -> str:
    empty = [finding for finding, count in num_true.items() if not count]
    return (
        f"Means over the findings with true boxes; excluded: {', '.join(empty) or 'none'}. Intervals are 95 % "
        "bootstrap intervals over patients (over images where no patient is known)."
    )


def _froc_blocks(run_dir: Path, evaluation: Evaluation, rows: Rows) -> list[Block]:
    entries = {name: evaluation.board.entry(name) for name in rows.shown if name != HUMAN}
    matches = {
        name: IndexedDetections(evaluation.truth, entry.detections).match((MAIN_IOU,))
        for name, entry in entries.items()
    }
    return [froc_chart(run_dir, rows, matches), froc_table(rows, matches)]


def _score_blocks(run_dir: Path, evaluation: Evaluation) -> list[Block]:
    scores = evaluation.scores
    blocks: list[Block] = [point_table(evaluation.metrics, found.point) for found in scores.points]
    if scores.why_none:
        body = f"There are no operating points and no calibration: {scores.why_none}."
        blocks.append(Text("Nothing was chosen", body))
    return [*blocks, calibration_table(evaluation), *reliability_blocks(run_dir, scores, evaluation.truth.findings)]


def folder_words(folder: YoloFolder) -> str:
    """The numbers of boxes and images that the detector was trained on, and what was excluded."""
    num_more = len(folder.excluded) - _MAX_NAMED
    named = ", ".join(image_id for image_id, _ in folder.excluded[:_MAX_NAMED])
    more = f" and {num_more} more" if num_more > 0 else ""
    boxes, images = counted(folder.num_boxes, "box"), counted(folder.num_positives, "image")
    uncertain = f"{counted(folder.num_uncertain, 'image')} with ignore regions only"
    sentences = {
        f"{boxes} in {images}, {counted(folder.num_normals, 'image')} without boxes.": True,
        f"{counted(folder.num_regions, 'ignore region')}; {uncertain}.": folder.num_regions,
        f"Not used: {counted(folder.num_left_out, 'further image')} with ignore regions only.": folder.num_left_out,
        f"{counted(folder.num_true, 'image')} with radiologists' boxes.": folder.num_true,
        f"The best epoch was chosen on {counted(folder.num_held_out, 'other image')}.": True,
        f"{counted(len(folder.excluded), 'image')} could not be read: {named}{more}.": folder.excluded,
    }
    return " ".join(sentence for sentence, is_true in sentences.items() if is_true)
