"""The trained network as files for deployment, each measured beside it; and any of them opened again."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.imaging.files import read_pixels
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun, atomic_write_text
from stage3_detect.export.onnx_file import OnnxNetwork, export_onnx
from stage3_detect.export.openvino_file import OpenvinoNetwork, convert_openvino, quantise_openvino
from stage3_detect.export.quality import Metrics, Yardstick, measure_form, warning_of
from stage3_detect.export.tensorrt_file import TensorrtNetwork, export_tensorrt, why_no_tensorrt
from stage3_detect.model.network import NetInput, Network, TorchNetwork
from stage3_detect.model.preprocess import to_net, to_tensor_input
from stage3_detect.settings.detector import DetectSettings

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
    """What was made.

    files: name -> file, ready to be outputs of the run: a form's file under the form's name, and for OpenVINO, whose
        forms are two files, the weights as `<form>_bin`.
    metrics: flat figures. notes: form -> why it was not made. warnings: form -> what speaks against deploying it.
    """

    files: dict[str, Path] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


def export_forms(
    folder: Path,
    weights: Path,
    settings: DetectSettings,
    *,
    measured_on: Yardstick,
    calibration: CocoBoxes,
) -> Exports:
    """Make every form that the settings name, and measure it; what an interrupted call has done is kept.

    Args:
        measured_on: the test images and what the trained network finds there.
        calibration: training images; an even sample of them shows INT8 the ranges of activations.

    Raises:
        RuntimeError: a form of 32 bits differs from the trained network by more than 1 px or 1e-3: a bug.
        UserError: a picture is missing or unreadable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maker = _Maker(folder, weights, settings, calibration)
    exports = Exports()
    for form in settings.export.forms:
        reason = why_no_tensorrt() if form == "tensorrt_fp16" else None
        if reason is not None:
            exports.notes[form] = reason
            log.warning("stage3: %s is not made: %s", form, reason)
            continue
        log.info("stage3: %s", form)
        exports.files |= maker.made(form)
        exports.metrics |= maker.measured(form, measured_on)
        if (line := warning_of(form, exports.metrics)) is not None:
            exports.warnings[form] = line
            log.warning("stage3: %s", line)
    maker.clean()
    return exports


def open_network(
    run: FinishedRun, form: str = PYTORCH, *, num_threads: int = 0, device: str = "cpu"
) -> Network:
    """A finished run's network: the trained weights (`pytorch`) or any form that the run exported.

    Args:
        num_threads: 0 takes as many as there are cores; PyTorch's are the process's and stay as they are.
        device: of pytorch (cpu, mps, a CUDA number) and tensorrt_fp16 (a CUDA number); the others run on the processor.

    Raises:
        UserError: the run has no such form, the file is gone or damaged, or this machine cannot run it.
    """
    there = [PYTORCH, *(name for name in _FILE_OF if name in run.manifest["outputs"])]
    if form not in there:
        raise UserError(f"form {form!r}: run {run.dir} has {', '.join(there)}; give one of them")
    if form == PYTORCH:
        nms_free = bool(run.settings["predict"]["nms_free"])
        return TorchNetwork(run.output("weights"), device=device, nms_free=nms_free)
    if form.startswith("openvino"):
        run.output(f"{form}_bin")
    return open_form(form, run.output(form), num_threads=num_threads, device=device)


def open_form(form: str, path: Path, *, num_threads: int = 0, device: str = "cpu") -> Network:
    """An exported file as a network; arguments and errors as of `open_network`."""
    if form == "onnx":
        return OnnxNetwork(path, num_threads=num_threads)
    if form == "tensorrt_fp16":
        if (reason := why_no_tensorrt()) is not None:
            raise UserError(f"form {form}: {reason}")
        return TensorrtNetwork(path, device=device if device.isdigit() else "0")
    return OpenvinoNetwork(path, num_threads=num_threads, in_16_bits=form != "openvino_fp32")


