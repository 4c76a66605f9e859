"""Boxes of every image of a table, in order, with times."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from stage3_detect.model.predict import predict_images
from stage3_detect.model.torch_network import TorchNetwork
from tests.stage3_detect.model.detector_builders import untrained_weights
from tests.stage3_detect.model.test_boxes import SETTINGS, FixedNetwork, raw_output
from tests.stage3_detect.stage3_builders import FINDINGS, make_coco

AHEAD = pytest.mark.parametrize("read_ahead", [False, True])


@AHEAD
def test_no_image_gives_no_box(tmp_path: Path, read_ahead: bool):
    images = make_coco(tmp_path, "test", num_images=1, seed=0)
    none = replace(images, images=images.images.head(0))
    found, milliseconds = predict_images(none, FixedNetwork(raw_output([])), SETTINGS, read_ahead=read_ahead)
    assert len(found.boxes) == 0 and len(found.images) == 0 and milliseconds.shape == (0,)


@AHEAD
def test_detections_keep_images_and_findings_of_the_list(tmp_path: Path, read_ahead: bool):
    images = make_coco(tmp_path, "test", num_images=3, seed=0)
    output = raw_output([(32, 32, 10, 10, 0.0, 0.6)])
    found, milliseconds = predict_images(images, FixedNetwork(output), SETTINGS, read_ahead=read_ahead)
    assert found.boxes["finding"].tolist() == [FINDINGS[1]] * 3
    assert found.boxes["image_id"].tolist() == images.images["image_id"].tolist()
    assert found.findings == FINDINGS and milliseconds.shape == (3,) and (milliseconds > 0).all()


def test_reading_ahead_gives_the_same_boxes_of_the_same_pictures(tmp_path: Path):
    images = make_coco(tmp_path / "data", "test", num_images=5, seed=0)
    network = TorchNetwork(untrained_weights(tmp_path / "best.pt"))
    plain, _ = predict_images(images, network, SETTINGS)
    ahead, _ = predict_images(images, network, SETTINGS, read_ahead=True)
    assert len(plain.boxes) > 5
    assert plain.boxes.equals(ahead.boxes)
    by_image = plain.boxes.groupby("image_id")["score"].max()
    assert by_image.nunique() == 5  # each picture gives its own


@AHEAD
@pytest.mark.parametrize("index", [0, 1])
def test_missing_picture_is_the_users_mistake(tmp_path: Path, read_ahead: bool, index: int):
    images = make_coco(tmp_path, "test", num_images=2, seed=0)
    (tmp_path / images.images["path"][index]).unlink()
    with pytest.raises(UserError, match="no file"):
        predict_images(images, FixedNetwork(raw_output([])), SETTINGS, read_ahead=read_ahead)


def test_halves_of_a_picture_are_pictures_of_their_own(tmp_path: Path):
    images = make_coco(tmp_path, "test", num_images=1, seed=0)
    both = images.images.iloc[[0, 0]].assign(image_id=["l", "r"], region=["left", "right_mirrored"])
    halves = replace(images, images=both.reset_index(drop=True))
    found, _ = predict_images(halves, FixedNetwork(raw_output([(32, 32, 200, 200, 0.9, 0.0)])), SETTINGS)
    np.testing.assert_allclose(found.boxes[["x1", "y1", "x2", "y2"]], [[0, 0, 65, 90]] * 2)
