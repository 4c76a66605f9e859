"""Maps and probabilities of the exported classifier."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from stage3_detect.serving.model.bundle import open_bundle
from stage3_detect.serving.model.classifier import OnnxClassifier
from stage3_detect.serving.model.map_grid import grid_shape


def test_halves_give_one_map_and_the_higher_probability(bundle: Path) -> None:
    opened = open_bundle(bundle)
    entry = opened.manifest["classifier"]
    path = opened.file(entry["file"])
    whole = OnnxClassifier(path, entry, regions=("full",), num_threads=1)
    halves = OnnxClassifier(path, entry, regions=("left", "right_mirrored"), num_threads=1)
    image = np.random.default_rng(0).integers(0, 256, (90, 131), dtype=np.uint8)
    left, right = (whole.maps(part) for part in (image[:, :65], image[:, 66:][:, ::-1]))
    for both, one, other in zip(halves.maps(image), left, right, strict=True):
        assert both.probability == max(one.probability, other.probability)
        assert both.values.shape == grid_shape((90, 131))


@pytest.mark.parametrize("key", ["findings", "input", "members", "combine"])
def test_damaged_facts_are_refused(bundle: Path, key: str) -> None:
    entry = dict(open_bundle(bundle).manifest["classifier"])
    del entry[key]
    with pytest.raises(UserError, match="damaged"):
        OnnxClassifier(bundle / "classifier.onnx", entry, regions=("full",), num_threads=1)


@pytest.mark.parametrize("key", ["findings", "input", "members", "calibration"])
def test_facts_of_another_classifier_are_refused(bundle: Path, key: str) -> None:
    entry = dict(open_bundle(bundle).manifest["classifier"])
    others = {
        "findings": entry["findings"][::-1],
        "input": entry["input"] | {"size_hw": [48, 32]},
        "members": entry["members"] * 2,
        "calibration": entry["calibration"] | {"curves": entry["calibration"]["curves"][:2]},
    }
    with pytest.raises(UserError, match=r"classifier\.onnx and the classifier in bundle\.json"):
        OnnxClassifier(bundle / "classifier.onnx", entry | {key: others[key]}, regions=("full",), num_threads=1)


def test_a_damaged_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    entry = open_bundle(bundle).manifest["classifier"]
    (tmp_path / "classifier.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"cannot load classifier\.onnx"):
        OnnxClassifier(tmp_path / "classifier.onnx", entry, regions=("full",), num_threads=1)
