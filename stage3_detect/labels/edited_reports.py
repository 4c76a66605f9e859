"""Reports that readers edited in a DICOM viewer, as readings in a folder of corrections."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.boxes import iou_of_two
from cxr.config import UserError
from cxr.imaging.files import read_instance_uid, read_size_hw
from cxr.imaging.listing import find_images
from cxr.input_files import read_regular
from cxr.labels.codes import codes_of_json
from cxr.runs.provenance import sha256_of
from stage3_detect.dicom_results.read_report import Report, read_report
from stage3_detect.dicom_results.result import SAME_BOX_IOU, TrackedBox
from stage3_detect.serving.corrections.record import (
    ACCEPTED,
    DRAWN,
    MOVED,
    REJECTED,
    RELABELLED,
    ReadBox,
    Reading,
    SavedReading,
)
from stage3_detect.serving.corrections.store import READINGS, CorrectionStore, open_readings
from stage3_detect.serving.model.bundle import Bundle, open_bundle

UNCHANGED_PX = 0.5
"""Viewers round coordinates; a box whose corners moved less was not moved."""
_MAX_READER = 32


@dataclass(frozen=True)
class Call:
    """The command line: files and folders of reports, the hospital's images, the run, where to write, and who read.

    reader: instead of the name in the report. complete: the readers read the whole images.
    """

    reports: tuple[Path, ...]
    images: Path
    run: Path
    out: Path
    reader: str | None = None
    complete: bool = False


def save_readings(call: Call) -> str:
    """Read all edited reports and append the readings that are not there yet; returns a summary with the next command.

    Reports that raybox wrote are what the readers saw: a box of theirs that is gone was rejected. Without them, all
    boxes count as drawn. Of several reports of a reader on an image, the one that is last by name counts.

    Raises:
        UserError: no edited report, one with unknown findings or other regions than boxes, no reader, or an image that
            is not in the folder; all of them named.
    """
    bundle = open_bundle(call.run)
    found = list(_reports(call.reports, bundle.manifest))
    edited = [(path, report) for path, report in found if not report.is_own]
    if not edited:
        raise UserError(f"reports: none of {len(found)} structured reports was edited by a reader; give others")
    shown = _shown(report for _, report in found if report.is_own)
    files = _files_of({image for _, report in edited for image in report.images}, call.images)
    problems: list[str] = []
    readings = []
    for path, report in edited:
        try:
            readings += _readings(report, path, shown, files, (call, bundle))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    num_new = _append(call.out, readings, bundle)
    command = f"python stage3_detect/corrections.py {call.out} --run {call.run} --images {call.images} --out DIR"
    return (
        f"{call.out}: {num_new} new readings, {len(readings) - num_new} were there already\nContinue with\n  {command}"
    )


def _reports(given: Sequence[Path], facts: Mapping[str, Any]) -> list[tuple[Path, Report]]:
    """facts: the content of bundle.json."""
    findings, codes = facts["findings"], codes_of_json(facts.get("codes", {}))
    paths = sorted(path for top in given for path in (top.rglob("*") if top.is_dir() else [top]) if path.is_file())
    read = [(path, read_report(read_regular(path), str(path), findings, codes)) for path in paths]
    return [(path, report) for path, report in read if report is not None]


def _shown(own: Iterable[Report]) -> dict[str, list[TrackedBox]]:
    """Image UID -> the boxes of raybox's newest report on it."""
    shown: dict[str, list[TrackedBox]] = {}
    for report in sorted(own, key=lambda report: report.instance_number):
        for image in report.images:
            shown[image] = report.boxes.get(image, [])
    return shown


def _files_of(wanted: set[str], folder: Path) -> dict[str, Path]:
    """Image UID -> its file. UserError, a line for each image without one."""
    files = {read_instance_uid(image.path): image.path for image in find_images([folder]).files}
    missing = sorted(wanted - set(files))
    if missing:
        raise UserError(
            [f"images: no file below {folder} has the SOP instance UID {uid} that a report names" for uid in missing]
        )
    return files


