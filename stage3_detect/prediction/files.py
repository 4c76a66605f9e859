"""Image files in, COCO JSON and pictures with boxes out, one image at a time. An interrupted call can be resumed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from cxr.config import Settings, UserError
from cxr.imaging.files import Pixels, read_header, read_pixels
from cxr.imaging.listing import ImageFile, Listing, default_out, find_images, fingerprint, problem_line, refuse_inside
from cxr.progress import track
from cxr.runs.run_folder import FinishedRun, Run, log, open_run, start_run
from eval.detection.points import OperatingPoint
from stage3_detect.export.formats import open_predictor, preferred_format
from stage3_detect.image_quality.gate import Gate, open_gate
from stage3_detect.image_quality.verdict import DEFAULT_MODE, GateMode
from stage3_detect.model.predictor import BoxPredictor, hidden
from stage3_detect.model.torch_network import pick_device
from stage3_detect.prediction.coco_stream import BoxLines, write_stream
from stage3_detect.prediction.dicom_files import Capture, DicomWriter, SrClass
from stage3_detect.prediction.points import open_point, remark, words_of
from stage3_detect.prediction.render import render_found, write_picture

OnProblem = Literal["error", "exclude"]
STAGE = "predictions"
RESEARCH_ONLY = "raybox: for research only, not for diagnosis"


@dataclass(frozen=True)
class Call:
    """What the user asked for. format: None means `preferred_format`. points: None means the run's own operating
    point."""

    run: Path
    images: tuple[Path, ...]
    out: Path | None = None
    format: str | None = None
    device: str = "auto"
    points: str | None = None
    on_problem: OnProblem = "error"
    pictures: bool = True
    dicom: Path | None = None
    sr_class: SrClass = "comprehensive"
    capture: Capture = "colour"
    quality_gate: GateMode = DEFAULT_MODE


class CallSettings(Settings):
    """What identifies a call, so that the same command resumes an interrupted one."""

    images: tuple[str, ...]
    listing: str
    """Fingerprint of the files' names, sizes and times."""
    format: str
    points: str
    pictures: bool
    dicom: tuple[str, ...] = ()
    """Folder of the DICOM results, and how they are written; empty without them."""
    quality_gate: GateMode = DEFAULT_MODE


class _Work(NamedTuple):
    """A call with its images, network and operating point."""

    listing: Listing
    point: OperatingPoint
    predictor: BoxPredictor
    note: str
    format: str
    pictures: bool
    dicom: DicomWriter | None
    gate: Gate


def predict_files(call: Call) -> str:
    """Find boxes on every image of `call`; returns a summary in one line.

    The output folder holds predictions.json (COCO, all boxes), pictures/<image id>.png and manifest.json. With
    `call.dicom`, that folder holds the DICOM results of each image. All readable images are processed before problems
    are reported.

    Raises:
        UserError: an invalid call; unreadable files, all of them named (on_problem "error"); no readable file.
    """
    source = open_run(call.run, stage="stage3")
    listing = find_images(call.images)
    point = open_point(source.manifest, call.points)
    out = call.out or default_out(call.run, call.images)
    refuse_inside(out, call.images)
    device = pick_device(call.device)
    format = call.format or preferred_format(source, device=device)
    predictor = open_predictor(source, format, device=device)
    settings = CallSettings(
        images=tuple(map(str, call.images)),
        listing=fingerprint(listing),
        format=format,
        points=point.name,
        pictures=call.pictures,
        dicom=() if call.dicom is None else (str(call.dicom), call.sr_class, call.capture),
        quality_gate=call.quality_gate,
    )
    run = start_run(out, stage=STAGE, settings=settings, inputs={"stage3": call.run})
    if run.state != "finished":
        warning = remark(source.manifest, point, asked=call.points is not None)
        if warning:
            log.info("%s", warning)
        synthetic = " · trained on synthetic images" if source.manifest.get("synthetic") else ""
        note = f"at or above {words_of(point)}{synthetic} · {RESEARCH_ONLY}"
        dicom = _dicom_writer(call, source, point, predictor.findings)
        work = _Work(listing, point, predictor, note, format, call.pictures, dicom, _gate_of(source, call))
        _predict(run, source, work)
    run.release()
    return _report(open_run(out, stage=STAGE), call.on_problem)


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


