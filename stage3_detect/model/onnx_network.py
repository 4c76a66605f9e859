"""An exported ONNX file on ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime

from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from stage3_detect.model.metadata import read_metadata
from stage3_detect.model.network import RawOutput, to_tensor_input


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

    def __call__(self, net_image: NetImage) -> RawOutput:
        """(S, S) uint8 -> raw output of that picture."""
        net_input = to_tensor_input(net_image, self.channels)
        return np.asarray(self._session.run(None, {self._input: net_input})[0][0], dtype=np.float32)
