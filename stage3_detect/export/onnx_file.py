"""The ONNX form: made from the weights by ultralytics' exporter, run by ONNX Runtime. Other forms are made from it."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from ultralytics import YOLO

from cxr.config import UserError
from stage3_detect.export.description import read_description
from stage3_detect.model.network import NetInput, RawOutput
from stage3_detect.training.trainer import kept_threads


class OnnxNetwork:
    """A `Network` on ONNX Runtime's CPU provider."""

    def __init__(self, path: Path, *, num_threads: int = 0) -> None:
        """Load `path`; num_threads 0 takes as many as there are cores.

        Raises:
            UserError: the file is damaged or no exported detector.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own classes, one a reason, have no other parent
            raise UserError(f"network {path}: ONNX Runtime cannot load it: {error}") from None
        self._input = self._session.get_inputs()[0].name
        facts = read_description(self._session.get_modelmeta().custom_metadata_map, path)
        self.findings, self.channels, self.image_px = facts.findings, facts.channels, facts.image_px

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) to the raw output of that picture."""
        return np.asarray(self._session.run(None, {self._input: net_input})[0][0], dtype=np.float32)


def export_onnx(weights: Path, onnx_path: Path, *, nms_free: bool) -> None:
    """Write `onnx_path`: batch 1, fixed size, raw output (box decoding inside, NMS outside), atomically.

    The same weights give the same file: the date that ultralytics notes in it is taken out.
    """
    folder_of_its_own = tempfile.TemporaryDirectory(prefix="raybox-export-")
    with folder_of_its_own as folder, kept_threads(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of torch's tracer on ultralytics' code
        copy = Path(folder) / weights.name  # ultralytics writes beside the weights
        shutil.copyfile(weights, copy)
        model: Any = YOLO(str(copy))
        made = model.export(format="onnx", device="cpu", simplify=True, nms=False if nms_free else None)
        network = onnx.load(made)
    kept = [entry for entry in network.metadata_props if entry.key != "date"]
    del network.metadata_props[:]
    network.metadata_props.extend(kept)
    partial = onnx_path.with_suffix(".partial")
    partial.write_bytes(network.SerializeToString())
    partial.replace(onnx_path)
