"""Milliseconds per image of the detector in every format, next to the bare engines and the CAM methods.

    python tests/benchmarks/bench_detector.py [--image-px 640] [--images 50] [--threads 2] [--weights best.pt]
    python tests/benchmarks/bench_detector.py --device cuda --batch 32

Per format: `engine`, the network alone on a ready tensor, called through its library; `pixels`, from the decoded
picture to boxes in original pixels (resize, tensor, network, NMS); `whole`, the same from the file. The formats take
turns on each picture, so ratios are robust on a busy machine. Figures are medians and 99th percentiles. Pictures are
16-bit PNGs of 1024 x 1200. Without --weights the network is untrained, with its scores shifted so that about 1 anchor
in 80 is a candidate for NMS, as in trained networks.

The CAM side is stage 2's engine on a DenseNet-121 with 14 classes: maps of all classes from a ready tensor at the
classifier's size (--cam-px; 384 is that of configs/chexpert_vindr), without decoding and without boxes, which would
add to it. ScoreCAM takes a minute or more per image; --cam-images 0 skips the CAM side.

With --device cuda the engines are PyTorch in 32 and 16 bits and, if installed, TensorRT, on one picture at a time and,
with --batch, on a batch. Prints tables and, as the last line, one JSON object.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cxr.imaging.files import read_pixels
from stage3_detect.export.exporter import export_onnx, export_tensorrt
from stage3_detect.model.boxes import detect, read_output
from stage3_detect.model.engines import open_exported
from stage3_detect.model.network import Network, to_net, to_tensor_input
from stage3_detect.model.tensorrt_network import TensorrtNetwork, why_no_tensorrt
from stage3_detect.model.torch_network import TorchNetwork
from stage3_detect.settings.detector import PredictSettings

PICTURE_HW = (1200, 1024)
CANDIDATES = 1 / 80
"""Share of (anchor, class) pairs at or above the lowest score: 0.2 % to 4 % in a trained yolo26n at 640 px."""
NUM_CLASSES, NUM_CALIBRATION, NUM_WARM = 14, 8, 3
SETTINGS = PredictSettings()

Milliseconds = dict[str, list[float]]
Figures = dict[str, Any]


def untrained(path: Path, image_px: int, picture: np.ndarray) -> Path:
    """yolo26n for one channel and 14 classes, with as many candidates as a trained one has."""
    from ultralytics.nn.tasks import DetectionModel  # after stage3_detect, which switches the network off

    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", ch=1, nc=NUM_CLASSES, verbose=False)
    arguments = {"imgsz": image_px, "task": "detect"}
    model.names, model.args = {index: f"finding {index}" for index in range(NUM_CLASSES)}, arguments
    heads = model.model[-1].cv3
    for head in heads:
        torch.nn.init.normal_(head[-1].weight, std=0.3)
    net_image = to_net(picture, image_px)[0]
    _normalise(model, torch.from_numpy(to_tensor_input(net_image, 1)))

    def save() -> Path:
        torch.save({"model": model, "train_args": arguments, "epoch": -1}, path)
        return path

    scores = TorchNetwork(save())(net_image)[4:].clip(1e-30, 1 - 1e-7)
    logits = np.log(scores / (1 - scores))
    lowest = np.log(SETTINGS.min_score / (1 - SETTINGS.min_score))
    for head in heads:
        head[-1].bias.data += float(lowest - np.quantile(logits, 1 - CANDIDATES))
    return save()


def _normalise(model: torch.nn.Module, net_input: torch.Tensor) -> None:
    parts = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for part in parts:
        part.momentum = None
    model.train()
    with torch.no_grad():
        model(net_input)
    model.eval()
    for part in parts:
        part.running_var *= 1.1  # else rounding grows from layer to layer


def picture(path: Path, index: int) -> Path:
    """A smooth 12-bit picture in a 16-bit PNG."""
    pixels = np.random.default_rng(index).integers(0, 4096, size=PICTURE_HW, dtype=np.uint16) * 16
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 4))
    return path


def formats_on_cpu(folder: Path, weights: Path, threads: int, calibration: Sequence[np.ndarray]) -> dict[str, Network]:
    """Every format for CPUs."""
    from stage3_detect.export.openvino_file import convert_openvino, quantise_openvino  # a GPU needs neither

    onnx = folder / "detector.onnx"
    export_onnx(weights, onnx, nms_free=False)
    for half, name in ((False, "fp32"), (True, "fp16")):
        convert_openvino(onnx, folder / f"{name}.xml", half=half)
    quantise_openvino(onnx, folder / "int8.xml", calibration)
    torch.set_num_threads(threads)
    files = {"onnx": onnx, **{f"openvino_{name}": folder / f"{name}.xml" for name in ("fp32", "fp16", "int8")}}
    opened = {fmt: open_exported(fmt, path, num_threads=threads) for fmt, path in files.items()}
    return {"torch": TorchNetwork(weights), **opened}


def torch_on_gpu(weights: Path) -> dict[str, Network]:
    """PyTorch in 32 and 16 bits."""
    return {name: TorchNetwork(weights, device="0", half=name == "torch_fp16") for name in ("torch", "torch_fp16")}


def formats_on_gpu(folder: Path, weights: Path, console: Console) -> dict[str, Network]:
    """PyTorch in 32 and 16 bits, and TensorRT if installed."""
    networks = torch_on_gpu(weights)
    if (reason := why_no_tensorrt()) is not None:
        console.print(f"TensorRT is skipped: {reason}")
        return networks
    export_tensorrt(weights, folder / "d.engine", nms_free=False)
    return networks | {"tensorrt_fp16": TensorrtNetwork(folder / "d.engine")}


def engine_of(network: Any) -> Callable[[np.ndarray], Callable[[], object]]:
    """From a network's 8-bit input to the library's own call on it, without what our wrapper adds."""

    def call(net_image: np.ndarray) -> Callable[[], object]:
        if hasattr(network, "_request"):  # OpenVINO takes bytes
            planes = net_image[None, None]
            return lambda: network._request.infer([planes], share_inputs=True, share_outputs=True)
        tensor = to_tensor_input(net_image, network.channels)
        if hasattr(network, "_session"):
            return lambda: network._session.run(None, {network._input: tensor})
        return lambda: network.forward(torch.from_numpy(tensor).to(network.device)).cpu()

    return call


def in_turns(networks: dict[str, Network], files: Sequence[Path]) -> Milliseconds:
    """`<format>/<what>` -> milliseconds per picture; and `decode`, reading alone."""
    times: Milliseconds = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        times.setdefault(name, []).append((time.perf_counter() - begin) * 1000)
        return result

    engines = {fmt: engine_of(network) for fmt, network in networks.items()}
    some = next(iter(networks.values()))
    for path in files:
        pixels = timed("decode", lambda path=path: read_pixels(path))
        net_image = to_net(pixels, some.image_px)[0]
        for fmt, network in networks.items():
            engine = engines[fmt](net_image)
            engine()  # not timed: the threads of the previous engine still spin for a while
            timed(f"{fmt}/engine", engine)
            timed(f"{fmt}/pixels", lambda net=network, pixels=pixels: detect(pixels, net, SETTINGS))
            timed(f"{fmt}/whole", lambda net=network, path=path: detect(read_pixels(path), net, SETTINGS))
    return {name: values[NUM_WARM:] for name, values in times.items()}


def summary(times: Milliseconds, console: Console, title: str) -> Figures:
    """The table, and flat figures."""
    figures: Figures = {}
    for name, values in times.items():
        figures[name] = float(np.median(values))
        figures[f"{name}/p99"] = float(np.percentile(values, 99))
    table = Table("format", "engine", "pixels", "over engine", "whole", "p99", "over engine", title=title)
    for fmt in dict.fromkeys(name.split("/")[0] for name in times if "/" in name):
        engine, pixels, whole = (figures[f"{fmt}/{what}"] for what in ("engine", "pixels", "whole"))
        # one ratio per picture: other work on the machine then spoils single ratios, not the median
        pairs = [np.divide(times[f"{fmt}/{what}"], times[f"{fmt}/engine"]) for what in ("pixels", "whole")]
        over = figures[f"{fmt}/pixels_over_engine"], figures[f"{fmt}/whole_over_engine"] = [
            float(np.median(pair)) for pair in pairs
        ]
        p99 = figures[f"{fmt}/whole/p99"]
        cells = (engine, pixels, over[0], whole, p99, over[1])
        table.add_row(fmt, *(f"{value:.3f}" if value in over else f"{value:.1f}" for value in cells))
    console.print(table)
    console.print(f"decoding alone: {figures['decode']:.1f} ms")
    return figures


def batches(networks: dict[str, Network], count: int, console: Console, folder: Path, weights: Path) -> Figures:
    """Milliseconds per image of `count` pictures in one call on a GPU, the network alone."""
    engines: dict[str, Any] = {fmt: network for fmt, network in networks.items() if fmt != "tensorrt_fp16"}
    if "tensorrt_fp16" in networks:
        export_tensorrt(weights, folder / "batch.engine", nms_free=False, batch=count)
        engines["tensorrt_fp16"] = TensorrtNetwork(folder / "batch.engine")
    figures: Figures = {}
    for fmt, network in engines.items():
        figures[f"{fmt}/batch{count}"] = batch_ms(network, count)
        console.print(f"{fmt}, {count} in one call: {figures[f'{fmt}/batch{count}']:.3f} ms per image")
    return figures


def batch_ms(network: Any, count: int) -> float:
    """Milliseconds per image of `count` pictures that lie on the device, in one call of the network alone."""
    inputs = torch.rand(count, network.channels, network.image_px, network.image_px, device=network.device)
    times = []
    for _ in range(30):
        wait_for(network.device)
        begin = time.perf_counter()
        network.forward(inputs)
        wait_for(network.device)
        times.append((time.perf_counter() - begin) * 1000 / count)
    return float(np.median(times[10:]))


def wait_for(device: torch.device) -> None:
    """Until a GPU has done everything; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cams(given: argparse.Namespace, console: Console) -> Figures:
    """Milliseconds per image of one CAM method and of ScoreCAM, all classes."""
    from bench_cam import Model

    from stage2_pseudolabel.cam.engine import compute_maps

    options = {"backbone": "densenet121", "size": given.cam_px, "classes": NUM_CLASSES}
    model = Model(argparse.Namespace(**options)).eval().to(given.device)
    images = torch.randn(given.cam_images, 1, given.cam_px, given.cam_px, device=given.device)
    figures: Figures = {"cam_px": given.cam_px}
    compute_maps(model, images[:1], [given.cam])
    for method in (given.cam, "scorecam"):
        times = []
        for image in images:
            begin = time.perf_counter()
            maps = compute_maps(model, image[None], [method]).maps
            np.asarray([value.cpu() for value in maps.values()])  # on a GPU: wait for it
            times.append((time.perf_counter() - begin) * 1000)
        figures[method] = float(np.median(times))
        console.print(f"{method} of DenseNet-121 at {given.cam_px} px: {figures[method]:.0f} ms per image")
    return figures


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-px", type=int, default=640, help="of the untrained network")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="a trained detector instead; its own size holds")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=0, help="on a GPU: also so many pictures in one call")
    parser.add_argument("--cam", default="layercam", help="the CAM method that won, as in CAM_METHODS")
    parser.add_argument("--cam-px", type=int, default=384)
    parser.add_argument("--cam-images", type=int, default=1)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = parse(argv)
    logging.getLogger("raybox").setLevel(logging.ERROR)
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(given.threads)
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [picture(folder / f"{index}.png", index) for index in range(given.images + NUM_WARM)]
        first = read_pixels(files[0])
        weights = given.weights or untrained(folder / "best.pt", given.image_px, first)
        like = TorchNetwork(weights)
        tensors = [
            to_tensor_input(to_net(read_pixels(path), like.image_px)[0], like.channels)
            for path in files[:NUM_CALIBRATION]
        ]
        raw = like(to_net(first, like.image_px)[0])
        facts = {
            **{key: getattr(given, key) for key in ("device", "threads", "images")},
            "image_px": like.image_px,
            "num_candidates": int((raw[4:] >= SETTINGS.min_score).sum()),
            "num_boxes": len(read_output(raw, SETTINGS).scores),
        }
        if on_cpu := given.device == "cpu":
            networks = formats_on_cpu(folder, weights, given.threads, tensors)
        else:
            networks = formats_on_gpu(folder, weights, console)
        title = f"yolo26n, {like.image_px} px, {given.threads} threads, {given.device}; milliseconds per image"
        figures = summary(in_turns(networks, files), console, title)
        if given.batch and not on_cpu:
            figures |= batches(networks, given.batch, console, folder, weights)
    if given.cam_images:
        figures |= cams(given, console)
        for fmt in networks:
            figures[f"scorecam_over_{fmt}"] = figures["scorecam"] / figures[f"{fmt}/whole"]
            figures[f"{given.cam}_over_{fmt}"] = figures[given.cam] / figures[f"{fmt}/whole"]
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    sys.stdout.write(json.dumps(facts | rounded) + "\n")


if __name__ == "__main__":
    main()
