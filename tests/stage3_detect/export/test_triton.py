"""The model repository for Triton: its files, and its configuration against that part of Triton's schema."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from cxr.config import UserError
from stage3_detect.bundle import main, parse
from stage3_detect.export.triton import config_of, write_triton
from stage3_detect.serving.model.bundle import Bundle, open_bundle

Field = descriptor_pb2.FieldDescriptorProto
ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}
MESSAGES: dict[str, list[tuple[str, int, Any, bool]]] = {
    "ModelInput": [("name", 1, "string", False), ("data_type", 2, "DataType", False), ("dims", 4, "int64", True)],
    "ModelOutput": [("name", 1, "string", False), ("data_type", 2, "DataType", False), ("dims", 3, "int64", True)],
    "ModelInstanceGroup": [("name", 1, "string", False), ("count", 2, "int32", False), ("kind", 4, "Kind", False)],
    "ModelParameter": [("string_value", 1, "string", False)],
    "Parameters": [("key", 1, "string", False), ("value", 2, "ModelParameter", False)],
    "ModelConfig": [
        ("name", 1, "string", False),
        ("max_batch_size", 4, "int32", False),
        ("input", 5, "ModelInput", True),
        ("output", 6, "ModelOutput", True),
        ("instance_group", 7, "ModelInstanceGroup", True),
        ("parameters", 14, "Parameters", True),
        ("backend", 17, "string", False),
    ],
}
"""(name, number, type, repeated) as in model_config.proto of github.com/triton-inference-server/common; a map is a list
of keys and values."""
TYPES = {"string": Field.TYPE_STRING, "int32": Field.TYPE_INT32, "int64": Field.TYPE_INT64}


def parsed(text: str) -> Any:
    """A configuration as Triton's message; fields and values that the schema lacks are errors."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for enum, values in ENUMS.items():
        entry = file.enum_type.add(name=enum)
        for name, number in values.items():
            entry.value.add(name=name, number=number)
    for message, fields in MESSAGES.items():
        descriptor = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = descriptor.field.add(name=name, number=number)
            field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            if kind in TYPES:
                field.type = TYPES[kind]
            else:
                field.type = Field.TYPE_ENUM if kind in ENUMS else Field.TYPE_MESSAGE
                field.type_name = f".inference.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    make: type[Message] = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
    return text_format.Parse(text, make())


def save_network(path: Path, lengths: Sequence[int | str], kind: int = onnx.TensorProto.FLOAT) -> Path:
    """An ONNX file that adds a weight, which older files list as an input, too."""
    picture = onnx.helper.make_tensor_value_info("picture", kind, lengths)
    weight = onnx.helper.make_tensor("weight", kind, [1], [1])
    listed = onnx.helper.make_tensor_value_info("weight", kind, [1])
    out = onnx.helper.make_tensor_value_info('the "sum"', kind, lengths)
    node = onnx.helper.make_node("Add", ["picture", "weight"], ['the "sum"'])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [picture, listed], [out], [weight])), path)
    return path


def test_a_bundle_without_an_onnx_file_has_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no ONNX file"):
        write_triton(tmp_path / "models", Bundle(tmp_path, {"id": "x", "engines": []}, "0"))
    assert not (tmp_path / "models").exists()


def test_the_command_writes_the_detector_of_the_bundle(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(parse([str(bundle.parents[1]), "--triton", str(tmp_path / "models")]))
    opened = open_bundle(bundle)
    (folder,) = (tmp_path / "models").iterdir()
    assert capsys.readouterr().out == f"{folder}\n"
    assert folder.name == opened.manifest["id"]
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["1/model.onnx", "MODEL_CARD.md", "bundle.json", "config.pbtxt", "labels.txt"]
    assert (folder / "1" / "model.onnx").read_bytes() == (bundle / "detector.onnx").read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == opened.manifest["findings"]
    assert json.loads((folder / "bundle.json").read_text()) == opened.manifest


def test_the_configuration_says_what_the_file_takes_and_gives(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    config = parsed((write_triton(tmp_path, opened) / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == (opened.manifest["id"], "onnxruntime", 0)
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [("images", 11, [1, 1, 96, 96])]
    # 96 px: 12 x 12 + 6 x 6 + 3 x 3 anchors, four sides and two findings
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [("output0", 11, [1, 6, 189])]
    assert [(group.kind, group.count) for group in config.instance_group] == [(0, 1)]
    assert [(one.key, one.value.string_value) for one in config.parameters] == [("manifest_sha256", opened.sha256)]


def test_a_dimension_without_a_fixed_length_is_any_length(tmp_path: Path) -> None:
    config = parsed(config_of("m", save_network(tmp_path / "a.onnx", ["batch", 3, 64, 48]), sha256="ab"))
    assert [(one.name, list(one.dims)) for one in config.input] == [("picture", [-1, 3, 64, 48])]
    assert [(one.name, list(one.dims)) for one in config.output] == [('the "sum"', [-1, 3, 64, 48])]
    half = parsed(config_of("m", save_network(tmp_path / "b.onnx", [1, 2], onnx.TensorProto.FLOAT16), sha256="ab"))
    assert half.input[0].data_type == ENUMS["DataType"]["TYPE_FP16"]


def test_a_type_that_the_configuration_cannot_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="picture of the ONNX file has type DOUBLE"):
        config_of("m", save_network(tmp_path / "a.onnx", [1, 2], onnx.TensorProto.DOUBLE), sha256="ab")


def test_a_model_that_is_there_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    folder = write_triton(tmp_path, open_bundle(bundle))
    (folder / "config.pbtxt").write_text("# by hand\n")
    with pytest.raises(UserError, match=f"already has {folder.name}"):
        write_triton(tmp_path, open_bundle(bundle))
    assert (folder / "config.pbtxt").read_text() == "# by hand\n"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_schema_of_these_tests_refuses_unknown_fields_and_values() -> None:
    for wrong in ("nam: 'm'", "instance_group { kind: KIND_TPU }", "input { dims: 1.5 }", "max_batch_size: 'no'"):
        with pytest.raises(text_format.ParseError):
            parsed(wrong)
    with pytest.raises(SystemExit):
        parse(["run", "--triton", "models", "--out", "bundle"])
