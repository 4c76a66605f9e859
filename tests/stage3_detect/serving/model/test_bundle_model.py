"""The served model gives the run's own boxes, in any thread, and needs no training stack."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.runs.run_folder import open_run
from stage3_detect.export.formats import open_predictor
from stage3_detect.model.predictor import FoundBox
from stage3_detect.prediction.points import open_point
from stage3_detect.serving.interface import DecodedImage
from stage3_detect.serving.model.bundle import open_bundle
from stage3_detect.serving.model.bundle_model import open_engine, open_model
from tests.paths import ROOT
from tests.stage3_detect.serving.chain_builders import make_bundle
from tests.stage3_detect.stage3_builders import FINDINGS, draw_image

BLOCKED = ("torch", "torchvision", "timm", "ultralytics", "pandas", "sklearn", "onnxruntime", "matplotlib", "rich")


def picture(seed: int) -> DecodedImage:
    pixels, _ = draw_image(np.random.default_rng(seed), num_boxes=2)
    return DecodedImage("a.png", b"", np.round(pixels * 65535).astype(np.uint16))


def test_boxes_are_those_of_the_run(bundle: Path) -> None:
    run, model = open_run(bundle.parents[1]), open_model(bundle)
    image = picture(1)
    expected = open_predictor(run, "openvino_fp32").predict(image.pixels, open_point(run.manifest, None))
    assert model.detect(image) == expected
    assert len(expected) > 5
    assert model.maps(image) == []


def test_facts_of_the_model(bundle: Path) -> None:
    facts = open_model(bundle, maps=True).facts
    assert (facts.findings, facts.format) == (FINDINGS, "openvino_fp32")
    assert (facts.default_point, facts.map_method) == ("f1", "layercam")
    assert facts.points["f1"].scores == dict(zip(FINDINGS, (0.3, 0.4), strict=True))
    assert facts.card.startswith("# Model card")
    assert facts.synthetic


def test_an_unknown_point_is_named(bundle: Path) -> None:
    with pytest.raises(UserError, match="point 'best': expected one of f1"):
        open_model(bundle).detect(picture(1), "best")


def test_threads_get_the_boxes_of_their_own_images(bundle: Path) -> None:
    model = open_model(bundle, maps=True)
    images = [picture(seed) for seed in range(4)]

    def work(index: int) -> tuple[list[FoundBox], list[float]]:
        image = images[index % 4]
        return model.detect(image), [one.probability for one in model.maps(image)]

    alone = [work(index) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(24))) == alone * 6


def test_a_damaged_engine_gives_way_to_the_next(bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    (own / "detector_fp32.xml").write_text("<net/>")
    opened = open_bundle(bundle)
    damaged = type(opened)(own, opened.manifest, opened.sha256)
    assert open_engine(damaged, num_threads=1)[0] == "onnx"
    (own / "detector.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="no engine runs on this machine"):
        open_engine(damaged, num_threads=1)


@pytest.mark.parametrize("changed", ["findings", "head"])
def test_a_network_that_is_not_that_of_the_facts_is_refused(bundle: Path, tmp_path: Path, changed: str) -> None:
    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    facts = json.loads((own / "bundle.json").read_text())
    if changed == "findings":
        facts["findings"].reverse()
    else:
        facts["settings"]["predict"]["nms_free"] = True
    (own / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="bundle.json names" if changed == "findings" else "values for a box"):
        open_model(own)


def test_a_damaged_classifier_ends_the_start(bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    facts = json.loads((own / "bundle.json").read_text())
    facts["classifier"]["members"] = []
    (own / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"classifier\.onnx"):
        open_model(own, maps=True)


def test_maps_without_a_classifier_are_refused(bundle: Path, tmp_path: Path) -> None:
    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    manifest = json.loads((own / "bundle.json").read_text())
    (own / "bundle.json").write_text(json.dumps(manifest | {"classifier": None}))
    with pytest.raises(UserError, match="--maps"):
        open_model(own, maps=True)


def test_serving_imports_nothing_of_the_training_stack(bundle: Path) -> None:
    """In a process where importing these packages fails."""
    code = f"""
import sys
from pathlib import Path
for name in {BLOCKED!r}:
    sys.modules[name] = None
import numpy as np
import stage3_detect.serving.http.app
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.interface import DecodedImage
model = open_model(Path({str(bundle)!r}), maps=True)
image = DecodedImage("a", b"", np.eye(80, 60, dtype=np.float32))
print(len(model.detect(image)) > 0, len(model.maps(image)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "3"], done.stderr


def test_boxes_are_shown_from_the_point_with_few_false_ones_unless_asked_otherwise(tmp_path: Path) -> None:
    points = {
        name: {"about": "", "scores": dict.fromkeys(FINDINGS, score)} for name, score in (("f1", 0.1), ("half_fp", 0.2))
    }
    folder = make_bundle(tmp_path, operating_points=points)
    assert open_model(folder).facts.default_point == "half_fp"
    assert open_model(folder, points="f1").facts.default_point == "f1"
    by_score = open_model(folder, points="0.7").facts
    assert by_score.points["0.7"].scores == dict.fromkeys(FINDINGS, 0.7)
    with pytest.raises(UserError, match="--points best"):
        open_model(folder, points="best")
