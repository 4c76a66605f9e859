"""Maps lie over the image: letterbox bars are cut off, halves are put together."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from stage3_detect.serving.bundle import open_bundle
from stage3_detect.serving.classifier import OnnxClassifier, cut_map, grid_shape, to_bytes


def test_a_grid_has_the_shape_of_the_image() -> None:
    assert grid_shape((3000, 2500)) == (128, 107)
    assert grid_shape((10, 4000)) == (1, 128)


def test_the_bars_of_a_letterbox_are_cut_off() -> None:
    """A map of 1 x 4 cells; the image covers the two in the middle."""
    values = np.array([[9.0, 1.0, 2.0, 9.0]], dtype=np.float32)
    grid = cut_map(values, np.array([0.25, 0.0, 0.75, 1.0]), (256, 128))
    assert grid.shape == (128, 64)
    assert grid[:, 16] == pytest.approx(1.0, abs=0.02)
    assert grid[:, 47] == pytest.approx(2.0, abs=0.02)


def test_a_map_becomes_bytes_of_its_own_range() -> None:
    values = np.array([[2, 3], [7, 2]], dtype=np.float32)
    blocks = np.kron(values, np.ones((64, 32), np.float32))
    assert to_bytes(blocks, (128, 64))[::64, ::32].tolist() == [[0, 51], [255, 0]]
    assert not to_bytes(np.full((3, 2), 0.7, np.float32), (30, 20)).any()


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


def test_a_damaged_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    entry = open_bundle(bundle).manifest["classifier"]
    (tmp_path / "classifier.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"cannot load classifier\.onnx"):
        OnnxClassifier(tmp_path / "classifier.onnx", entry, regions=("full",), num_threads=1)
