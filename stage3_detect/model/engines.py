"""Open an exported file with its inference engine. Each engine's library is imported only when it is needed."""

from pathlib import Path

from cxr.config import UserError
from stage3_detect.model.network import Network


def open_exported(name: str, path: Path, *, num_threads: int = 0, device: str = "cpu") -> Network:
    """Open an exported file of the format `name`.

    Args:
        name: onnx, openvino_fp32, openvino_fp16, openvino_int8 or tensorrt_fp16.
        num_threads: 0 uses all cores.
        device: a CUDA number for tensorrt_fp16; the others run on the CPU.

    Raises:
        UserError: the file is damaged, or this machine cannot run it.
    """
    if name == "onnx":
        from stage3_detect.model.onnx_network import OnnxNetwork

        return OnnxNetwork(path, num_threads=num_threads)
    if name == "tensorrt_fp16":
        from stage3_detect.model.tensorrt_network import TensorrtNetwork, why_no_tensorrt

        if (reason := why_no_tensorrt()) is not None:
            raise UserError(f"format {name}: {reason}")
        return TensorrtNetwork(path, device=device if device.isdigit() else "0")
    from stage3_detect.model.openvino_network import OpenvinoNetwork

    return OpenvinoNetwork(path, num_threads=num_threads, in_16_bits=name != "openvino_fp32")
