"""What goes into a bundle, and that it is written as a whole."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.config import UserError
from cxr.imaging.files import write_png8
from cxr.runs.run_folder import open_run
from stage3_detect.bundle import main, parse
from stage3_detect.export.bundle import BundleSource, usable_engines, write_bundle
from stage3_detect.image_quality.fit import MIN_IMAGES
from stage3_detect.serving.interface import DecodedImage
from stage3_detect.serving.model.bundle import open_bundle
from stage3_detect.serving.model.bundle_model import open_model
from tests.stage3_detect.image_quality.gate_builders import chest
from tests.stage3_detect.serving.chain_builders import make_bundle

FORMATS = ("onnx", "openvino_fp32", "openvino_fp16", "openvino_int8", "tensorrt_fp16")


def source(milliseconds: dict[str, float], warnings: tuple[str, ...] = ()) -> BundleSource:
    """A run with the formats in `milliseconds`; those in `warnings` failed their checks."""
    manifest: dict[str, Any] = {"export_warnings": dict.fromkeys(warnings, "loses too much")}
    metrics = {f"ms_per_image/detector_{name}": value for name, value in milliseconds.items()}
    files = {name: Path(f"{name}.file") for name in milliseconds}
    return BundleSource(manifest, {}, metrics, files, "phantom", None)


def formats(one: BundleSource) -> list[str]:
    return [engine["format"] for engine in usable_engines(one)]


def test_a_run_without_a_format_for_a_cpu_has_no_bundle() -> None:
    for nothing in (source({}), source({"tensorrt_fp16": 1.0}), source({"onnx": 1.0}, ("onnx",))):
        with pytest.raises(UserError, match=r"export\.formats"):
            usable_engines(nothing)


def test_the_fastest_format_comes_first_and_onnx_stays() -> None:
    speeds = dict(zip(FORMATS, (9.0, 7.0, 4.0, 3.0, 1.0), strict=True))
    assert formats(source(speeds)) == ["tensorrt_fp16", "openvino_int8", "onnx"]
    assert formats(source(speeds, ("openvino_int8",))) == ["tensorrt_fp16", "openvino_fp16", "onnx"]
    assert formats(source({"onnx": 1.0, "openvino_fp16": 2.0})) == ["onnx"]


def test_the_bundle_holds_what_prediction_needs(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    run = open_run(bundle.parents[1])
    for key in ("findings", "operating_points", "score_curves", "synthetic"):
        assert manifest[key] == run.manifest[key]
    assert [engine["file"] for engine in manifest["engines"]] == ["detector_fp32.xml", "detector.onnx"]
    assert manifest["parents"] == {
        "Nodule/Mass": [], "Pleural Effusion": [], "Lung Opacity": [], "Lung Lesion": ["Lung Opacity"],
    }  # fmt: skip
    assert manifest["weights_sha256"] == run.manifest["outputs"]["weights"]["sha256"]


def test_the_command_writes_the_same_bundle_again(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main(parse([str(bundle.parents[1]), "--out", str(tmp_path / "again")]))
    assert (tmp_path / "again" / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()
    assert "openvino_fp32, onnx; with heat maps" in capsys.readouterr().out
    main(parse([str(bundle.parents[1]), "--out", str(tmp_path / "again")]))  # replaces an older bundle


def test_a_kill_leaves_the_old_bundle_or_the_new_one(bundle: Path, tmp_path: Path) -> None:
    """At each step that removes or renames something."""
    source = BundleSource.of_run(open_run(bundle.parents[1]))
    source = replace(source, stage1=None)
    folder = tmp_path / "bundle"
    write_bundle(folder, source)
    old = open_bundle(folder)

    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.unlink", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            write_bundle(folder, source)
    assert open_bundle(folder) == old
    write_bundle(folder, source)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_with_other_files_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="not a bundle"):
        write_bundle(tmp_path, BundleSource.of_run(open_run(bundle.parents[1])))
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_a_chain_without_its_classifier_gives_a_bundle_without_maps(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = BundleSource.of_run(open_run(bundle.parents[1]))
    alone = BundleSource(whole.manifest, whole.settings, whole.metrics, whole.files, "phantom", None)
    written = json.loads(write_bundle(tmp_path / "bundle", alone).read_text())
    assert written["classifier"] is None
    assert "classifier.onnx" not in written["files"]
    assert written["id"] == f"phantom-yolo26n-{written['weights_sha256'][:8]}"


def test_a_run_without_curves_and_points_can_be_served(tmp_path: Path) -> None:
    """Its tune split had no true boxes."""
    model = open_model(make_bundle(tmp_path, score_curves={}, operating_points={}))
    assert model.facts.default_point == "0.25"
    pixels = np.tile(np.arange(90, dtype=np.uint8), (70, 1))
    boxes = model.detect(DecodedImage("a.png", b"", pixels))
    assert boxes
    assert {box.confidence for box in boxes} == {None}


def test_a_gate_is_fitted_to_the_images_of_a_hospital(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for seed in range(MIN_IMAGES):
        write_png8(tmp_path / "images" / f"{seed}.png", chest(seed) / 255)
    out = tmp_path / "bundle"
    main(parse([str(bundle.parents[1]), "--out", str(out), "--gate-images", str(tmp_path / "images")]))
    assert open_bundle(out).manifest["quality_gate"] == {"file": "quality_gate.npz"}
    model = open_model(out, num_threads=1)
    assert [model.quality(DecodedImage("", b"", image)).codes for image in (chest(70), 255 - chest(70))] == [
        (), ("inverted",),
    ]  # fmt: skip
    with pytest.raises(UserError, match="--gate-examples"):
        main(parse([str(bundle.parents[1]), "--out", str(out), "--gate-examples", "lateral=x"]))
