"""The OpenVINO forms: two files each, .xml (the graph) and .bin (the weights), made from the ONNX file."""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from rich.console import Console

from cxr.config import UserError
from stage3_detect.export.description import read_description
from stage3_detect.model.network import NetInput, RawOutput


class OpenvinoNetwork:
    """A `Network` on OpenVINO's CPU device, set for the shortest time of one picture. One call at a time."""

    def __init__(self, path: Path, *, num_threads: int = 0, in_16_bits: bool = False) -> None:
        """Load `path` (.xml, with its .bin beside).

        Args:
            num_threads: 0 takes as many as there are cores.
            in_16_bits: compute what is not of 8 bits in half precision where the processor has it (in bfloat16 where
                it has only that, else in 32 bits). Off: 32 bits; OpenVINO by itself would round where it can.

        Raises:
            UserError: the files are damaged or no exported detector.
        """
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f16" if in_16_bits else "f32",
        }
        if num_threads:
            options["INFERENCE_NUM_THREADS"] = num_threads
        core = openvino.Core()
        try:
            graph = core.read_model(path)
            compiled = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"network {path}: OpenVINO cannot load it: {reason}") from None
        info: Any = graph.get_rt_info()
        entries = dict(info["framework"]) if "framework" in info else {}
        facts = read_description({key: entry.value for key, entry in entries.items()}, path)
        self.findings, self.channels, self.image_px = facts.findings, facts.channels, facts.image_px
        self.arithmetic = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._request = compiled.create_infer_request()

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) to the raw output of that picture."""
        output = self._request.infer([net_input], share_inputs=True, share_outputs=True)[0]
        return np.array(output[0], dtype=np.float32)  # the engine's own array holds the next picture's soon


def convert_openvino(onnx_path: Path, xml_path: Path, *, half: bool) -> None:
    """Write the graph of an ONNX file with weights of 32 or 16 bits, `xml_path` last."""
    _save(openvino.convert_model(onnx_path), xml_path, half=half)


def quantise_openvino(onnx_path: Path, xml_path: Path, calibration: Sequence[NetInput]) -> None:
    """Write the graph with weights and activations of 8 bits, `xml_path` last.

    NNCF's post-training quantisation (Kozlov et al. 2020, Neural Network Compression Framework) takes the ranges of
    activations from `calibration`. Decoding of boxes and scores stays in floating point: eight bits over the side of a
    picture would be steps of several pixels.
    """
    with _quiet_nncf() as nncf:
        graph = openvino.convert_model(onnx_path)
        quantised = nncf.quantize(
            graph,
            nncf.Dataset(list(calibration)),
            preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations: SiLU's are
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=decoding_nodes(graph)),
        )
    _save(quantised, xml_path, half=False)


def decoding_nodes(graph: Any) -> list[str]:
    """Names of the nodes that turn the head's convolutions into boxes and scores.

    They are those of ultralytics' last module that lie in none of its convolution branches (cv2, cv3, ...), and what
    joins them to the output.
    """
    names = [
        node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() != "Constant"
    ]
    numbers = [int(found[1]) for name in names if (found := re.match(r"/model\.(\d+)/", name))]
    head = f"/model.{max(numbers)}/"
    branch = re.compile(re.escape(head) + r"(one2one_)?cv\d")
    inside = {name for name in names if name.startswith(head) and not branch.match(name)}
    joined = {node.get_friendly_name() for result in graph.get_results() for node in _inputs_of(result)}
    return sorted(inside | joined)


def _inputs_of(node: Any) -> list[Any]:
    return [value.get_source_output().get_node() for value in node.inputs()]


def _save(graph: Any, xml_path: Path, *, half: bool) -> None:
    partial = xml_path.with_name(f"{xml_path.stem}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    openvino.save_model(graph, partial / xml_path.name, compress_to_fp16=half)
    binary = xml_path.with_suffix(".bin")
    (partial / binary.name).replace(binary)
    (partial / xml_path.name).replace(xml_path)
    partial.rmdir()


@contextmanager
def _quiet_nncf() -> Iterator[Any]:
    """NNCF without its log and, outside of a terminal, without its bars."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA runtime", upon import
    import nncf  # takes seconds, and only those who quantise need it

    nncf.set_log_level(logging.ERROR)
    with nullcontext() if Console().is_terminal else redirect_stdout(StringIO()):
        yield nncf
