"""The ONNX classifier computes what stage 1's classifier computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from cxr.imaging.equalise import picture_of
from cxr.imaging.files import Pixels
from stage1_classify.model.loading import Trained, load_trained
from stage3_detect.export.classifier_file import ClassifierGraph, export_classifier
from stage3_detect.serving.model.classifier import OnnxClassifier
from tests.stage3_detect.serving.chain_builders import CLASSIFIED, make_classifier_run

CLAHE = {"size_hw": [32, 48], "channels": "clahe3", "cache_dir": None, "mean": [0.4, 0.5, 0.6], "std": [0.2]}
THREE_CHANNELS = {"name": "test_convnext", "feature_stage": 1, "in_channels": 3}


def image(height: int, width: int) -> Pixels:
    rng = np.random.default_rng(height)
    return rng.integers(0, 4096, (height, width), dtype=np.uint16)


def expected_probabilities(trained: Trained, picture: np.ndarray) -> np.ndarray:
    """By stage 1's own functions, from the picture at network size."""
    member = trained.members[0]
    planes = np.atleast_3d(picture).transpose(2, 0, 1)
    shape = (1, -1, 1, 1)
    mean, std = (torch.tensor(values).reshape(shape) for values in (member.input.mean, member.input.std))
    images = (torch.from_numpy(planes.copy())[None].float() / 255 - mean) / std
    with torch.no_grad():
        logits = member.model(images.expand(-1, member.num_channels, -1, -1)).numpy()
    return trained.probabilities_of([logits])[0]


@pytest.mark.parametrize("changes", [{}, {"input": CLAHE, "backbone": THREE_CHANNELS}])
def test_probabilities_and_maps_of_an_image(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = make_classifier_run(tmp_path / "stage1", **changes)
    facts = export_classifier(run, tmp_path / "classifier.onnx")
    assert facts["findings"] == list(CLASSIFIED)
    trained = load_trained(run)
    served = OnnxClassifier(tmp_path / "classifier.onnx", facts, regions=("full",), num_threads=1)
    pixels = image(120, 90)
    maps = served.maps(pixels)
    expected = expected_probabilities(trained, picture_of(pixels, trained.settings.input))
    np.testing.assert_allclose([one.probability for one in maps], expected, atol=1e-4)
    assert [one.finding for one in maps] == list(CLASSIFIED)
    assert {one.values.shape for one in maps} == {(128, 96)}
    assert all(one.values.min() == 0 and one.values.max() == 255 for one in maps)


def test_a_childs_probability_is_multiplied_by_its_parents(tmp_path: Path) -> None:
    run = make_classifier_run(tmp_path / "stage1")
    trained = load_trained(run)
    picture = torch.from_numpy(image(32, 48).astype(np.uint8))[None, None]
    with torch.no_grad():
        raw, maps = ClassifierGraph(trained).eval()(picture)
        member = trained.members[0]
        output = member.model.head(member.model.backbone((picture.float() / 255 - 0.5) / 0.25))
    opacity, lesion, effusion = torch.sigmoid(output.logits[0]).tolist()
    np.testing.assert_allclose(raw[0], [opacity, opacity * lesion, effusion], rtol=1e-5)
    torch.testing.assert_close(maps, torch.sigmoid(output.maps[0]))


def test_flips_and_members_are_averaged(tmp_path: Path) -> None:
    trained = load_trained(make_classifier_run(tmp_path / "stage1"))
    twice = Trained(trained.settings, trained.members * 2, "mean", ("none", "horizontal"), trained.calibration)
    picture = torch.from_numpy(image(32, 48).astype(np.uint8))[None, None]
    one, both = ClassifierGraph(trained).eval(), ClassifierGraph(twice).eval()
    with torch.no_grad():
        plain, flipped, (raw, maps) = one(picture), one(picture.flip(-1)), both(picture)
    assert raw.shape == (2, 3)
    torch.testing.assert_close(maps, (plain[1] + flipped[1].flip(-1)) / 2)


def test_the_file_runs_on_onnx_runtime(tmp_path: Path) -> None:
    export_classifier(make_classifier_run(tmp_path / "stage1"), tmp_path / "classifier.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "classifier.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["probabilities", "maps"]
    assert session.get_modelmeta().custom_metadata_map["findings"] == "|".join(CLASSIFIED)
    assert not list(tmp_path.glob("*.partial"))
