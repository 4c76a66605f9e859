"""Milliseconds an image of the source's full augmentation: as written, and as stage 1 does it.

    python tests/benchmarks/bench_augment.py [--size 384] [--repeats 60]

As written: the library's affine, colour jitter, flip, grid distortion and elastic transform on three equal channels.
Ours: one channel. Every part is applied every time. Both draw anew each time, in turns; times are CPU time of one
thread, which is the time on an idle machine. That both do the same is tests/stage1_classify/data/test_augment.py.
Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping

import albumentations as A
import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from stage1_classify.data.augment import Augmentation
from stage1_classify.settings.input import AugmentSettings

SHEAR_DEG, SCALE = 5.0, 0.1  # the source names none
PARTS = {
    "affine": A.Affine(
        translate_percent=(-0.1, 0.1),
        rotate=(-15, 15),
        scale=(1 - SCALE, 1 + SCALE),
        shear=(-SHEAR_DEG, SHEAR_DEG),
        p=1,
    ),
    "contrast": A.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1),
    "flip": A.HorizontalFlip(p=1),
    "grid": A.GridDistortion(num_steps=5, distort_limit=0.2, p=1),
    "elastic": A.ElasticTransform(alpha=0.1, sigma=20, p=1),
}
STRENGTHS = {
    **{"translate_share": 0.1, "rotate_deg": 15.0, "scale_share": SCALE, "shear_deg": SHEAR_DEG, "contrast_limit": 0.1},
    **{"grid_steps": 5, "grid_limit": 0.2, "elastic_alpha": 0.1, "elastic_sigma": 20.0, "erase_probability": 0.0},
}

Work = Callable[[int], object]


def soft_picture(size: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def as_written(transforms: list[A.BasicTransform], picture: np.ndarray) -> Work:
    compose = A.Compose(transforms, seed=0)
    three = np.repeat(picture[:, :, None], 3, axis=2)
    return lambda _: compose(image=three)


def as_ours(parts: list[str], picture: np.ndarray) -> Work:
    chances = {f"{name}_probability": float(name in parts) for name in PARTS}
    augmentation = Augmentation(AugmentSettings.model_validate(STRENGTHS | chances))
    return lambda seed: augmentation(picture, seed=seed)


def milliseconds(forms: Mapping[str, Work], repeats: int) -> dict[str, float]:
    """Median CPU time of each form, all forms in turns; the first three rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for seed in range(repeats + 3):
        for name, work in forms.items():
            begin = time.process_time()
            work(seed)
            times[name].append(1000 * (time.process_time() - begin))
    return {name: float(np.median(values[3:])) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=384, help="side of the pictures in px")
    parser.add_argument("--repeats", type=int, default=60)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    picture = soft_picture(given.size)
    rows = {**{name: [name] for name in PARTS}, "all": list(PARTS)}
    forms: dict[str, Work] = {}
    for row, names in rows.items():
        forms[f"{row}/as_written"] = as_written([PARTS[name] for name in names], picture)
        forms[f"{row}/ours"] = as_ours(names, picture)
    figures = milliseconds(forms, given.repeats)
    table = Table("part", "as written, ms", "ours, ms", "ratio", title=f"{given.size} px, one thread")
    for row in rows:
        written, ours = figures[f"{row}/as_written"], figures[f"{row}/ours"]
        table.add_row(row, f"{written:.2f}", f"{ours:.2f}", f"{written / ours:.1f}x")
    figures["ratio"] = figures["all/as_written"] / figures["all/ours"]
    Console(width=110).print(table)
    Console(width=10_000).print(json.dumps(vars(given) | figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()
