"""Every export format compared with the trained network, without a GPU; and opened again from its run."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.imaging.files import read_image
from cxr.runs.run_folder import FinishedRun, open_run, start_run
from stage3_detect.export.exporter import export_onnx
from stage3_detect.export.formats import Exports, calibration_inputs, export_formats, open_network
from stage3_detect.export.openvino_file import convert_openvino, decoding_nodes
from stage3_detect.export.quality import ExportReference, compare_networks, measure_format, warning_of
from stage3_detect.model.engines import open_exported
from stage3_detect.model.predict import predict_images
from stage3_detect.model.tensorrt_network import why_no_tensorrt
from stage3_detect.model.torch_network import TorchNetwork
from stage3_detect.settings.detector import Stage3Settings
from tests.paths import ROOT
from tests.stage3_detect.model.detector_builders import IMAGE_PX, settings_of, untrained_weights
from tests.stage3_detect.stage3_builders import FINDINGS, make_coco

FORMATS = ("onnx", "openvino_fp32", "openvino_fp16", "openvino_int8")
no_tensorrt = pytest.mark.skipif(why_no_tensorrt() is None, reason="this machine can make TensorRT engines")
with_tensorrt = pytest.mark.skipif(why_no_tensorrt() is not None, reason=f"TensorRT: {why_no_tensorrt()}")


@dataclass(frozen=True)
class Case:
    """A folder of exports with all that went into it."""

    folder: Path
    weights: Path
    settings: Stage3Settings
    test: CocoBoxes
    train: CocoBoxes
    detections: CocoBoxes
    exports: Exports


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("formats")
    weights = untrained_weights(root / "run" / "weights" / "best.pt")
    settings = settings_of(formats=FORMATS, num_check_images=3, num_calibration_images=5)
    test = make_coco(root / "data", "test", num_images=6, seed=2)
    train = make_coco(root / "data", "train", num_images=9, seed=1)
    detections, _ = predict_images(test, TorchNetwork(weights), settings.predict)
    folder = root / "run" / "exports"
    on = ExportReference(test, detections, settings)
    exports = export_formats(folder, weights, settings, reference=on, calibration=train)
    return Case(folder, weights, settings, test, train, detections, exports)


def again(case: Case) -> Exports:
    return export_formats(
        case.folder, case.weights, case.settings, reference=reference_of(case), calibration=case.train
    )


def reference_of(case: Case, settings: Stage3Settings | None = None) -> ExportReference:
    return ExportReference(case.test, case.detections, settings or case.settings)


def test_no_format_makes_no_file(tmp_path: Path, case: Case):
    settings = settings_of(formats=())
    exports = export_formats(
        tmp_path / "out", case.weights, settings, reference=reference_of(case, settings), calibration=case.train
    )
    assert exports == Exports()
    assert not list((tmp_path / "out").iterdir())


def test_files_are_those_that_were_asked_for(case: Case):
    named = {name: path.name for name, path in case.exports.files.items()}
    assert named == {
        "onnx": "detector.onnx",
        "openvino_fp32": "detector_fp32.xml",
        "openvino_fp32_bin": "detector_fp32.bin",
        "openvino_fp16": "detector_fp16.xml",
        "openvino_fp16_bin": "detector_fp16.bin",
        "openvino_int8": "detector_int8.xml",
        "openvino_int8_bin": "detector_int8.bin",
    }
    there = {path.name for path in case.folder.iterdir()}
    assert there == {*named.values(), *(f"made_{fmt}.json" for fmt in FORMATS)}
    sizes = {name: path.stat().st_size for name, path in case.exports.files.items()}
    assert sizes["openvino_fp16_bin"] < 0.6 * sizes["openvino_fp32_bin"]
    assert sizes["openvino_int8_bin"] < 0.6 * sizes["openvino_fp16_bin"]


def test_no_file_holds_a_path_of_this_machine(case: Case):
    roots = {str(ROOT).encode(), b"/tmp/", str(Path.home()).encode() + b"/"}
    for path in case.exports.files.values():
        assert not [root for root in roots if root in path.read_bytes()], path.name


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_format_knows_its_findings_channels_and_size(case: Case, fmt: str):
    network = open_exported(fmt, case.exports.files[fmt], num_threads=1)
    assert (network.findings, network.channels, network.image_px) == (FINDINGS, 1, IMAGE_PX)


@pytest.mark.parametrize("fmt", ["onnx", "openvino_fp32"])
def test_exact_formats_agree(case: Case, fmt: str):
    metrics = case.exports.metrics
    assert 0 < metrics[f"export/{fmt}/box_difference_px"] < 1
    assert 0 < metrics[f"export/{fmt}/score_difference"] < 1e-3
    assert f"export/{fmt}/ap40_loss" not in metrics


@pytest.mark.parametrize("fmt", ["openvino_fp16", "openvino_int8"])
def test_reduced_formats_state_their_loss(case: Case, fmt: str):
    metrics = case.exports.metrics
    loss, low, high = (metrics[f"export/{fmt}/ap40_loss{end}"] for end in ("", "/low", "/high"))
    assert low <= loss <= high
    assert metrics[f"export/{fmt}/ap40/low"] <= metrics[f"export/{fmt}/ap40/high"]
    assert metrics[f"export/{fmt}/score_difference"] > metrics["export/onnx/score_difference"]


def test_eight_bits_are_near_the_trained_network_and_not_the_same(case: Case):
    """Wrong ranges, or boxes decoded in eight bits, would be far off: scores here span 0.17."""
    reference, picture = (TorchNetwork(case.weights), [read_image(case.folder.parents[1] / "data/test/test_000.png")])
    network = open_exported("openvino_int8", case.exports.files["openvino_int8"], num_threads=1)
    agreement = compare_networks(picture, reference, network, min_score=0.001)
    assert 1e-3 < agreement.score < 0.1
    assert 0.01 < agreement.box_px < 10


@pytest.mark.parametrize("fmt", FORMATS)
def test_times_are_there(case: Case, fmt: str):
    name = f"ms_per_image/detector_{fmt}"
    assert 0 < case.exports.metrics[name] <= case.exports.metrics[f"{name}/p99"]


def test_boxes_are_decoded_in_floating_point(case: Case):
    graph = openvino.Core().read_model(case.exports.files["openvino_int8"])
    rounding = [node for node in graph.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    assert len(rounding) > 50
    decoding = set(decoding_nodes(openvino.convert_model(case.exports.files["onnx"])))
    assert any("Sigmoid" in name for name in decoding)
    fed = {
        target.get_node().get_friendly_name()
        for node in rounding
        for output in node.outputs()
        for target in output.get_target_inputs()
    }
    assert not fed & decoding


def test_convolutions_of_the_head_are_not_decoding(case: Case):
    graph = openvino.convert_model(case.exports.files["onnx"])
    kinds = {node.get_friendly_name(): node.get_type_name() for node in graph.get_ordered_ops()}
    names = decoding_nodes(graph)
    assert not [name for name in names if "Convolution" in kinds[name]]
    assert not [name for name in names if re.search(r"/cv\d", name)]


def test_a_networks_output_stays_as_it_was_when_it_is_used_again(case: Case):
    network = open_exported("openvino_fp32", case.exports.files["openvino_fp32"], num_threads=1)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, IMAGE_PX, IMAGE_PX), dtype=np.uint8)
    before = network(first)
    kept = before.copy()
    assert np.abs(network(second) - kept).max() > 0.01
    np.testing.assert_array_equal(before, kept)


def test_a_second_call_makes_nothing_anew(case: Case):
    before = {path.name: path.stat().st_mtime_ns for path in case.folder.iterdir()}
    exports = again(case)
    assert exports == case.exports
    assert {path.name: path.stat().st_mtime_ns for path in case.folder.iterdir()} == before


def test_an_interrupted_export_goes_on(case: Case):
    """A torn file, a format whose figures are missing, a note that is half written, and what a kill leaves behind."""
    onnx, note = case.exports.files["onnx"], case.folder / "made_openvino_fp16.json"
    whole, kept = onnx.read_bytes(), case.exports.files["openvino_int8"].stat().st_mtime_ns
    onnx.write_bytes(whole[:1000])
    (case.folder / "made_openvino_fp32.json").write_text('{"wei')
    note.write_text(json.dumps({k: v for k, v in json.loads(note.read_text()).items() if k != "metrics"}))
    (case.folder / "detector_fp32.partial").mkdir()
    (case.folder / "detector_fp32.partial" / "detector_fp32.xml").write_text("half")
    exports = again(case)
    assert exports.files == case.exports.files
    assert exports.metrics.keys() == case.exports.metrics.keys()
    assert onnx.read_bytes() == whole  # the same weights give the same file
    assert case.exports.files["openvino_int8"].stat().st_mtime_ns == kept
    assert not (case.folder / "detector_fp32.partial").exists()


def test_a_format_that_differs_from_the_trained_network_stops_the_run(tmp_path: Path, case: Case):
    other = untrained_weights(tmp_path / "other.pt")
    checkpoint = torch.load(other, weights_only=False)
    checkpoint["model"].model[-1].one2one_cv3[0][-1].bias.data += 0.5
    checkpoint["model"].model[-1].cv3[0][-1].bias.data += 0.5
    torch.save(checkpoint, other)
    network = open_exported("onnx", case.exports.files["onnx"], num_threads=1)
    with pytest.raises(RuntimeError, match="the onnx file differs"):
        measure_format("onnx", network, TorchNetwork(other), reference_of(case))


@pytest.mark.parametrize(("model", "nms_free", "channels"), [("yolo26n.yaml", True, 1), ("yolo11n.yaml", False, 3)])
def test_other_heads_and_colours_agree(tmp_path: Path, model: str, nms_free: bool, channels: int):
    weights = untrained_weights(tmp_path / "best.pt", model=model, channels=channels)
    export_onnx(weights, tmp_path / "d.onnx", nms_free=nms_free)
    convert_openvino(tmp_path / "d.onnx", tmp_path / "d.xml", half=False)
    reference = TorchNetwork(weights, nms_free=nms_free)
    pictures = [read_image(tmp_path / path) for path in make_coco(tmp_path, "t", num_images=2, seed=0).images["path"]]
    for fmt, name in (("onnx", "d.onnx"), ("openvino_fp32", "d.xml")):
        network = open_exported(fmt, tmp_path / name, num_threads=1)
        assert network.channels == channels
        assert compare_networks(pictures, reference, network, min_score=0.001).holds


def test_openvino_alone_leaves_no_onnx_behind(tmp_path: Path, case: Case):
    settings = settings_of(formats=("openvino_fp32",), num_check_images=1)
    empty = replace(case.test, images=case.test.images.head(0), boxes=case.test.boxes.head(0))
    none = replace(case.detections, images=empty.images, boxes=case.detections.boxes.head(0))
    exports = export_formats(
        tmp_path, case.weights, settings, reference=ExportReference(empty, none, settings), calibration=case.train
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "detector_fp32.xml",
        "detector_fp32.bin",
        "made_openvino_fp32.json",
    }
    assert exports.metrics["ms_per_image/detector_openvino_fp32"] is None  # no test image, no time


@no_tensorrt
def test_tensorrt_is_noted_where_it_cannot_be_made(tmp_path: Path, case: Case, caplog: pytest.LogCaptureFixture):
    settings = settings_of(formats=("tensorrt_fp16",))
    given = {"reference": reference_of(case, settings), "calibration": case.train}
    with caplog.at_level("WARNING", "raybox"):
        exports = export_formats(tmp_path, case.weights, settings, **given)
    assert exports.files == {} and exports.metrics == {}
    reason = exports.notes["tensorrt_fp16"]
    assert "NVIDIA GPU" in reason or "tensorrt package" in reason
    assert caplog.messages == [f"stage3: tensorrt_fp16 is not exported: {reason}"]


@with_tensorrt
def test_tensorrt_is_near_the_trained_network(tmp_path: Path, case: Case):
    settings = settings_of(formats=("tensorrt_fp16",), num_check_images=3)
    given = {"reference": reference_of(case, settings), "calibration": case.train}
    exports = export_formats(tmp_path, case.weights, settings, **given)
    assert exports.metrics["export/tensorrt_fp16/score_difference"] < 0.05


def test_calibration_pictures_are_spread_over_the_table(tmp_path: Path):
    images = make_coco(tmp_path, "train", num_images=9, seed=1)
    like = TorchNetwork(untrained_weights(tmp_path / "best.pt"))
    few = calibration_inputs(images, like, number=3, skip_unreadable=False)
    every = calibration_inputs(images, like, number=100, skip_unreadable=False)
    assert len(few) == 3 and len(every) == 9
    for index, wanted in enumerate((0, 3, 6)):
        np.testing.assert_array_equal(few[index], every[wanted])


def test_unreadable_calibration_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    images = make_coco(tmp_path, "train", num_images=3, seed=1)
    like = TorchNetwork(untrained_weights(tmp_path / "best.pt"))
    (tmp_path / images.images["path"][1]).unlink()
    with pytest.raises(UserError, match="train_001"):
        calibration_inputs(images, like, number=3, skip_unreadable=False)
    with caplog.at_level("WARNING", "raybox"):
        assert len(calibration_inputs(images, like, number=3, skip_unreadable=True)) == 2
    assert "train_001" in caplog.text
    for path in images.images["path"][[0, 2]]:
        (tmp_path / path).unlink()
    with pytest.raises(UserError, match="calibration, got none"):
        calibration_inputs(images, like, number=3, skip_unreadable=True)


@pytest.mark.parametrize(
    ("loss", "low", "warns"), [(0.05, 0.01, True), (0.05, -0.01, False), (0.015, 0.01, False), (None, None, False)]
)
def test_a_clear_and_large_loss_is_a_warning(loss: float | None, low: float | None, warns: bool):
    name = "export/openvino_int8/ap40_loss"
    line = warning_of("openvino_int8", {name: loss, f"{name}/low": low, f"{name}/high": 0.09})
    assert (line is not None) == warns
    if warns:
        assert line.startswith("openvino_int8 loses 0.050 of AP40")


@pytest.mark.parametrize(("name", "calibrates"), [("openvino_int8", True), ("openvino_fp16", False)])
def test_the_warning_does_not_advise_the_format_itself(name: str, calibrates: bool):
    figures: dict[str, float | None] = {f"export/{name}/ap40_loss{end}": 0.05 for end in ("", "/low", "/high")}
    _, advice = (warning_of(name, figures) or "").split("; ")
    assert name not in advice and ("num_calibration_images" in advice) == calibrates


@pytest.fixture(scope="module")
def run(case: Case) -> FinishedRun:
    folder = case.folder.parent
    (folder / "weights").rename(folder.parent / "aside")
    (folder / "exports").rename(folder.parent / "aside_too")
    run = start_run(folder, stage="stage3", settings=case.settings, inputs={})
    (folder.parent / "aside").rename(folder / "weights")
    (folder.parent / "aside_too").rename(folder / "exports")
    run.finish({}, {"weights": case.weights, **case.exports.files}, findings=list(FINDINGS))
    return open_run(folder, stage="stage3")


@pytest.mark.parametrize("fmt", ["pytorch", *FORMATS])
def test_every_format_is_opened_from_its_run(run: FinishedRun, case: Case, fmt: str):
    network = open_network(run, fmt, num_threads=1)
    found, _ = predict_images(case.test, network, case.settings.predict)
    best = found.boxes.groupby("image_id")["score"].max()
    wanted = case.detections.boxes.groupby("image_id")["score"].max()
    np.testing.assert_allclose(best, wanted, atol=1e-3 if fmt in ("pytorch", "onnx", "openvino_fp32") else 0.1)


def test_a_format_that_the_run_lacks_is_the_users_mistake(run: FinishedRun):
    with pytest.raises(UserError, match=rf"format 'coreml'.*has pytorch, {', '.join(FORMATS)}"):
        open_network(run, "coreml")


def test_gone_and_damaged_files_are_named(run: FinishedRun, tmp_path: Path):
    binary = run.output("openvino_fp16_bin")
    binary.rename(tmp_path / "kept.bin")
    with pytest.raises(UserError, match=r"detector_fp16\.bin no longer exists"):
        open_network(run, "openvino_fp16")
    (tmp_path / "kept.bin").rename(binary)
    for fmt, name in (("onnx", "d.onnx"), ("openvino_fp32", "d.xml")):
        (tmp_path / name).write_text("nothing of the kind")
        with pytest.raises(UserError, match=f"{name}: .* cannot load it"):
            open_exported(fmt, tmp_path / name)
