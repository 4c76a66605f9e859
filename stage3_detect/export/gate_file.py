"""The quality gate of a stage 3 run, fitted on its training and tune images; and the records of the tune images."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.imaging.files import Pixels, read_pixels
from cxr.imaging.listing import find_images
from cxr.progress import track
from cxr.runs.run_folder import atomic_write_text
from cxr.runs.whole_files import whole_file
from stage3_detect.image_quality.description import Description, describe, thumbnail_of
from stage3_detect.image_quality.fit import MIN_IMAGES, describe_good, fit_gate, num_different
from stage3_detect.image_quality.gate import Gate, reference_bytes
from stage3_detect.labels.sources import Sources
from stage3_detect.settings.detector import GateSettings

FILE_NAME = "quality_gate.npz"

log = logging.getLogger("raybox")


def write_gate(path: Path, images: Sequence[Path], settings: GateSettings) -> Path | None:
    """Fit a gate on good images and write it; None, with a line in the log, with too few of them.

    Raises:
        UserError: an image or a folder of examples cannot be used.
    """
    used = evenly_spaced(images, settings.num_images)
    good = describe_good(_pixels(used, "describing good images")) if len(used) >= MIN_IMAGES else None
    num = len(used) if good is None else num_different(good)
    if good is None or num < MIN_IMAGES:
        log.info("quality gate: fixed rules only; %d different good images, expected at least %d", num, MIN_IMAGES)
        return None
    examples: dict[str, list[Description]] = {
        name: described_folder(folder) for name, folder in settings.examples.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_bytes(reference_bytes(fit_gate(good, examples)))
    return path


def described_folder(folder: Path) -> list[Description]:
    """The images of a folder. UserError if it has none, or one cannot be read."""
    files = [file.path for file in find_images([folder]).files]
    return [describe(thumbnail_of(pixels)) for pixels in _pixels(files, f"looking at {folder.name}")]


def _pixels(paths: Sequence[Path], what: str) -> Iterator[Pixels]:
    for path in track(paths, what, images_in=lambda _: 1):
        yield read_pixels(path)


def evenly_spaced(images: Sequence[Path], number: int) -> list[Path]:
    """At most `number` of the images, in their order."""
    if len(images) <= number:
        return list(images)
    return [images[place * len(images) // number] for place in range(number)]


def image_paths(tables: Iterable[CocoBoxes]) -> list[Path]:
    """The files of the images in these tables, each once; halves of an image are one file."""
    paths = (Path(str(coco.info["data_root"])) / path for coco in tables for path in coco.images["path"])
    return list(dict.fromkeys(paths))


def training_paths(sources: Sources) -> list[Path]:
    """The files of the training and tune images of a run."""
    return image_paths([sources.training_images, sources.readers])


def write_records(path: Path, gate: Gate, tune: CocoBoxes, detections: CocoBoxes) -> Path:
    """Write what `eval/run.py drift` compares new images with: a JSON line for each tune image.

    Args:
        detections: of the detector on the tune images.
    """
    root = Path(str(tune.info["data_root"]))
    file_of: Mapping[str, str] = dict(zip(tune.images["image_id"], tune.images["path"], strict=True))
    scores: dict[str, dict[str, float]] = {file: dict.fromkeys(tune.findings, 0.0) for file in file_of.values()}
    boxes = detections.boxes
    for image, finding, score in zip(boxes["image_id"], boxes["finding"], boxes["score"], strict=True):
        own = scores[file_of[image]]
        own[finding] = max(own[finding], round(float(score), 6))
    lines = []
    for file in track(list(scores), "records of the tune images", images_in=lambda _: 1):
        quality = gate.check(read_pixels(root / file))
        lines.append(json.dumps({"quality": quality.record(), "scores": scores[file]}) + "\n")
    atomic_write_text(path, "".join(lines))
    return path


def refit(folders: Sequence[Path], examples: Mapping[str, Path], path: Path) -> Path:
    """A gate for the images of another hospital.

    Raises:
        UserError: too few images, or one that cannot be read.
    """
    files = [file.path for file in find_images(folders).files]
    settings = GateSettings.model_validate({"examples": examples})
    written = write_gate(path, files, settings)
    if written is None:
        raise UserError(f"--gate-images: {len(files)} images, expected at least {MIN_IMAGES}; give more")
    return written
