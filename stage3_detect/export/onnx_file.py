"""The ONNX format: exported by ultralytics, run by ONNX Runtime. The OpenVINO files are converted from it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from cxr.config import UserError
from stage3_detect.export.exporter import exported, read_metadata
from stage3_detect.model.network import NetInput, RawOutput


class OnnxNetwork:
    """A `Network` on ONNX Runtime's CPU provider."""

    def __init__(self, path: Path, *, num_threads: int = 0) -> None:
        """Load `path`; num_threads 0 uses all cores.

        Raises:
            UserError: the file is damaged or not an exported detector.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base class
            raise UserError(f"network {path}: ONNX Runtime cannot load it: {error}") from None
        self._input = self._session.get_inputs()[0].name
        meta = read_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        self.findings, self.channels, self.image_px = meta.findings, meta.channels, meta.image_px

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) -> raw output of that picture."""
        return np.asarray(self._session.run(None, {self._input: net_input})[0][0], dtype=np.float32)


def export_onnx(weights: Path, onnx_path: Path, *, nms_free: bool) -> None:
    """Write `onnx_path` atomically: batch 1, fixed size, raw output (boxes are decoded, without NMS).

    The same weights give the same file: the date that ultralytics adds is removed.
    """
    with exported(weights, nms_free=nms_free, format="onnx", device="cpu", simplify=True) as made:
        network = onnx.load(made)
    kept = [entry for entry in network.metadata_props if entry.key != "date"]
    del network.metadata_props[:]
    network.metadata_props.extend(kept)
    partial = onnx_path.with_suffix(".partial")
    partial.write_bytes(network.SerializeToString())
    partial.replace(onnx_path)
