"""Export the trained network to several file formats, measure each, and open any of them again."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.imaging.files import read_pixels
from cxr.metrics import Metrics
from cxr.own_json import Shape, read_if_whole
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun, atomic_write_text
from stage3_detect.export.exporter import export_onnx, export_tensorrt
from stage3_detect.export.openvino_file import convert_openvino, quantise_openvino
from stage3_detect.export.quality import ExportReference, measure_format, warning_of
from stage3_detect.model.engines import open_exported
from stage3_detect.model.network import NetInput, Network, to_net, to_tensor_input
from stage3_detect.model.predictor import BoxPredictor, PredictorFacts
from stage3_detect.model.tensorrt_network import why_no_tensorrt
from stage3_detect.model.torch_network import TorchNetwork
from stage3_detect.settings.detector import Stage3Settings

log = logging.getLogger("raybox")

PYTORCH = "pytorch"
_FILE_OF = {
    "onnx": "detector.onnx",
    "openvino_fp32": "detector_fp32.xml",
    "openvino_fp16": "detector_fp16.xml",
    "openvino_int8": "detector_int8.xml",
    "tensorrt_fp16": "detector_fp16.engine",
}


@dataclass
class Exports:
    """The exported files.

    files: output name -> file. A format's file has the format's name; OpenVINO's weights file is `<format>_bin`.
    metrics: flat metrics. notes: format -> why it was not exported. warnings: format -> why not to use it.
    """

    files: dict[str, Path] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


def export_formats(
    folder: Path, weights: Path, settings: Stage3Settings, *, reference: ExportReference, calibration: CocoBoxes
) -> Exports:
    """Export and measure every format in the settings; results of an interrupted call are kept.

    Args:
        reference: the test images and the trained network's detections there.
        calibration: training images; INT8 activation ranges are measured on an even sample of them.

    Raises:
        RuntimeError: a 32-bit format differs from the trained network by more than 1 px or 1e-3: a bug.
        UserError: a picture is missing or unreadable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exporter = _Exporter(folder, weights, settings, calibration)
    exports = Exports()
    for name in settings.export.formats:
        reason = why_no_tensorrt() if name == "tensorrt_fp16" else None
        if reason is not None:
            exports.notes[name] = reason
            log.warning("stage3: %s is not exported: %s", name, reason)
            continue
        log.info("stage3: export to %s", name)
        exports.files |= exporter.export(name)
        exports.metrics |= exporter.measure(name, reference)
        if (line := warning_of(name, exports.metrics)) is not None:
            exports.warnings[name] = line
            log.warning("stage3: %s", line)
    shutil.rmtree(folder / "partial", ignore_errors=True)
    return exports


def open_network(run: FinishedRun, name: str = PYTORCH, *, num_threads: int = 0, device: str = "cpu") -> Network:
    """The network of a finished run: the trained weights (`pytorch`) or an exported format.

    Args:
        num_threads: 0 uses all cores; ignored for PyTorch, which uses the threads of the process.
        device: for pytorch (cpu, mps, a CUDA number) and tensorrt_fp16 (a CUDA number); the others run on the CPU.

    Raises:
        UserError: the run does not have the format, its file is missing or damaged, or this machine cannot run it.
    """
    available = [PYTORCH, *(known for known in _FILE_OF if known in run.manifest["outputs"])]
    if name not in available:
        raise UserError(f"format {name!r}: run {run.dir} has {', '.join(available)}; give one of them")
    if name == PYTORCH:
        nms_free = bool(run.settings["predict"]["nms_free"])
        return TorchNetwork(run.output("weights"), device=device, nms_free=nms_free)
    if name.startswith("openvino"):
        run.output(f"{name}_bin")
    return open_exported(name, run.output(name), num_threads=num_threads, device=device)


def usable_formats(files: Container[str], warnings: Container[str], metrics: Mapping[str, float | None]) -> list[str]:
    """The exported formats that passed their checks, the fastest first.

    This order decides the engine of `predict.py` and of the service, so that both give the same boxes.

    Args:
        files: names of the run's outputs. warnings: formats not to be used. metrics: with `ms_per_image/detector_...`.
    """

    def milliseconds(name: str) -> float:
        value = metrics.get(f"ms_per_image/detector_{name}")
        return math.inf if value is None else value

    return sorted((name for name in _FILE_OF if name in files and name not in warnings), key=milliseconds)


def preferred_format(run: FinishedRun, *, device: str) -> str:
    """The format to predict with where the user names none: on a CPU the first of `usable_formats`, which unlike a
    checkpoint cannot hold code; on a GPU, or where none was exported, the trained weights."""
    usable = usable_formats(run.manifest["outputs"], run.manifest.get("export_warnings", ()), run.metrics)
    on_cpu = [name for name in usable if name != "tensorrt_fp16"]
    return on_cpu[0] if on_cpu and device == "cpu" else PYTORCH


