"""From the service's folder of corrections to a folder that stages 1 and 3 train on."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxr.coco import read_coco
from cxr.config import UserError
from cxr.imaging.files import read_patient_and_study
from cxr.runs.run_folder import FinishedRun, atomic_write_text, open_input, open_run, refuse_run_folder
from stage3_detect.labels.corrected_images import FoundFiles, find_files
from stage3_detect.labels.correction_settings import write_stage1, write_stage3
from stage3_detect.labels.corrections import evaluation_images
from stage3_detect.serving.corrections.files import (
    ByImage,
    Place,
    all_findings,
    coco_document,
    label_table,
    last_readings,
)
from stage3_detect.serving.corrections.store import BOXES, IMAGES, LABELS, open_readings

_SHOWN = 20


@dataclass(frozen=True)
class Call:
    """The command line: folder of corrections, the detector's run, the hospital's images, and where to write."""

    folder: Path
    run: Path
    images: Path | None
    out: Path
    on_problem: Literal["error", "exclude"]


def make_training_folder(call: Call) -> str:
    """Write corrections.json, labels.csv, stage3.yaml and, if the classifier's run is there, stage1.yaml.

    Images of the tune and test split of the run's chain are left out and counted.

    Returns:
        what was written, and the commands that train with it.

    Raises:
        UserError: no corrections, an image has no file (with on_problem: error), all are left out, or `out` is a run.
    """
    images = last_readings(open_readings(call.folder))
    if not images:
        raise UserError(f"corrections: {call.folder} holds no reading yet; correct an image on the reading page first")
    refuse_run_folder(call.out)
    run = open_run(call.run, stage="stage3")
    stage2 = open_input(run, "stage2")
    if stage2 is None:
        raise UserError(f"run {call.run}: its stage 2 run was moved; put it back where manifest.json says")
    found = find_files({image: readings[-1] for image, readings in images.items()}, call.folder / IMAGES, call.images)
    _report_problems(call, images, found)
    chosen = _chosen(images, found, stage2, call.images)
    findings = all_findings(chosen.images, run.manifest["findings"])
    call.out.mkdir(parents=True, exist_ok=True)
    document = coco_document(chosen.images, findings, chosen.places, data_root=str(chosen.root))
    atomic_write_text(call.out / BOXES, json.dumps(document, indent=1, allow_nan=False) + "\n")
    atomic_write_text(call.out / LABELS, label_table(chosen.images, findings, chosen.places))
    lines = [_summary(call, images, chosen, found), "Train the detector:", f"  {write_stage3(call.out, run, stage2)}"]
    for command in write_stage1(call.out, stage2, chosen.root, findings):
        lines += ["Train the classifier further, with some hundreds of corrected images:", f"  {command}"]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Chosen:
    """The images to train on and where they are. num_left_out: images of the tune and test split."""

    images: ByImage
    places: dict[str, Place]
    root: Path
    num_left_out: int


def _chosen(images: ByImage, found: FoundFiles, stage2: FinishedRun, folder: Path | None) -> _Chosen:
    files = {image: Path(os.path.abspath(path)) for image, path in found.files.items()}  # noqa: PTH100 - keeps links
    ids = {image: read_patient_and_study(path) for image, path in files.items()}
    patients = {image: patient for image, (patient, _) in ids.items()}
    splits = [read_coco(stage2.output(name)) for name in ("gt_tune", "gt_test")]
    left_out = {image for split in splits for image in evaluation_images(files, patients, split)}
    used = {image: readings for image, readings in images.items() if image in files and image not in left_out}
    if not used:
        raise UserError(f"corrections: no image is left; {len(left_out)} are in the tune or test split of {stage2.dir}")
    root = _root([files[image] for image in used], folder)
    places = {image: Place(files[image].relative_to(root).as_posix(), *ids[image]) for image in used}
    return _Chosen(used, places, root, len(left_out))


def _root(files: Sequence[Path], folder: Path | None) -> Path:
    """The hospital's folder, so that paths are those of its own tables; the common folder if others have images too."""
    given = None if folder is None else Path(os.path.abspath(folder))  # noqa: PTH100 - keeps links
    if given is not None and all(path.is_relative_to(given) for path in files):
        return given
    return Path(os.path.commonpath([path.parent for path in files]))


def _report_problems(call: Call, images: ByImage, found: FoundFiles) -> None:
    if found.problems and call.on_problem == "error":
        named = list(found.problems.items())[:_SHOWN]
        lines = [f"corrections: {images[image][-1].name} ({image[:12]}): {reason}" for image, reason in named]
        raise UserError(
            [
                *lines,
                f"corrections: {len(found.problems)} of {len(images)} images have no file; give the folder that has "
                "them with --images, or leave them out with --on-problem exclude",
            ]
        )


def _summary(call: Call, images: ByImage, chosen: _Chosen, found: FoundFiles) -> str:
    parts = [f"{call.out}: {len(chosen.images)} of {len(images)} corrected images"]
    if found.problems:
        parts.append(f"{len(found.problems)} without a file")
    if chosen.num_left_out:
        parts.append(f"{chosen.num_left_out} of the tune or test split left out")
    if num_by_name := len(chosen.images.keys() & found.by_name):
        parts.append(f"{num_by_name} found by name and size only")
    return ", ".join(parts)