class _Maker:
    """Makes and measures forms in one folder. `made_<form>.json` notes what is done, and of which weights."""

    def __init__(self, folder: Path, weights: Path, settings: DetectSettings, calibration: CocoBoxes) -> None:
        self._folder, self._weights, self._settings = folder, weights, settings
        self._calibration = calibration
        self._weights_sha256 = sha256_of(weights)
        self._aside = folder / "partial"
        self._reference: Network | None = None

    def made(self, form: str) -> dict[str, Path]:
        """The form's files, made now or found whole."""
        files = self._files(form)
        if not self._is_made(form):
            self._make(form, files[form])
            self._note(form, {"files": {name: sha256_of(path) for name, path in files.items()}})
        return files

    def measured(self, form: str, test: Yardstick) -> Metrics:
        """The form's figures, measured now or found."""
        note = self._noted(form)
        if "metrics" not in note:
            if self._reference is None:
                nms_free = self._settings.predict.nms_free
                self._reference = TorchNetwork(self._weights, nms_free=nms_free)
            network = open_form(form, self._files(form)[form], device=self._settings.device)
            note["metrics"] = measure_form(form, network, self._reference, test)
            self._note(form, note)
        metrics: Metrics = note["metrics"]
        return metrics

    def clean(self) -> None:
        """Remove what only other forms were made from."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def _files(self, form: str) -> dict[str, Path]:
        path = self._folder / _FILE_OF[form]
        binary = {f"{form}_bin": path.with_suffix(".bin")} if path.suffix == ".xml" else {}
        return {form: path, **binary}

    def _make(self, form: str, path: Path) -> None:
        nms_free = self._settings.predict.nms_free
        make: dict[str, Callable[[], None]] = {
            "onnx": lambda: export_onnx(self._weights, path, nms_free=nms_free),
            "openvino_fp32": lambda: convert_openvino(self._onnx(), path, half=False),
            "openvino_fp16": lambda: convert_openvino(self._onnx(), path, half=True),
            "openvino_int8": lambda: quantise_openvino(self._onnx(), path, self._calibration_inputs()),
            "tensorrt_fp16": lambda: export_tensorrt(self._weights, path, nms_free=nms_free),
        }
        make[form]()

    def _onnx(self) -> Path:
        """The ONNX file that other forms are made from; aside, where nobody asked for it."""
        if "onnx" in self._settings.export.forms:
            return self.made("onnx")["onnx"]
        path = self._aside / _FILE_OF["onnx"]
        if not path.is_file():
            self._aside.mkdir(exist_ok=True)
            export_onnx(self._weights, path, nms_free=self._settings.predict.nms_free)
        return path

    def _calibration_inputs(self) -> Sequence[NetInput]:
        like = TorchNetwork(self._weights)
        return calibration_inputs(
            self._calibration,
            like,
            number=self._settings.export.num_calibration_images,
            leave_out=self._settings.data.on_problem == "exclude",
        )

    def _is_made(self, form: str) -> bool:
        wanted = self._noted(form).get("files")
        found = {name: sha256_of(path) for name, path in self._files(form).items() if path.is_file()}
        return wanted is not None and wanted == found

    def _noted(self, form: str) -> dict[str, Any]:
        """What is noted of the form, if it is of the same weights."""
        path = self._folder / f"made_{form}.json"
        try:
            note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if note.get("weights") == self._weights_sha256 else {}

    def _note(self, form: str, facts: dict[str, Any]) -> None:
        text = json.dumps({"weights": self._weights_sha256} | facts, indent=1)
        atomic_write_text(self._folder / f"made_{form}.json", text)


def calibration_inputs(
    images: CocoBoxes, like: Network, *, number: int, leave_out: bool
) -> Sequence[NetInput]:
    """Network inputs of at most `number` images, spread evenly over the table.

    Args:
        leave_out: take the others where a picture cannot be read, with a line in the log; else that is an error.

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
            if not leave_out:
                raise
            log.warning("stage3: left out of INT8's calibration: %s", " ".join(error.problems))
            continue
        inputs.append(to_tensor_input(to_net(pixels, like.image_px)[0], like.channels))
    if not inputs:
        raise UserError("export: openvino_int8 needs training images that can be read, got none")
    return inputs