def _readings(
    report: Report, path: Path, shown: dict[str, list[TrackedBox]], files: dict[str, Path], how: tuple[Call, Bundle]
) -> list[Reading]:
    """One reading for each image of a report."""
    call, bundle = how
    if report.num_other_regions:
        raise UserError(f"report {path}: {report.num_other_regions} regions are no boxes; remove or redraw them")
    readings = []
    for image in report.images:
        height, width = read_size_hw(files[image])
        marked = report.boxes.get(image, [])
        readings.append(
            Reading(
                image_sha256=sha256_of(files[image]),
                name=files[image].relative_to(call.images).as_posix(),
                width_px=width,
                height_px=height,
                reader=call.reader or reader_id(report.reader, path),
                consent=True,
                complete=call.complete,
                seconds=0,
                clicks=0,
                model_sha256=bundle.sha256,
                boxes=tuple(decisions(marked, shown.get(image, []), (width, height))),
            )
        )
    return readings


def reader_id(name: str, path: Path) -> str:
    """A short id from a person's name. UserError if the report has none.

    Example:
        >>> reader_id("Meier^Anna", Path("x"))
        'Meier-Anna'
    """
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:_MAX_READER]
    if not cleaned or cleaned.lower().startswith("unknown"):
        raise UserError(f"report {path}: it does not say who read it; give --reader ID")
    return cleaned


def decisions(marked: Sequence[TrackedBox], shown: Sequence[TrackedBox], size_wh: tuple[int, int]) -> list[ReadBox]:
    """What a reader decided, from the boxes that the model showed and those in the edited report.

    Viewers may give boxes new identities, so a box without a known one is that with the largest overlap, if this is at
    least `SAME_BOX_IOU`.
    """
    left = list(shown)
    found = []
    for box in marked:
        original = _original(box, left)
        if original is not None:
            left.remove(original)
        found.append(_decision(box, original, size_wh))
    return found + [_read_box(box, REJECTED, size_wh, score=box.score) for box in left]


def _original(box: TrackedBox, left: Sequence[TrackedBox]) -> TrackedBox | None:
    same = [one for one in left if one.uid == box.uid]
    if same:
        return same[0]
    # an overlap with the same finding before any with another one
    ranked = sorted(((one.finding == box.finding, iou_of_two(one.xyxy, box.xyxy), one) for one in left), key=_rank)
    return ranked[-1][2] if ranked and ranked[-1][1] >= SAME_BOX_IOU else None


def _rank(entry: tuple[bool, float, TrackedBox]) -> tuple[bool, bool, float]:
    is_same, overlap, _ = entry
    return overlap >= SAME_BOX_IOU, is_same, overlap


def _decision(box: TrackedBox, original: TrackedBox | None, size_wh: tuple[int, int]) -> ReadBox:
    if original is None:
        return _read_box(box, DRAWN, size_wh)
    is_moved = any(abs(a - b) > UNCHANGED_PX for a, b in zip(box.xyxy, original.xyxy, strict=True))
    kept = {"score": original.score, "original_box_xyxy": _inside(original.xyxy, size_wh) if is_moved else None}
    if box.finding != original.finding:
        return _read_box(box, RELABELLED, size_wh, **kept, original_finding=original.finding)
    return _read_box(box, MOVED, size_wh, **kept) if is_moved else _read_box(original, ACCEPTED, size_wh, **kept)


def _read_box(box: TrackedBox, action: str, size_wh: tuple[int, int], **more: Any) -> ReadBox:
    return ReadBox.model_validate(
        {"finding": box.finding, "box_xyxy": _inside(box.xyxy, size_wh), "action": action, **more}
    )


def _inside(xyxy: tuple[float, ...], size_wh: tuple[int, int]) -> tuple[float, ...]:
    """Without the fractions of a pixel that a viewer lets a box stand out."""
    return tuple(min(max(value, 0.0), float(size_wh[place % 2])) for place, value in enumerate(xyxy))


def _append(folder: Path, readings: Sequence[Reading], bundle: Bundle) -> int:
    """Append the readings that are new; returns their number."""
    manifest = bundle.manifest
    known = {_key(saved) for saved in open_readings(folder)} if (folder / READINGS).is_file() else set()
    new = [reading for reading in readings if _key(reading) not in known]
    try:
        store = CorrectionStore(folder, findings=manifest["findings"], parents=manifest["parents"])
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}; give a folder that can be written") from None
    try:
        for reading in new:
            store.save(reading)
    finally:
        store.close()
    return len(new)


def _key(reading: Reading | SavedReading) -> str:
    return reading.model_dump_json(include={"image_sha256", "reader", "boxes", "complete", "model_sha256"})
