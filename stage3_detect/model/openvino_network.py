"""An exported OpenVINO or ONNX file on OpenVINO's CPU device."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from stage3_detect.model.metadata import read_metadata
from stage3_detect.model.network import RawOutput
from stage3_detect.model.openvino_core import openvino_core


class OpenvinoNetwork:
    """A `Network` on OpenVINO's CPU device, tuned for low latency. Not thread-safe."""

    def __init__(self, path: Path, *, num_threads: int = 0, in_16_bits: bool = False) -> None:
        """Load `path` (.xml) and the .bin file next to it.

        Args:
            num_threads: 0 uses all cores.
            in_16_bits: compute layers that are not quantised to 8 bits in float16 if the processor supports it, else
                in bfloat16 or 32 bits. Off: 32 bits (OpenVINO's own default rounds if it can).

        Raises:
            UserError: the files are damaged or not an exported detector.
        """
        precision = "f16" if in_16_bits else "f32"
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        if num_threads:
            options["INFERENCE_NUM_THREADS"] = num_threads
        core = openvino_core()
        try:
            graph = core.read_model(path)
        except RuntimeError as error:
            raise _unusable(path, error) from None
        info: Any = graph.get_rt_info()
        entries = dict(info["framework"]) if "framework" in info else {}
        meta = read_metadata({key: entry.value for key, entry in entries.items()}, path)
        self.findings, self.channels, self.image_px = meta.findings, meta.channels, meta.image_px
        try:
            compiled = core.compile_model(with_byte_input(graph), "CPU", options)
        except RuntimeError as error:
            raise _unusable(path, error) from None
        self.arithmetic = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._request = compiled.create_infer_request()

    def __call__(self, net_image: NetImage) -> RawOutput:
        """(S, S) uint8 -> raw output of that picture."""
        planes = np.broadcast_to(net_image, (1, self.channels, *net_image.shape))
        output = self._request.infer([np.ascontiguousarray(planes)], share_inputs=True, share_outputs=True)[0]
        return np.array(output[0], dtype=np.float32)  # the next call overwrites the engine's array


def with_byte_input(graph: openvino.Model) -> openvino.Model:
    """The graph with an input of 8 bits, which it divides by 255 itself."""
    steps = openvino.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    steps.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    return steps.build()


def _unusable(path: Path, error: RuntimeError) -> UserError:
    reason = str(error).strip().splitlines()[-1]
    return UserError(f"network {path}: OpenVINO cannot load it: {reason}")
