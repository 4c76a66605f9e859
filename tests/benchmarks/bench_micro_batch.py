"""Milliseconds per image of the detector's network by batch size: what the service could gain by joining requests.

    python tests/benchmarks/bench_micro_batch.py [--image-px 640] [--threads 2] [--weights best.pt]

Each batch size is an OpenVINO network of its own (32 bits). The sizes take turns, and figures are medians. Without
--weights the network is the untrained one of bench_detector.py. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stage3_detect.export.exporter import exported
from stage3_detect.model.openvino_core import openvino_core
from tests.benchmarks.bench_detector import untrained

BATCHES = (1, 2, 4, 8)
NUM_ROUNDS = 20


def compiled(weights: Path, batch: int, threads: int) -> Any:
    """A request to the network that takes `batch` images at once."""
    with exported(weights, nms_free=False, format="onnx", batch=batch, device="cpu", simplify=True) as made:
        network = openvino_core().read_model(made.read_bytes())
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    return openvino_core().compile_model(network, "CPU", options).create_infer_request()


def batch_seconds(requests: dict[int, Any]) -> dict[int, float]:
    """Median seconds of each batch size until its answer."""
    seconds: dict[int, list[float]] = {batch: [] for batch in requests}
    for _ in range(NUM_ROUNDS):
        for batch, request in requests.items():
            images = np.zeros(tuple(request.get_input_tensor().shape), np.float32)
            for _ in range(max(BATCHES) // batch):
                begin = time.perf_counter()
                request.infer([images], share_inputs=True, share_outputs=True)
                seconds[batch].append(time.perf_counter() - begin)
    return {batch: float(np.median(values)) for batch, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-px", type=int, default=640, help="of the untrained network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="a trained detector instead; its own size holds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = np.random.default_rng(0).integers(0, 65536, size=(1200, 1024), dtype=np.uint16)
        weights = given.weights or untrained(Path(folder) / "untrained.pt", given.image_px, picture)
        requests = {batch: compiled(weights, batch, given.threads) for batch in BATCHES}
    taken = batch_seconds(requests)
    shown = Table("batch", "ms per image", "ms until the answer", title=f"OpenVINO, {given.threads} threads")
    for batch, seconds in taken.items():
        shown.add_row(str(batch), f"{1000 * seconds / batch:.1f}", f"{1000 * seconds:.1f}")
    Console(width=110).print(shown)
    per_image = {str(batch): 1000 * seconds / batch for batch, seconds in taken.items()}
    sys.stdout.write(json.dumps({"ms_per_image": per_image}) + "\n")


if __name__ == "__main__":
    main()
