"""The page of a stage 3 run, in the order of the questions asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.report.blocks import Block, Text, write_report
from stage3_detect.evaluation.charts import ap_chart, froc_chart, reliability_chart, training_figures
from stage3_detect.evaluation.gallery import gallery
from stage3_detect.evaluation.report_tables import (
    calibration_table,
    difference_table,
    finding_table,
    form_tables,
    froc_by_finding_table,
    froc_table,
    place_tables,
    point_table,
    score_table,
)
from stage3_detect.evaluation.results import TEACHER, Judgement, Metrics
from stage3_detect.labels.yolo_folder import YoloFolder

_MAX_NAMED = 20


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """What the report is made of, beside the judgement.

    folder: what the final network was trained on; beside it lie the training's log and `train/`. metrics: of the run,
    of which the figures of time and export are shown. blocks: what other rooms add, such as the rounds; their pictures
    are in the run folder already.
    """

    folder: YoloFolder
    metrics: Metrics
    num_gallery_images: int
    blocks: Sequence[Block] = ()


def write_detector_report(run_dir: Path, judgement: Judgement, facts: ReportFacts) -> Path:
    """Write `report.html` and `report.json` with their pictures into the run folder; returns the page."""
    blocks: list[Block] = [
        score_table(judgement, facts.metrics),
        ap_chart(run_dir, judgement),
        difference_table(judgement),
        Text("Findings"),
        finding_table(judgement),
        Text("False positives"),
        froc_chart(run_dir, judgement),
        froc_table(judgement),
        froc_by_finding_table(judgement),
        Text("Operating points and calibration"),
        *_score_blocks(run_dir, judgement),
        Text("Pictures"),
        *gallery(run_dir, judgement, num_images=facts.num_gallery_images),
        Text("Localisation"),
        *place_tables(judgement),
        *_making_blocks(run_dir, judgement, facts),
    ]
    synthetic = bool(judgement.truth.info.get("synthetic"))
    title = "Stage 3: a detector from image labels"
    return write_report(run_dir, title=title, lead=judgement.verdict, blocks=blocks, synthetic=synthetic)


def _score_blocks(run_dir: Path, judgement: Judgement) -> list[Block]:
    scores = judgement.scores
    blocks: list[Block] = [point_table(found) for found in scores.points]
    if scores.why_none:
        body = f"There are no operating points and no calibration: {scores.why_none}."
        blocks.append(Text("Nothing was chosen", body))
    return [*blocks, calibration_table(judgement), *reliability_chart(run_dir, judgement)]


def _making_blocks(run_dir: Path, judgement: Judgement, facts: ReportFacts) -> list[Block]:
    learned_in = facts.folder.data_yaml.parent.parent
    return [
        Text("How it was made"),
        Text("What it learned from", folder_words(facts.folder)),
        *training_figures(run_dir, learned_in),
        *facts.blocks,
        *form_tables(facts.metrics, teacher=judgement.shown(TEACHER)),
    ]


def folder_words(folder: YoloFolder) -> str:
    """What boxes and images were learned from, and what was left out."""
    words = (
        f"{folder.num_boxes} boxes in {folder.num_positives} images, {folder.num_normals} images without any. "
        f"{folder.num_regions} ignore regions; {folder.num_uncertain} images have nothing else, of which "
        f"{folder.num_left_out} were left out. {folder.num_true} images have radiologists' boxes. "
        f"{folder.num_held_out} more chose the best epoch. "
    )
    named = ", ".join(image_id for image_id, _ in folder.excluded[:_MAX_NAMED])
    more = ", ..." if len(folder.excluded) > _MAX_NAMED else ""
    return words + (f"{len(folder.excluded)} could not be read: {named}{more}." if folder.excluded else "")
