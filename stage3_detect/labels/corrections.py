"""Readers' corrections as training images: several readers are fused, and no image of the tune or test split passes."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from cxr.coco import IMAGE_FIELDS, CocoBoxes, read_coco
from cxr.config import UserError
from cxr.readers import ReaderSettings, fuse_readers
from cxr.runs.provenance import sha256_of
from cxr.threads import in_threads
from stage3_detect.settings.labels import LabelSettings

DISAGREE = "the readers disagree"
"""Why a box is an ignore region, in `ignored_by`."""

_SHOWN = 5
log = logging.getLogger("raybox")


def corrections_input(settings: LabelSettings) -> dict[str, Path]:
    """The file of corrections as an input of the run; empty without corrections."""
    path = settings.corrections.path
    return {} if path is None else {"corrections": path}


def read_corrections(path: Path, findings: tuple[str, ...]) -> CocoBoxes:
    """The corrected images with their boxes, labels and completeness, for the findings of the run.

    Boxes that more than half of an image's readers marked are averaged. The others become ignore regions.

    Raises:
        UserError: not a file of corrections, without an image, or an image file is missing.
    """
    coco = read_coco(path)
    missing = {"labels", "complete", "num_readers"} - set(coco.images.columns)
    if missing:
        raise UserError(
            f"labels.corrections.path: {path} has no images with {', '.join(sorted(missing))}; give a corrections.json "
            "of stage3_detect/corrections.py"
        )
    _require_files(coco, path)
    foreign = coco.boxes[~coco.boxes["finding"].isin(findings)]
    if len(foreign):
        names = ", ".join(sorted(set(foreign["finding"])))
        log.warning(
            "stage3: %d corrected boxes are not used, their findings are none of the run: %s", len(foreign), names
        )
    images = coco.images[[*IMAGE_FIELDS, "patient_id", "labels", "complete", "num_readers"]]
    kept = coco.boxes[coco.boxes["finding"].isin(findings)]
    kept = kept if "reader" in kept else kept.assign(reader="")  # no reader marked anything
    return _fused(CocoBoxes(images, kept.reset_index(drop=True), findings, coco.info))


def _require_files(coco: CocoBoxes, path: Path) -> None:
    missing = [file for file in files_of(coco).values() if not file.is_file()]
    problems = [f"labels.corrections.path: no image {file}" for file in missing[:_SHOWN]]
    if missing:
        problems.append(
            f"labels.corrections.path: {len(missing)} of {len(coco.images)} images of {path} are missing; "
            "find them with stage3_detect/corrections.py"
        )
        raise UserError(problems)


def _fused(coco: CocoBoxes) -> CocoBoxes:
    fused = fuse_readers(coco.boxes, ReaderSettings(rule="majority", min_votes=1))
    readers_of = dict(zip(coco.images["image_id"], coco.images["num_readers"], strict=True))
    needed = np.array([readers_of[image_id] // 2 + 1 for image_id in fused["image_id"]], dtype=np.float64)
    few = fused["votes"].to_numpy(dtype=np.float64) < needed
    table = fused.assign(
        score=np.nan, iscrowd=few.astype(np.int64), ignored_by=np.where(few, DISAGREE, "").astype(object)
    )
    return coco.with_boxes(table)


def files_of(coco: CocoBoxes) -> dict[str, Path]:
    """Image id -> its file."""
    root = Path(str(coco.info["data_root"]))
    return {str(i): root / str(path) for i, path in zip(coco.images["image_id"], coco.images["path"], strict=True)}


def refuse_evaluation_images(corrections: CocoBoxes, splits: Mapping[str, CocoBoxes]) -> None:
    """Refuse (UserError) corrected images whose file or patient is in the tune or test split."""
    problems = []
    for split, coco in splits.items():
        patients = dict(zip(corrections.images["image_id"], corrections.images["patient_id"], strict=True))
        found = sorted(evaluation_images(files_of(corrections), patients, coco))
        problems += [f"labels.corrections: image {image_id} is in the {split} split" for image_id in found[:_SHOWN]]
        if found:
            problems.append(
                f"labels.corrections: {len(found)} corrected images are in the {split} split, or their patients are; "
                "stage3_detect/corrections.py leaves them out"
            )
    if problems:
        raise UserError(problems)


def evaluation_images(files: Mapping[str, Path], patients: Mapping[str, str], split: CocoBoxes) -> set[str]:
    """Ids of the images whose file or known patient is in `split`. files, patients: by image id, patient "" unknown."""
    theirs = set(split.images.get("patient_id", [])) - {""}
    same = set(same_files(files.values(), files_of(split).values()).values())
    return {image_id for image_id, file in files.items() if file in same or patients[image_id] in theirs}


def without_corrected(labels: CocoBoxes, corrections: CocoBoxes) -> CocoBoxes:
    """The labels of all images that have no corrections."""
    files = files_of(labels)
    corrected = same_files(files_of(corrections).values(), files.values())
    rest = labels.select(image_id for image_id, file in files.items() if file not in corrected)
    num_replaced = len(labels.images) - len(rest.images)
    log.info("stage3: corrections of %d images, in place of %d labelled ones", len(corrections.images), num_replaced)
    return rest


def same_files(wanted: Iterable[Path], others: Iterable[Path]) -> dict[Path, Path]:
    """The files among `others` with the same content as a wanted one: file -> wanted file.

    Only files of the same length are read. Files that do not exist are skipped.
    """
    listed = list(wanted)
    lengths = {path.stat().st_size for path in listed}
    alike = [path for path in dict.fromkeys(others) if path.is_file() and path.stat().st_size in lengths]
    by_hash = {sha256_of(path): path for path in listed} if alike else {}
    hashes = in_threads(lambda part: [sha256_of(path) for path in part], alike)
    return {path: by_hash[digest] for path, digest in zip(alike, hashes, strict=True) if digest in by_hash}
