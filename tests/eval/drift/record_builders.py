"""Records of images as stage 3, predict.py and the service write them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def records(number: int, *, seed: int, brightness: float = 0.5, gate: str = "g") -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        statistics = {"brightness": rng.normal(brightness, 0.05), "contrast": rng.normal(0.2, 0.02), "unlikeness": 0.1}
        quality = {"reasons": [], "statistics": statistics, "features": rng.normal(0, 1, 2).tolist(), "gate": gate}
        made.append({"quality": quality, "scores": {"Edema": rng.uniform(0, 1)}})
    return made


def write_lines(path: Path, made: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in made))
    return path
