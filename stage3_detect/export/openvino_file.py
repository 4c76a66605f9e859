"""The OpenVINO formats, converted from the ONNX file: each an .xml (graph) and a .bin (weights) file."""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import openvino
from rich.console import Console

from stage3_detect.model.network import NetInput


def convert_openvino(onnx_path: Path, xml_path: Path, *, half: bool) -> None:
    """Convert an ONNX file to OpenVINO with 32-bit or 16-bit weights; `xml_path` is written last."""
    _save(openvino.convert_model(onnx_path), xml_path, half=half)


def quantise_openvino(onnx_path: Path, xml_path: Path, calibration: Sequence[NetInput]) -> None:
    """Convert an ONNX file to OpenVINO with 8-bit weights and activations; `xml_path` is written last.

    NNCF's post-training quantisation (Kozlov et al. 2020, Neural Network Compression Framework) measures activation
    ranges on `calibration`. Boxes and scores are decoded in floating point: with eight bits, coordinates would have
    steps of several pixels.
    """
    with _quiet_nncf() as nncf:
        graph = openvino.convert_model(onnx_path)
        quantised = nncf.quantize(
            graph,
            nncf.Dataset(list(calibration)),
            preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations, as SiLU's are
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=decoding_nodes(graph)),
        )
    _save(quantised, xml_path, half=False)


def decoding_nodes(graph: Any) -> list[str]:
    """Names of the nodes that decode the head's convolutions into boxes and scores.

    These are the nodes of ultralytics' last module outside its convolution branches (cv2, cv3, ...), and the nodes
    that connect them to the output.
    """
    names = [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() != "Constant"]
    numbers = [int(found[1]) for name in names if (found := re.match(r"/model\.(\d+)/", name))]
    head = f"/model.{max(numbers)}/"
    branch = re.compile(re.escape(head) + r"(one2one_)?cv\d")
    inside = {name for name in names if name.startswith(head) and not branch.match(name)}
    sources = [value.get_source_output().get_node() for result in graph.get_results() for value in result.inputs()]
    return sorted(inside | {node.get_friendly_name() for node in sources})


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
    """Import NNCF without its log and, if output is no terminal, without its progress bars."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it reports "no CUDA runtime" on import
    import nncf  # takes seconds, and only quantisation needs it

    nncf.set_log_level(logging.ERROR)
    with nullcontext() if Console().is_terminal else redirect_stdout(StringIO()):
        yield nncf
