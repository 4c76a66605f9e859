"""The steps of stage 2 in order: data, maps, evaluation, pseudo-labels, report."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxr.coco import write_coco
from cxr.imaging.pictures import Pictures
from cxr.runs.label_files import pass_on_label_file
from cxr.runs.run_folder import Run, atomic_write_text, open_run
from cxr.splits import fingerprint
from cxr.tables import Dataset, Exclusion, count_reasons
from eval.leaderboard.leaderboard import write_leaderboard
from eval.leaderboard.names import single_methods
from stage1_classify.model.loading import load_trained
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.truth import findings_to_score
from stage2_pseudolabel.cam.methods import choose_methods
from stage2_pseudolabel.cam.stages import choose_stages
from stage2_pseudolabel.cam_maps.balance import stored_scales
from stage2_pseudolabel.cam_maps.processes import Processes
from stage2_pseudolabel.cam_maps.store import SCALES_FILE, SplitMaps, split_maps
from stage2_pseudolabel.cam_maps.teacher import Teacher
from stage2_pseudolabel.evaluation.blank_image import BlankImage, blank_image
from stage2_pseudolabel.evaluation.evaluate import Evaluation, evaluate
from stage2_pseudolabel.evaluation.example_files import write_examples
from stage2_pseudolabel.evaluation.faithfulness import faithfulness, with_faithfulness
from stage2_pseudolabel.evaluation.leaderboard import CamEntry, rules_of
from stage2_pseudolabel.evaluation.report import write_cam_report
from stage2_pseudolabel.evaluation.split_data import SplitData, make_split, read_box_data, true_boxes
from stage2_pseudolabel.evaluation.timing import measure_methods
from stage2_pseudolabel.evaluation.verdict import verdict
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors
from stage2_pseudolabel.pseudolabels.export import ExportRules, PseudoLabels, make_pseudo_labels
from stage2_pseudolabel.pseudolabels.quality import Quality, pseudo_label_quality
from stage2_pseudolabel.pseudolabels.report import pseudo_label_blocks
from stage2_pseudolabel.pseudolabels.report_places import load_gate
from stage2_pseudolabel.pseudolabels.training_images import training_images, training_truth
from stage2_pseudolabel.pseudolabels.tune_statistics import tune_statistics
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Context:
    """What the steps share. findings: those that are scored, in the classifier's order."""

    run: Run
    settings: Stage2Settings
    teacher: Teacher
    findings: tuple[str, ...]
    processes: Processes


def run(run: Run, settings: Stage2Settings, source: Path, processes: Processes) -> None:
    """Score the CAM methods of the classifier in `source`, export pseudo-labels and finish `run`.

    All processes compute maps. The first one evaluates, exports and finishes the run.
    """
    choose_methods(settings.methods)
    teacher = Teacher(load_trained(source).check_for_maps().to(processes.device), settings.cam, settings.teacher)
    check_stages(teacher, settings)
    stage1 = teacher.trained.settings
    with run.phase("reading the box data"):
        data, splits = read_box_data(settings, stage1, source, progress=processes.is_first)
        findings = findings_to_score(settings.findings, stage1.findings, data.select(splits["tune"]), source=source)
    context = Context(run, settings, teacher, findings, processes)
    with run.phase("maps of the tune and test split"):
        tune, test = (_split(context, data.select(splits[name]), name) for name in ("tune", "test"))
    evaluation = _evaluate(context, tune, test) if processes.is_first else None
    chosen = [] if evaluation is None else evaluation.board.main.methods
    methods = processes.from_first(single_methods(chosen))
    with run.phase("maps of the training images"):
        max_images = settings.pseudo_labels.max_images
        train = training_images(stage1, source, max_images=max_images, progress=processes.is_first)
        maps = _maps(context, Pictures(train, stage1.input, progress=processes.is_first), methods, "train")
    if evaluation is not None:
        with run.phase("pseudo-labels and report"):
            labels, quality = _export(context, evaluation.board.main, tune, train, maps)
            excluded = [*data.excluded, *tune.maps.bad, *test.maps.bad, *train.excluded, *labels.excluded]
            outputs = _write(context, evaluation, tune, labels, quality)
            outputs |= pass_on_label_file(open_run(source, stage="stage1"), run.dir)
            outputs["excluded"] = _write_excluded(run.dir / "excluded.json", excluded)
            _finish(
                context,
                evaluation,
                quality,
                figures=labels.calibration.metrics() | labels.coverage.metrics(),
                outputs=outputs,
                splits=splits,
            )
    processes.wait()


def check_stages(teacher: Teacher, settings: Stage2Settings) -> None:
    """UserError when layercamfusion is to fuse stages that a network of the classifier does not have."""
    if "layercamfusion" in settings.methods:
        for view in teacher.member_views:
            choose_stages(view.network.backbone, settings.cam.layercam_stages)


def _split(context: Context, data: Dataset, name: str) -> SplitData:
    settings, teacher, is_first = context.settings, context.teacher, context.processes.is_first
    own = teacher.trained.settings.input
    truth = true_boxes(data, context.findings, settings, split=name)
    pictures = Pictures(data, own, progress=is_first)
    maps = _maps(context, pictures, settings.methods, name)
    frame = Frame(own.size_hw, own.keep_aspect, teacher.shift_hw())
    return make_split(data, truth, pictures, maps, frame=frame, settings=settings)


