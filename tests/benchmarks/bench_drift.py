"""Drift: false alarms on repeated splits of one set of images, and the shifts that are found.

    python stage3_detect/bundle.py runs/demo/stage3 --out runs/gate_bundle --gate-images IMAGES
    python tests/benchmarks/bench_drift.py runs/gate_bundle IMAGES --out runs/drift_phantom

Each image is judged and searched for boxes as it is, and with each change of exposure (grey values to a power). False
alarms: the images as they are, split at random into two halves; an alarm is a significant difference. Found: the
same with one half changed. --out: the report on the strongest change.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cxr.imaging.files import Pixels, min_max, read_pixels
from cxr.imaging.listing import find_images
from eval.drift.compare_records import find_drift, report_drift
from eval.drift.records import ImageRecords, read_records
from stage3_detect.serving.interface import DecodedImage
from stage3_detect.serving.model.bundle_model import BundleModel, open_model
from stage3_detect.serving.records import record_of

POWERS = (1.0, 1.05, 1.1, 1.25)
SIZES = (25, 50, 100, 200)
MAX_IMAGES = 400


def changed(pixels: Pixels, power: float) -> Pixels:
    """The image in 8 bits, with grey values to a power; above 1 is darker."""
    return np.asarray(np.rint(255 * min_max(pixels) ** power), dtype=np.uint8)


def write_records(path: Path, model: BundleModel, images: list[Path], power: float) -> ImageRecords:
    """The records of the images at this exposure."""
    with path.open("w", encoding="utf-8") as file:
        for image in images:
            decoded = DecodedImage("", b"", changed(read_pixels(image), power))
            record = record_of(model.quality(decoded), model.detect(decoded), model.facts.findings)
            file.write(json.dumps(record) + "\n")
    return read_records(path, option=str(path))


def part(records: ImageRecords, rows: np.ndarray) -> ImageRecords:
    """Some of the images."""
    values = {name: column[rows] for name, column in records.values.items()}
    return ImageRecords(records.source, values, records.partial, records.gate, records.synthetic)


def alarms(plain: ImageRecords, other: ImageRecords, *, size: int, splits: int) -> float:
    """Share of random splits, `size` images on each side, with a significant difference."""
    return float(np.mean([bool(found) for found in _found(plain, other, size, splits)]))


def _found(plain: ImageRecords, other: ImageRecords, size: int, splits: int) -> Iterator[int]:
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(plain.num_images)
        yield len(find_drift(part(plain, order[:size]), part(other, order[size : 2 * size]), seed=seed).clear)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=200, help="splits for false alarms; a fifth for each change")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    files = [file.path for file in find_images(given.images).files]
    images = (
        [files[place * len(files) // MAX_IMAGES] for place in range(MAX_IMAGES)] if len(files) > MAX_IMAGES else files
    )
    model = open_model(given.bundle, num_threads=1)
    paths = {power: given.out / f"records_{power:g}.jsonl" for power in POWERS}
    records = {power: write_records(path, model, images, power) for power, path in paths.items()}
    figures: dict[str, float] = {}
    sys.stdout.write(f"{len(images)} images; share of splits with an alarm, by images on each side\n")
    for power in POWERS:
        sizes = [size for size in SIZES if 2 * size <= len(images)]
        splits = given.splits if power == 1 else given.splits // 5
        shares = [alarms(records[1.0], records[power], size=size, splits=splits) for size in sizes]
        figures |= {f"alarms/{power:g}/{size}": share for size, share in zip(sizes, shares, strict=True)}
        cells = "  ".join(f"{size}: {share:.3f}" for size, share in zip(sizes, shares, strict=True))
        sys.stdout.write(f"power {power:<5g} {splits} splits  {cells}\n")
    page = report_drift(paths[1.0], paths[POWERS[-1]], out=given.out)
    sys.stdout.write(f"{page}\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
