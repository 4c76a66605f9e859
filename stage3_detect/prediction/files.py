"""Image files in, COCO JSON and pictures with boxes out, one image at a time. An interrupted call can be resumed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cxr.config import UserError
from cxr.imaging.files import Pixels, read_header, read_pixels
from cxr.imaging.listing import ImageFile, refuse_inside
from cxr.imaging.problem_files import other_files, problem_line, problem_lines, report_problems
from cxr.progress import track
from cxr.runs.run_folder import FinishedRun, Run, log, open_run
from cxr.tables import OnProblem
from cxr.wording import counted
from eval.detection.points import OperatingPoint
from stage3_detect.export.formats import open_predictor
from stage3_detect.image_quality.gate import Gate, open_gate
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import BoxPredictor, hidden
from stage3_detect.model.torch_network import pick_device
from stage3_detect.prediction.call import STAGE, Call, Task, task_of
from stage3_detect.prediction.coco_stream import BoxLines, Lines, write_stream
from stage3_detect.prediction.dicom_files import DicomWriter
from stage3_detect.prediction.points import measured_words, remark, words_of
from stage3_detect.prediction.render import render_found, write_picture

RESEARCH_ONLY = "raybox: for research only, not for diagnosis"


@dataclass
class Problems:
    """Path and problem of files. unreadable: without boxes. refused: with boxes, but without DICOM results."""

    unreadable: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


class _Work(NamedTuple):
    """What the images are given to."""

    predictor: BoxPredictor
    remarks: Sequence[str]
    dicom: DicomWriter | None
    gate: Gate


def predict_files(call: Call) -> str:
    """Find boxes on every image of `call`; returns a summary in one line.

    The output folder holds predictions.json (COCO, all boxes), pictures/<image id>.png and manifest.json. With
    `call.dicom`, that folder holds the DICOM results of each image. All readable images are processed before problems
    are reported. With `call.shard` the folder of the part holds predictions.jsonl instead, and problems are logged.

    Raises:
        UserError: an invalid call; unreadable files, all of them named (on_problem "error"); no readable file.
    """
    task = task_of(call)
    predictor = open_predictor(task.source, task.format, device=pick_device(call.device))
    run = task.start()
    if run.state != "finished":
        warning = remark(task.source.manifest, task.point, asked=call.points is not None)
        for words in filter(None, (measured_words(task.point), warning)):
            log.info("%s", words)
        synthetic = ["trained on synthetic images"] if task.source.manifest.get("synthetic") else []
        remarks = [*synthetic, RESEARCH_ONLY]
        dicom = _dicom_writer(call, task.source, task.point, predictor.findings)
        _predict(run, task, _Work(predictor, remarks, dicom, _gate_of(task.source, call)))
    run.release()
    done = open_run(task.folder, stage=STAGE)
    return _part_summary(done) if call.shard else report(done, call.on_problem)


def _dicom_writer(
    call: Call, source: FinishedRun, point: OperatingPoint, findings: Sequence[str]
) -> DicomWriter | None:
    if call.dicom is None:
        return None
    refuse_inside(call.dicom, call.images, option="--dicom")
    return DicomWriter(call.dicom, source, point, findings, sr_class=call.sr_class, capture=call.capture)


def _gate_of(source: FinishedRun, call: Call) -> Gate:
    """The gate of the run; fixed rules for a run of an older version, or one with few images."""
    path = source.output("quality_gate") if "quality_gate" in source.manifest["outputs"] else None
    return open_gate(path, mode=call.quality_gate)


def _predict(run: Run, task: Task, work: _Work) -> None:
    name = "predictions.jsonl" if task.call.shard else "predictions.partial.jsonl"
    lines = BoxLines(run.dir / name, {file.image_id for file in task.listing.files})
    waiting = [file for file in task.listing.files if file.image_id not in lines.done]
    if len(waiting) < len(task.listing.files):
        log.info("%d images are already done", len(task.listing.files) - len(waiting))
    problems = Problems()
    num_turned = 0
    with run.phase(f"boxes on {len(waiting)} images"):
        for file in track(waiting, "finding boxes", images_in=lambda _: 1):
            try:
                image = read_pixels(file.path)
            except (UserError, OSError) as error:
                problems.unreadable.append((str(file.path), problem_line(error)))
                continue
            num_turned += read_header(file.path)[1]
            try:
                _predict_one(image, file, run.dir, task, work, lines)
            except UserError as error:
                problems.refused.append((str(file.path), problem_line(error)))
    if num_turned:
        log.info("%d images are turned upright as their EXIF data says; boxes refer to the upright image", num_turned)
    findings = work.predictor.findings
    if task.call.shard:
        _finish_part(run, lines, findings, problems)
        return
    finish(run, task, lines, findings=findings, problems=problems)
    lines.path.unlink(missing_ok=True)


def _finish_part(run: Run, lines: BoxLines, findings: Sequence[str], problems: Problems) -> None:
    lines.path.touch()  # a part may have no readable image
    run.finish(
        {"images": len(lines.done), "unreadable": len(problems.unreadable)},
        {"lines": lines.path},
        findings=list(findings),
        unreadable=[list(entry) for entry in problems.unreadable],
        without_dicom_results=[list(entry) for entry in problems.refused],
    )


def finish(run: Run, task: Task, lines: Lines, *, findings: Sequence[str], problems: Problems) -> None:
    """Write predictions.json and the manifest of all images."""
    path = run.dir / "predictions.json"
    made_by = {"stage": STAGE, "format": task.format, "point": task.point.name, **task.point.as_dict()}
    info = {"data_root": task.listing.root, "kind": "detections", "made_by": made_by}
    if task.source.manifest.get("synthetic"):
        info["learned_from"] = "synthetic pictures"
    totals = write_stream(path, lines, findings=findings, info=info)
    figures = {
        "images": totals.num_images,
        "boxes": totals.num_boxes,
        "boxes_shown": totals.num_shown,
        "images_with_boxes_shown": totals.num_images_shown,
        "images_unsuitable": totals.num_unsuitable,
        "unreadable": len(problems.unreadable),
        "without_dicom_results": len(problems.refused),
        "other_files": task.listing.num_other,
    }
    run.finish(
        figures,
        {"predictions": path},
        findings=list(findings),
        point={"name": task.point.name, **task.point.as_dict()},
        shown_from=words_of(task.point),
        unsuitable=dict(totals.reasons.most_common()),
        first_other_files=list(task.listing.first_others),
        unreadable=[list(entry) for entry in problems.unreadable],
        without_dicom_results=[list(entry) for entry in problems.refused],
    )


def _predict_one(image: Pixels, file: ImageFile, folder: Path, task: Task, work: _Work, lines: BoxLines) -> None:
    """Pictures and DICOM results are written before the line, because an image with a line counts as done."""
    quality = work.gate.check(image)
    boxes = work.predictor.predict(image, task.point)
    boxes = hidden(boxes) if quality.abstains else boxes
    if task.call.pictures:
        note = note_of(quality, sum(box.shown for box in boxes), task.point, work.remarks)
        rendered = render_found(image, boxes, work.predictor.findings, note=note)
        write_picture(folder / "pictures" / f"{file.image_id}.png", rendered)
    height, width = image.shape
    entry = {"file_name": file.file_name, "width": width, "height": height, "image_id": file.image_id}
    entry["quality"] = quality.record()
    try:
        if work.dicom is not None:
            work.dicom.write(file, image, (boxes, quality))
    finally:  # an image without DICOM results still has its boxes
        lines.add(entry, boxes)


def note_of(quality: Quality, num_shown: int, point: OperatingPoint, remarks: Sequence[str]) -> str:
    """What the strip below a picture says: the result, or why there is none, then `remarks`."""
    reasons = " ".join(quality.reasons)
    if quality.abstains:
        return " · ".join([f"Not analysed: {reasons[:1].lower()}{reasons[1:]}", *remarks])
    found = f"{counted(num_shown, 'box')} at or above {words_of(point)}"
    return " · ".join([found, *([reasons] if reasons else []), *remarks])


def _part_summary(done: FinishedRun) -> str:
    for line in problem_lines([*done.manifest["unreadable"], *done.manifest["without_dicom_results"]]):
        log.warning("%s", line)
    count = {name: int(value or 0) for name, value in done.metrics.items()}
    part = f"shard {done.settings['shard']}: {counted(count['images'], 'image')}"
    return f"{part}, {counted(count['unreadable'], 'unreadable file')} -> {done.output('lines')}"


def report(done: FinishedRun, on_problem: OnProblem) -> str:
    """The summary of all images in one line. UserError for files with problems."""
    unreadable = done.manifest["unreadable"]
    refused = done.manifest.get("without_dicom_results", [])  # older runs do not name them
    summary = _summary(done)
    what = [("could be read", unreadable), ("have DICOM results", refused)]
    end = f"not all files {' or '.join(words for words, some in what if some)}. {summary}"
    num_images = int(done.metrics["images"] or 0)
    report_problems(problem_lines([*unreadable, *refused]), end, on_problem=on_problem, num_images=num_images)
    return summary


def _summary(done: FinishedRun) -> str:
    count = {name: int(value or 0) for name, value in done.metrics.items()}
    words = f"{counted(count['images'], 'image')}: {counted(count['boxes_shown'], 'box')} from "
    words += f"{done.manifest['shown_from']} on"
    words += f", in {counted(count['images_with_boxes_shown'], 'image')}" if count["boxes_shown"] else ""
    words += f" ({counted(count['boxes'], 'box')} of any score)"
    words += _unsuitable_words(done)
    words += f"; {counted(count['unreadable'], 'unreadable file')} excluded" if count["unreadable"] else ""
    refused = count.get("without_dicom_results")
    words += f"; {counted(refused, 'image')} without DICOM results" if refused else ""
    words += other_files(count["other_files"], done.manifest.get("first_other_files", []))
    return f"{words} -> {done.output('predictions')}"


def _unsuitable_words(done: FinishedRun) -> str:
    """ "; 3 images unsuitable (2 inverted, 1 unlike), no box shown on them"."""
    reasons = ", ".join(f"{number} {code}" for code, number in done.manifest["unsuitable"].items())
    if not reasons:
        return ""
    result = ", no box shown on them" if done.settings["quality_gate"] == "abstain" else ""
    return f"; {counted(int(done.metrics['images_unsuitable'] or 0), 'image')} unsuitable ({reasons}){result}"
