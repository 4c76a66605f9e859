"""From the service's folder of corrections to a folder that stages 1 and 3 train on."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cxr.coco import read_coco
from cxr.config import UserError
from cxr.imaging.files import read_patient_and_study
from cxr.runs.run_folder import FinishedRun, atomic_write_text, open_run, refuse_run_folder
from stage3_detect.labels.corrected_images import FoundFiles, find_files
from stage3_detect.labels.corrections import evaluation_images
from stage3_detect.serving.correction_files import (
    ByImage,
    Place,
    all_findings,
    coco_document,
    label_table,
    last_readings,
)
from stage3_detect.serving.correction_store import BOXES, IMAGES, LABELS, open_readings

STAGE1, STAGE3 = "stage1.yaml", "stage3.yaml"
_SHOWN = 20
_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


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
        what was written, and the command that trains with it.

    Raises:
        UserError: no corrections, an image has no file (with on_problem: error), all are left out, or `out` is a run.
    """
    images = last_readings(open_readings(call.folder))
    if not images:
        raise UserError(f"corrections: {call.folder} holds no reading yet; correct an image on the reading page first")
    refuse_run_folder(call.out)
    run = open_run(call.run, stage="stage3")
    stage2 = open_run(_input_path(run, "stage2"), stage="stage2")
    found = find_files({image: readings[-1] for image, readings in images.items()}, call.folder / IMAGES, call.images)
    _report_problems(call, images, found)
    ids = {image: read_patient_and_study(path) for image, path in found.files.items()}
    left_out = _of_evaluation(found.files, {image: patient for image, (patient, _) in ids.items()}, stage2)
    used = {image: readings for image, readings in images.items() if image in found.files and image not in left_out}
    if not used:
        raise UserError(f"corrections: no image is left; {len(left_out)} are in the tune or test split of {stage2.dir}")
    root = Path(os.path.commonpath([found.files[image].resolve().parent for image in used]))
    places = {image: Place(found.files[image].resolve().relative_to(root).as_posix(), *ids[image]) for image in used}
    findings = all_findings(used, run.manifest["findings"])
    call.out.mkdir(parents=True, exist_ok=True)
    document = coco_document(used, findings, places, data_root=str(root))
    atomic_write_text(call.out / BOXES, json.dumps(document, indent=1, allow_nan=False) + "\n")
    atomic_write_text(call.out / LABELS, label_table(used, findings, places))
    commands = [_write_stage3(call.out, run, stage2)]
    commands += _write_stage1(call.out, stage2, root, findings)
    return "\n".join([_summary(call, images, used, found, left_out), "Train with", *(f"  {line}" for line in commands)])


def _input_path(run: FinishedRun, name: str) -> Path:
    return Path(os.path.relpath(run.dir / str(run.manifest["inputs"][name]["path"])))


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


def _of_evaluation(files: Mapping[str, Path], patients: Mapping[str, str], stage2: FinishedRun) -> set[str]:
    splits = [read_coco(stage2.output(name)) for name in ("gt_tune", "gt_test")]
    return {image for split in splits for image in evaluation_images(files, patients, split)}


def _write_stage3(out: Path, run: FinishedRun, stage2: FinishedRun) -> str:
    """The settings of the run with the corrections, compared with the run itself; returns the command."""
    labels = {**run.settings["labels"], "corrections": {"path": str(out / BOXES)}}
    others = {**run.settings["compare_with"], "before": str(run.dir)}
    settings = {**run.settings, "labels": labels, "compare_with": others}
    command = f"python stage3_detect/run.py {out / STAGE3} --from {stage2.dir} --out {run.dir}_corrected"
    about = f"The settings of {run.dir} with readers' corrections. The report compares the detector with that run."
    _write_settings(out / STAGE3, about, command, settings)
    return command


def _write_stage1(out: Path, stage2: FinishedRun, root: Path, findings: tuple[str, ...]) -> list[str]:
    """Settings that train the chain's classifier on the labels; returns the command, none if its run is not there."""
    source = next((name for name in stage2.manifest["inputs"] if name.startswith("stage1")), None)
    if source is None or not _input_path(stage2, source).is_dir():
        return []
    stage1 = open_run(_input_path(stage2, source))
    if stage1.stage != "stage1":  # an ensemble has no settings of a training
        return []
    known = [name for name in stage1.settings["findings"] if name in findings]
    columns = {"image": "path", "patient": "patient", "study": "study"}
    table = {"table": str((out / LABELS).resolve()), "columns": columns, "findings": {name: name for name in known}}
    settings = {
        **{name: value for name, value in stage1.settings.items() if name not in ("views", "hierarchy")},
        "data": {"dataset": "csv_table", "root": str(root), **table},
        "split": {"kind": "patients", "fractions": _SHARES},
        "findings": known,
        "init_from": str(stage1.dir),
        "labels": {**stage1.settings["labels"], "not_mentioned": "ignore"},
    }
    command = f"python stage1_classify/run.py {out / STAGE1} --out {stage1.dir}_corrected"
    about = (
        f"The classifier of {stage1.dir}, trained further on the corrected images alone. It needs some hundreds of "
        "them. For fewer, append the rows of labels.csv to the table that you train on."
    )
    _write_settings(out / STAGE1, about, command, settings)
    return [command]


def _write_settings(path: Path, about: str, command: str, settings: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    atomic_write_text(path, f"# {about}\n# Command: {command}\n{text}")


def _summary(call: Call, images: ByImage, used: ByImage, found: FoundFiles, left_out: set[str]) -> str:
    parts = [f"{call.out}: {len(used)} of {len(images)} corrected images"]
    if found.problems:
        parts.append(f"{len(found.problems)} without a file")
    if left_out:
        parts.append(f"{len(left_out)} of the tune or test split left out")
    if used.keys() & found.by_name:
        parts.append(f"{len(used.keys() & found.by_name)} found by name and size only")
    return ", ".join(parts)
