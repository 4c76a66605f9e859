"""Images per second and core into batches at 384 px: from our cache, by torchxrayvision, and decoded from DICOM.

    python tests/benchmarks/bench_loader.py [--num-images 256] [--rounds 5] [--dicom-hw 2500 2048]

No augmentation anywhere, batches of 32, one process, one thread. JPEGs are of CheXpert-small's size (390 x 320 px) and
in its layout; the DICOMs are the same pictures, uncompressed 12 bits, at a radiograph's usual size and at the JPEGs'.
Library: ``torchxrayvision.datasets.CheX_Dataset`` with its usual XRayCenterCrop and XRayResizer(384), and with the
latter's faster engine. It is not a dependency. To compare with it, install it next to the project:

    .venv/bin/uv pip install --target runs/xrv_site --no-deps torchxrayvision scikit-image imageio lazy-loader tifffile
    PYTHONPATH=runs/xrv_site .venv/bin/python tests/benchmarks/bench_loader.py

All loaders take turns. Figures are medians over the rounds of images per second of CPU time, with files in the system's
memory. The time to fill the cache is not included. Prints a table and, as the last line, one JSON object.
"""

import argparse
import csv
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from cxr.config import parse_settings
from cxr.datasets import ChexpertData, CsvTableData, Dataset
from cxr.imaging.pictures import Pictures
from cxr.imaging.settings import InputSettings
from cxr.labels import CHEXPERT_FINDINGS
from cxr.phantom.dicom import DicomFacts, write_dicom
from stage1_classify.data.augment import Augmentation
from stage1_classify.data.batches import Split, TrainingSet, training_loader
from stage1_classify.data.studies import make_cases
from stage1_classify.settings.input import AugmentSettings

JPEG_HW = (320, 390)
SIZE = 384
BATCH = 32
RELEASE = "CheXpert-v1.0-small"
OFF = {name: 0.0 for name in AugmentSettings.model_fields if name.endswith("_probability")}

Load = Callable[[], int]
"""Loads images and returns their number."""


def picture(number: int) -> np.ndarray:
    """Soft shapes with a little noise, (H, W) uint8: a JPEG of quality 90 has about 20 kB, as CheXpert-small's."""
    generator = np.random.default_rng(number)
    coarse = generator.integers(0, 255, (16, 20), dtype=np.uint8)
    soft = cv2.resize(coarse, JPEG_HW[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(soft + generator.normal(0, 3, JPEG_HW), 0, 255).astype(np.uint8)


def write_jpegs(root: Path, num_images: int) -> Dataset:
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS]
    rows: list[list[object]] = [[*header]]
    for number in range(num_images):
        path = f"{RELEASE}/train/patient{number:05d}/study1/view1_frontal.jpg"
        (root / path).parent.mkdir(parents=True)
        assert cv2.imwrite(str(root / path), picture(number), [cv2.IMWRITE_JPEG_QUALITY, 90])
        rows.append([path, "Female", 60, "Frontal", "PA", *[float(number % 2)] * len(CHEXPERT_FINDINGS)])
    for name in ("train", "valid"):
        with (root / RELEASE / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows if name == "train" else rows[:1])
    return parse_settings(ChexpertData, {"root": root / RELEASE}, source="benchmark").read()


def write_dicoms(root: Path, num_images: int, size_hw: tuple[int, int]) -> Dataset:
    root.mkdir()
    for number in range(num_images):
        facts = DicomFacts(str(number), sex="F", age=60, inverted=False, low=0, high=4095, pixel_spacing_mm=0.14)
        large = cv2.resize(picture(number), size_hw[::-1], interpolation=cv2.INTER_LINEAR)
        write_dicom(root / f"{number}.dicom", large.astype(np.float32) / 255, facts)
    lines = [f"{number}.dicom,{number % 2}" for number in range(num_images)]
    (root / "images.csv").write_text("\n".join(["path,edema", *lines]) + "\n", encoding="utf-8")
    values = {
        "root": root, "table": "images.csv", "columns": {"image": "path"}, "findings": {"edema": "Edema"}
    }  # fmt: skip
    return parse_settings(CsvTableData, values, source="benchmark").read()


def ours(data: Dataset, cache_dir: Path | None, *, num_images: int) -> Load:
    """What training does each epoch."""
    settings = InputSettings(size_hw=(SIZE, SIZE), cache_dir=cache_dir)
    targets = data.labels.to_numpy(dtype=np.float32, copy=True)
    split = Split(Pictures(data, settings), make_cases(data, None), targets)
    items = TrainingSet(split, Augmentation(AugmentSettings.model_validate(OFF)), num_channels=1, seed=0)
    batches = [list(range(start, min(start + BATCH, num_images))) for start in range(0, num_images, BATCH)]

    def load() -> int:
        return sum(len(batch.images) for batch in training_loader(items, batches, num_workers=0))

    return load


def library(root: Path, engine: str) -> Load:
    import torchvision
    import torchxrayvision

    resizer = torchxrayvision.datasets.XRayResizer(SIZE, engine=engine)
    transform = torchvision.transforms.Compose([torchxrayvision.datasets.XRayCenterCrop(), resizer])
    items = torchxrayvision.datasets.CheX_Dataset(
        str(root / RELEASE), csvpath=str(root / RELEASE / "train.csv"), transform=transform
    )
    loader = DataLoader(items, batch_size=BATCH)
    return lambda: sum(len(batch["img"]) for batch in loader)


def images_per_second(loader: Load) -> float:
    begin = time.process_time()
    count = loader()
    return count / (time.process_time() - begin)


def loaders_of(folder: Path, num_images: int, dicom_hw: tuple[int, int]) -> Mapping[str, Load]:
    jpegs = write_jpegs(folder, num_images)
    few = max(2, num_images // 16)
    loaders = {
        "cache": ours(jpegs, folder / "cache", num_images=num_images),
        "jpeg_anew": ours(jpegs, None, num_images=few * 4),
    }
    for name, size_hw in (("dicom_anew", dicom_hw), ("small_dicom_anew", JPEG_HW)):
        loaders[name] = ours(write_dicoms(folder / name, few, size_hw), None, num_images=few)
    if importlib.util.find_spec("torchxrayvision") is not None:
        loaders["torchxrayvision"] = library(folder, "skimage")
        loaders["torchxrayvision_cv2"] = library(folder, "cv2")
    return loaders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dicom-hw", type=int, nargs=2, default=(2500, 2048))
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        loaders = loaders_of(Path(name), given.num_images, tuple(given.dicom_hw))
        speeds: dict[str, list[float]] = {loader: [] for loader in loaders}
        for _ in range(given.rounds + 1):
            for label, loader in loaders.items():
                speeds[label].append(images_per_second(loader))
    figures = {label: float(np.median(values[1:])) for label, values in speeds.items()}
    table = Table("loader", "images per second", "cache is faster by", title=f"{SIZE} px, one thread, CPU time")
    ratios = {f"cache_over/{label}": figures["cache"] / speed for label, speed in figures.items()}
    for label, speed in figures.items():
        table.add_row(label, f"{speed:.1f}", f"{ratios[f'cache_over/{label}']:.1f}x")
    Console(width=110).print(table)
    Console(width=10_000).print(json.dumps(vars(given) | figures | ratios), markup=False, highlight=False)


if __name__ == "__main__":
    main()