def _predict(run: Run, source: FinishedRun, work: _Work) -> None:
    lines = BoxLines(run.dir / "predictions.partial.jsonl")
    waiting = [file for file in work.listing.files if file.image_id not in lines.done]
    if len(waiting) < len(work.listing.files):
        log.info("%d images are already done", len(work.listing.files) - len(waiting))
    unreadable: list[tuple[str, str]] = []  # path and problem of each file
    refused: list[tuple[str, str]] = []  # those that have boxes, but no DICOM results
    num_turned = 0
    with run.phase(f"boxes on {len(waiting)} images"):
        for file in track(waiting, "finding boxes", images_in=lambda _: 1):
            try:
                image = read_pixels(file.path)
                if not image.size:
                    raise UserError(f"image: {file.path} has no pixels")
            except (UserError, OSError) as error:
                unreadable.append((str(file.path), problem_line(error)))
                continue
            num_turned += read_header(file.path)[1]
            try:
                _predict_one(image, file, run.dir, work, lines)
            except UserError as error:
                refused.append((str(file.path), problem_line(error)))
    if num_turned:
        log.info("%d images are turned upright as their EXIF data says; boxes refer to the upright image", num_turned)
    path = run.dir / "predictions.json"
    made_by = {"stage": STAGE, "format": work.format, "point": work.point.name, **work.point.as_dict()}
    info = {"data_root": work.listing.root, "kind": "detections", "made_by": made_by}
    if source.manifest.get("synthetic"):
        info["learned_from"] = "synthetic pictures"
    totals = write_stream(path, lines, findings=work.predictor.findings, info=info)
    figures = {
        "images": totals.num_images,
        "boxes": totals.num_boxes,
        "boxes_shown": totals.num_shown,
        "images_with_boxes_shown": totals.num_images_shown,
        "images_unsuitable": totals.num_unsuitable,
        "unreadable": len(unreadable),
        "without_dicom_results": len(refused),
        "other_files": work.listing.num_other,
    }
    run.finish(
        figures,
        {"predictions": path},
        findings=list(work.predictor.findings),
        point={"name": work.point.name, **work.point.as_dict()},
        shown_from=words_of(work.point),
        unsuitable=dict(totals.reasons.most_common()),
        unreadable=[list(entry) for entry in unreadable],
        without_dicom_results=[list(entry) for entry in refused],
    )
    lines.path.unlink(missing_ok=True)


def _predict_one(image: Pixels, file: ImageFile, folder: Path, work: _Work, lines: BoxLines) -> None:
    """Pictures and DICOM results are written before the line, because an image with a line counts as done."""
    quality = work.gate.judge(image)
    boxes = work.predictor.predict(image, work.point)
    boxes = hidden(boxes) if quality.abstains else boxes
    if work.pictures:
        found = "not analysed," if quality.abstains else counted(sum(box.shown for box in boxes), "box")
        note = " ".join([found, work.note, *quality.reasons])
        rendered = render_found(image, boxes, work.predictor.findings, note=note)
        write_picture(folder / "pictures" / f"{file.image_id}.png", rendered)
    height, width = image.shape
    entry = {"file_name": file.file_name, "width": width, "height": height, "image_id": file.image_id}
    entry["quality"] = {"ok": quality.ok, **quality.record()}
    try:
        if work.dicom is not None:
            work.dicom.write(file, image, (boxes, quality))
    finally:  # an image without DICOM results still has its boxes
        lines.add(entry, boxes)


def _report(done: FinishedRun, on_problem: OnProblem) -> str:
    unreadable = done.manifest["unreadable"]
    refused = done.manifest.get("without_dicom_results", [])  # older runs do not name them
    problems = [problem if path in problem else f"{path}: {problem}" for path, problem in [*unreadable, *refused]]
    summary = _summary(done)
    if problems and (on_problem == "error" or not done.metrics["images"]):
        what = [("could be read", unreadable), ("have DICOM results", refused)]
        raise UserError([*problems, f"not all files {' or '.join(words for words, some in what if some)}. {summary}"])
    for problem in problems:
        log.warning("excluded: %s", problem)
    return summary


def _summary(done: FinishedRun) -> str:
    count = {name: int(value or 0) for name, value in done.metrics.items()}
    words = f"{counted(count['images'], 'image')}: {counted(count['boxes_shown'], 'box')} from "
    words += f"{done.manifest['shown_from']} on in {counted(count['images_with_boxes_shown'], 'image')} "
    words += f"({counted(count['boxes'], 'box')} of any score)"
    words += _unsuitable_words(done)
    words += f"; {counted(count['unreadable'], 'unreadable file')} excluded" if count["unreadable"] else ""
    refused = count.get("without_dicom_results")
    words += f"; {counted(refused, 'image')} without DICOM results" if refused else ""
    words += f"; {counted(count['other_files'], 'other file')}" if count["other_files"] else ""
    return f"{words} -> {done.output('predictions')}"


def _unsuitable_words(done: FinishedRun) -> str:
    """ "; 3 images unsuitable (2 inverted, 1 unlike), no box shown on them"."""
    reasons = ", ".join(f"{number} {code}" for code, number in done.manifest["unsuitable"].items())
    if not reasons:
        return ""
    result = ", no box shown on them" if done.settings["quality_gate"] == "abstain" else ""
    return f"; {counted(int(done.metrics['images_unsuitable'] or 0), 'image')} unsuitable ({reasons}){result}"


def counted(count: int, thing: str) -> str:
    """ "no boxes", "1 box", "2 boxes"."""
    plural = thing + ("es" if thing.endswith("x") else "s")
    return f"{count or 'no'} {thing if count == 1 else plural}"