def open_predictor(run: FinishedRun, name: str = PYTORCH, *, device: str = "cpu") -> BoxPredictor:
    """The predictor of a finished run: its network, arguments and errors as in `open_network`, its box correction and
    calibration."""
    return BoxPredictor(open_network(run, name, device=device), PredictorFacts.of_manifest(run.manifest))


class _Made(Shape):
    weights: str
    files: dict[str, str]
    metrics: dict[str, float | None] = {}


class _Exporter:
    """Exports and measures formats in one folder; `made_<format>.json` records what is done for which weights."""

    def __init__(self, folder: Path, weights: Path, settings: Stage3Settings, calibration: CocoBoxes) -> None:
        self._folder, self._weights, self._settings, self._calibration = folder, weights, settings, calibration
        self._weights_sha256 = sha256_of(weights)
        self._trained: Network | None = None

    def export(self, name: str) -> dict[str, Path]:
        """The files of a format; exported now unless they exist and are complete."""
        files = self._files(name)
        found = {key: sha256_of(path) for key, path in files.items() if path.is_file()}
        if self._record(name).get("files") != found:
            self._export(name, files[name])
            self._write_record(name, {"files": {key: sha256_of(path) for key, path in files.items()}})
        return files

    def measure(self, name: str, reference: ExportReference) -> Metrics:
        """The metrics of a format; measured now unless they are recorded."""
        record = self._record(name)
        if "metrics" not in record:
            if self._trained is None:
                self._trained = TorchNetwork(self._weights, nms_free=self._settings.predict.nms_free)
            network = open_exported(name, self._files(name)[name], device=self._settings.device)
            record["metrics"] = measure_format(name, network, self._trained, reference)
            self._write_record(name, record)
        metrics: Metrics = record["metrics"]
        return metrics

    def _files(self, name: str) -> dict[str, Path]:
        path = self._folder / _FILE_OF[name]
        binary = {f"{name}_bin": path.with_suffix(".bin")} if path.suffix == ".xml" else {}
        return {name: path, **binary}

    def _export(self, name: str, path: Path) -> None:
        nms_free = self._settings.predict.nms_free

        def inputs() -> Sequence[NetInput]:
            number, skip = self._settings.export.num_calibration_images, self._settings.data.on_problem == "exclude"
            network = TorchNetwork(self._weights)
            return calibration_inputs(self._calibration, network, number=number, skip_unreadable=skip)

        export: dict[str, Callable[[], None]] = {
            "onnx": lambda: export_onnx(self._weights, path, nms_free=nms_free),
            "openvino_fp32": lambda: convert_openvino(self._onnx(), path, half=False),
            "openvino_fp16": lambda: convert_openvino(self._onnx(), path, half=True),
            "openvino_int8": lambda: quantise_openvino(self._onnx(), path, inputs()),
            "tensorrt_fp16": lambda: export_tensorrt(self._weights, path, nms_free=nms_free),
        }
        export[name]()

    def _onnx(self) -> Path:
        """The ONNX file that OpenVINO files are converted from; a temporary one if ONNX is not in the settings."""
        if "onnx" in self._settings.export.formats:
            return self.export("onnx")["onnx"]
        path = self._folder / "partial" / _FILE_OF["onnx"]
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            export_onnx(self._weights, path, nms_free=self._settings.predict.nms_free)
        return path

    def _record(self, name: str) -> dict[str, Any]:
        """The record of a format; empty if there is none for these weights."""
        record = read_if_whole(self._folder / f"made_{name}.json", shape=_Made)
        return record if record.get("weights") == self._weights_sha256 else {}

    def _write_record(self, name: str, entries: dict[str, Any]) -> None:
        text = json.dumps({"weights": self._weights_sha256} | entries, indent=1)
        atomic_write_text(self._folder / f"made_{name}.json", text)


def calibration_inputs(images: CocoBoxes, like: Network, *, number: int, skip_unreadable: bool) -> Sequence[NetInput]:
    """Network inputs of at most `number` images, evenly spaced in the table.

    Args:
        like: a network with the size and channels of the inputs.
        skip_unreadable: skip pictures that cannot be read, with a log line each; otherwise they are an error.

    Raises:
        UserError: a picture cannot be read, or none can.
    """
    count = min(number, len(images.images))
    places = [index * len(images.images) // count for index in range(count)]
    root = Path(images.info["data_root"])
    inputs: list[NetInput] = []
    for record in images.images.iloc[places].to_dict("records"):
        try:
            pixels = read_pixels(root / record["path"], region=record["region"])
        except UserError as error:
            if not skip_unreadable:
                raise
            log.warning("stage3: not used for INT8 calibration: %s", " ".join(error.problems))
            continue
        inputs.append(to_tensor_input(to_net(pixels, like.image_px)[0], like.channels))
    if not inputs:
        raise UserError("export: openvino_int8 needs readable training images for calibration, got none")
    return inputs
