"""Milliseconds an image of the detector: PyTorch and ONNX Runtime, whole way (decode to boxes) beside the bare engine.

    python tests/benchmarks/bench_detector.py [--image-px 640] [--num-images 30] [--threads 2]

Prints a table and, as the last line, one JSON object. The network is untrained: time does not depend on the weights
(NMS gets as many candidates as it ever takes). Pictures are 12-bit-like PNGs of 1024 x 1200 pixels.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cxr.images import read_image
from stage3_detect.config import PredictSettings
from stage3_detect.deploying.onnx_file import OnnxNetwork, export_onnx
from stage3_detect.detecting.boxes import detect
from stage3_detect.detecting.network import TorchNetwork
from stage3_detect.detecting.preprocess import to_net, to_tensor_input

PICTURE_HW = (1200, 1024)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every form in turns within one run, so that ratios hold on a noisy machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-px", type=int, default=640)
    parser.add_argument("--num-images", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forms = _forms(folder, given.image_px, given.threads)
        times: dict[str, list[float]] = {label: [] for label in forms}
        for path in [_picture(folder, index) for index in range(given.num_images + 2)]:
            for label, form in forms.items():
                begin = time.perf_counter()
                form(path)
                times[label].append((time.perf_counter() - begin) * 1000)
    _show({label: np.array(values[2:]) for label, values in times.items()}, given.image_px)


def _forms(folder: Path, image_px: int, threads: int) -> dict[str, Callable[[Path], object]]:
    settings, weights = PredictSettings(), _untrained(folder, image_px)
    export_onnx(weights, folder / "best.onnx", nms_free=False)
    torch.set_num_threads(threads)
    network = TorchNetwork(weights)
    exported = OnnxNetwork(folder / "best.onnx", network, num_threads=threads)
    blank = to_tensor_input(to_net(np.zeros(PICTURE_HW, dtype=np.float32), image_px)[0], 1)
    return {
        "torch": lambda path: detect(read_image(path), network, settings),
        "torch_engine": lambda _: network(blank),
        "onnx": lambda path: detect(read_image(path), exported, settings),
        "onnx_engine": lambda _: exported(blank),
        "decode": read_image,
    }


def _untrained(folder: Path, image_px: int) -> Path:
    from ultralytics.nn.tasks import DetectionModel  # after stage3_detect, which switches the network off

    model = DetectionModel("yolo26n.yaml", ch=1, nc=14, verbose=False)
    model.names, model.args = {index: f"finding {index}" for index in range(14)}, {"imgsz": image_px}
    for head in model.model[-1].cv3:
        torch.nn.init.constant_(head[-1].bias, -3.0)
    path = folder / "best.pt"
    torch.save({"model": model, "train_args": {"imgsz": image_px, "task": "detect"}, "epoch": -1}, path)
    return path


def _picture(folder: Path, index: int) -> Path:
    path = folder / f"{index}.png"
    pixels = np.random.default_rng(index).integers(0, 4096, size=PICTURE_HW, dtype=np.uint16) * 16
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 4))
    return path


def _show(times: dict[str, np.ndarray], image_px: int) -> None:
    table = Table("form", "median ms", "p99 ms", title=f"yolo26n, {image_px} px, one image at a time")
    figures: dict[str, float] = {"image_px": image_px}
    for label, values in times.items():
        median, p99 = float(np.median(values)), float(np.percentile(values, 99))
        table.add_row(label, f"{median:.1f}", f"{p99:.1f}")
        figures |= {f"{label}_ms": round(median, 2), f"{label}_p99_ms": round(p99, 2)}
    figures["onnx_over_engine"] = round(figures["onnx_ms"] / figures["onnx_engine_ms"], 3)
    Console().print(table)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