def _maps(context: Context, pictures: Pictures, methods: Sequence[str], name: str) -> SplitMaps:
    """Maps of the images, with the columns of the scored findings."""
    teacher, folder = context.teacher, context.run.dir / "maps"
    maps = split_maps(teacher, pictures, methods, folder=folder, name=name, processes=context.processes)
    return maps.select(columns=[teacher.findings.index(finding) for finding in context.findings])


def _evaluate(context: Context, tune: SplitData, test: SplitData) -> Evaluation:
    settings, teacher = context.settings, context.teacher
    with context.run.phase("box rules on the tune split, scores on the test split"):
        evaluation = evaluate(tune, test, settings)
    names = [*settings.methods, *settings.fusions]
    with context.run.phase("time and memory of each method"):
        timing = measure_methods(teacher, test.pictures, names, num_images=settings.max_timing_images)
    board = evaluation.board
    if settings.max_faithfulness_pairs:
        with context.run.phase("faithfulness of the maps"):
            scored = faithfulness(teacher, test, names, num_pairs=settings.max_faithfulness_pairs)
            board = with_faithfulness(board, scored)
    return replace(evaluation, timing=timing, board=board, blank=_blank_image(context, board.main, test))


def _blank_image(context: Context, best: CamEntry, test: SplitData) -> BlankImage:
    teacher, file = context.teacher, context.run.dir / "maps" / SCALES_FILE
    scales = stored_scales(file, single_methods(best.methods), num_views=len(teacher.member_views))
    return blank_image(teacher, test, best, scales=scales)


def _export(
    context: Context, best: CamEntry, tune: SplitData, train: Dataset, maps: SplitMaps
) -> tuple[PseudoLabels, Quality | None]:
    """Pseudo-labels by the chosen method, and their quality where the training images have true boxes."""
    settings = context.settings
    assert best.tuned is not None, f"{best.name} has no rules"
    predictors = BoxPredictors(context.findings, best.methods, best.tuned.rules, tune.frame)
    statistics = tune_statistics(predictors, tune.maps, tune.truth)
    places = settings.pseudo_labels.report_places
    gate = None if places is None else load_gate(places, train)
    rules = ExportRules(settings.pseudo_labels, gate, context.teacher.trained.settings.labels.not_mentioned)
    labels = make_pseudo_labels(train, maps, predictors, statistics=statistics, rules=rules)
    for reason, count in count_reasons(labels.excluded).items():
        log.info("pseudo-labels: %d images excluded: %s", count, reason)
    if labels.coco.is_ignored.all():  # also without any box
        log.warning(
            "no training image has a pseudo-box, so stage 3 has nothing to train on; check the labels, the setting "
            "pseudo_labels and the reasons in excluded.json"
        )
    truth = training_truth(train, maps, context.findings, settings.readers)
    return labels, pseudo_label_quality(labels, truth, num_resamples=settings.num_resamples, seed=settings.seed)


def _write(
    context: Context, evaluation: Evaluation, tune: SplitData, labels: PseudoLabels, quality: Quality | None
) -> dict[str, Path]:
    """Boxes, leaderboard, examples and report; returns output name -> path."""
    run_dir, board = context.run.dir, evaluation.board
    boxes = {"gt_tune": tune.truth, "gt_test": evaluation.test.truth, "pseudo_labels": labels.coco}
    boxes |= {} if quality is None else {"gt_train": quality.truth}
    boxes |= {f"detections_{entry.name}": entry.detections for entry in board.entries}
    outputs = {name: run_dir / "coco" / f"{name}.json" for name in boxes}
    for name, coco in boxes.items():
        write_coco(outputs[name], coco)
    outputs |= write_leaderboard(run_dir, board, evaluation.timing)
    outputs["examples"] = write_examples(run_dir, evaluation.test, board.main)
    outputs["report"] = write_cam_report(run_dir, evaluation, pseudo_label_blocks(run_dir, labels, quality))
    return outputs


def _write_excluded(path: Path, excluded: Sequence[Exclusion]) -> Path:
    """All exclusions with their reasons, as JSON."""
    rows = [{"what": item.what, "reason": item.reason} for item in dict.fromkeys(excluded)]
    atomic_write_text(path, json.dumps(rows, indent=1) + "\n")
    return path


def _finish(
    context: Context,
    evaluation: Evaluation,
    quality: Quality | None,
    *,
    figures: Mapping[str, float],
    outputs: Mapping[str, Path],
    splits: Mapping[str, list[str]],
) -> None:
    board, trained = evaluation.board, context.teacher.trained
    context.run.finish(
        {**evaluation.metrics, **figures, **({} if quality is None else quality.metrics())},
        outputs,
        best_method=board.main.name,
        methods_by_finding=dict(zip(context.findings, board.main.methods, strict=True)),
        chosen_on="tune",
        box_rules=rules_of(board),
        verdict=" ".join(verdict(board)),
        findings=list(context.findings),
        splits={name: fingerprint(ids) for name, ids in splits.items()},
        classifier={"members": len(trained.members), "combine": trained.combine, "flips": trained.flips},
        map_shift_hw=evaluation.test.frame.shift_hw,
        processes=context.processes.count,
        synthetic=bool(board.truth.info.get("synthetic")),
        seed=context.settings.seed,
    )
