"""A model repository for NVIDIA's Triton Inference Server, from the detector of a bundle.

<name>/config.pbtxt    inputs and outputs as in the ONNX file
<name>/labels.txt      the findings, in the order of the network's classes
<name>/MODEL_CARD.md   also how to prepare an image and decode the output
<name>/bundle.json     thresholds, curves and box correction
<name>/1/model.onnx
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx

from cxr.config import UserError
from cxr.runs.run_folder import atomic_write_text
from stage3_detect.serving.model.bundle import BUNDLE_JSON, Bundle
from stage3_detect.serving.model.manifest import MODEL_CARD

CONFIG = "config.pbtxt"
_VERSION = "1"
_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT64: "TYPE_INT64",
}
_ANY_LENGTH = -1


def write_triton(repository: Path, bundle: Bundle) -> Path:
    """Write the detector into a Triton model repository, next to the models that are there; returns its folder.

    The folder has the name of the model, which holds a hash of its weights: another model never replaces it.

    Raises:
        UserError: the bundle has no ONNX file, the repository already has this model, or the ONNX file has values of
            a type that Triton does not know.
    """
    engines = {engine["format"]: engine["file"] for engine in bundle.manifest["engines"]}
    if "onnx" not in engines:
        raise UserError(f"bundle {bundle.dir}: has no ONNX file; add onnx to export.formats and run stage 3 again")
    folder = repository / str(bundle.manifest["id"])
    if folder.exists():
        raise UserError(f"--triton {repository}: already has {folder.name}; remove that folder or give another one")
    partial = repository / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / _VERSION).mkdir(parents=True)
    model = partial / _VERSION / "model.onnx"
    shutil.copyfile(bundle.file(engines["onnx"]), model)
    for name in (BUNDLE_JSON, MODEL_CARD):
        shutil.copyfile(bundle.file(name), partial / name)
    atomic_write_text(partial / "labels.txt", "".join(f"{name}\n" for name in bundle.manifest["findings"]))
    atomic_write_text(partial / CONFIG, config_of(folder.name, model, sha256=bundle.sha256))
    partial.replace(folder)
    return folder


def config_of(name: str, model: Path, *, sha256: str) -> str:
    """The content of config.pbtxt, in the text format of Triton's `ModelConfig` message.

    The batch is a dimension like the others, because the file has a fixed batch of 1. Triton takes a GPU if it has one.

    Args:
        sha256: identity of the bundle.

    Raises:
        UserError: as `write_triton`.
    """
    graph = onnx.load(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in weights]
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        "max_batch_size: 0",
        _block("input", inputs),
        _block("output", [_tensor(value) for value in graph.output]),
        "instance_group [\n  { kind: KIND_AUTO count: 1 }\n]",
        f'parameters {{ key: "manifest_sha256" value {{ string_value: "{sha256}" }} }}',
    ]
    return "\n".join(lines) + "\n"


def _block(field: str, tensors: Sequence[str]) -> str:
    return f"{field} [\n  " + ",\n  ".join(tensors) + "\n]"


def _tensor(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    kind = _TYPES.get(tensor.elem_type)
    if kind is None:
        found = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise UserError(f"--triton: {value.name} of the ONNX file has type {found}, expected float or integer values")
    lengths = [dim.dim_value if dim.HasField("dim_value") else _ANY_LENGTH for dim in tensor.shape.dim]
    return f"{{ name: {json.dumps(value.name)} data_type: {kind} dims: {lengths} }}"
