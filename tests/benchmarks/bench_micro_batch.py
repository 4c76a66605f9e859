"""Milliseconds per image of the detector's network by batch size: what the service could gain by joining requests.

    python tests/benchmarks/bench_micro_batch.py [--image-px 640] [--threads 2] [--weights best.pt]

Each batch size is an OpenVINO network of its own (32 bits), exported by ultralytics; the sizes take turns, and figures
are medians. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from rich.console import Console
from rich.table import Table
from ultralytics import YOLO

BATCHES = (1, 2, 4, 8)
NUM_IMAGES = 160


def request(weights: str, batch: int, image_px: int, threads: int) -> Any:
    """A compiled network that takes `batch` images at once."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(weights).name
        if Path(weights).exists():
            shutil.copyfile(weights, copy)
        made = YOLO(copy if copy.exists() else weights).export(
            format="onnx", batch=batch, imgsz=image_px, verbose=False
        )
        network = ov.Core().read_model(Path(made).read_bytes())
        Path(made).unlink()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    return ov.Core().compile_model(network, "CPU", options).create_infer_request()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-px", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", default="yolo26n.yaml", help="a trained detector instead of an untrained one")
    given = parser.parse_args()
    requests = {batch: request(given.weights, batch, given.image_px, given.threads) for batch in BATCHES}
    seconds: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for _ in range(NUM_IMAGES // max(BATCHES)):
        for batch, network in requests.items():
            images = np.zeros(tuple(network.get_input_tensor().shape), np.float32)
            for _ in range(max(BATCHES) // batch):
                begin = time.perf_counter()
                network.infer([images], share_inputs=True, share_outputs=True)
                seconds[batch].append(time.perf_counter() - begin)
    shown = Table("batch", "ms per image", "ms until the answer", title=f"{given.image_px} px, {given.threads} threads")
    figures = {batch: 1000 * float(np.median(values)) for batch, values in seconds.items()}
    for batch, duration in figures.items():
        shown.add_row(str(batch), f"{duration / batch:.1f}", f"{duration:.1f}")
    Console(width=110).print(shown)
    per_image = {str(batch): duration / batch for batch, duration in figures.items()}
    sys.stdout.write(json.dumps({"ms_per_image": per_image}) + "\n")


if __name__ == "__main__":
    main()
