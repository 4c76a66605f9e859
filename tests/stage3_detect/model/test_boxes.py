"""From raw network output to boxes in the picture's own pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, box_convert

from cxr.imaging.geometry import Resize
from stage3_detect.model.boxes import detect, read_output
from stage3_detect.model.torch_network import TorchNetwork
from stage3_detect.settings.detector import PredictSettings
from tests.stage3_detect.model.detector_builders import IMAGE_PX, untrained_weights
from tests.stage3_detect.stage3_builders import FINDINGS, draw_image

SETTINGS = PredictSettings()


def raw_output(rows: list[tuple[float, ...]]) -> np.ndarray:
    """(4 + 2, anchors) from rows of centre x, centre y, width, height, score 0, score 1."""
    return np.array(rows, dtype=np.float32).reshape(-1, 6).T.copy()


class FixedNetwork:
    """Stands for a network that sees the same boxes whatever it is shown."""

    findings, channels, image_px = FINDINGS, 1, 64

    def __init__(self, output: np.ndarray) -> None:
        self.output = output

    def __call__(self, net_image: np.ndarray) -> np.ndarray:
        assert net_image.shape == (64, 64) and net_image.dtype == np.uint8
        return self.output


@pytest.mark.parametrize("nms_free", [False, True])
def test_no_anchor_gives_no_box(nms_free: bool):
    output = np.zeros((0, 6), np.float32) if nms_free else raw_output([])
    found = read_output(output, PredictSettings(nms_free=nms_free))
    assert found.xyxy.shape == (0, 4) and found.scores.shape == (0,) and found.classes.shape == (0,)


def test_boxes_of_a_class_suppress_each_other_and_not_other_classes():
    output = raw_output([(20, 20, 10, 10, 0.9, 0.0), (21, 20, 10, 10, 0.8, 0.7), (50, 20, 8, 4, 0.1, 0.0)])
    found = read_output(output, SETTINGS)
    assert found.classes.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.1], atol=1e-6)
    np.testing.assert_allclose(found.xyxy[0], [15, 15, 25, 25])
    np.testing.assert_allclose(found.xyxy[2], [46, 18, 54, 22])


def test_scores_below_the_threshold_and_boxes_beyond_the_limit_go():
    output = raw_output([(10.0 * k, 5, 6, 6, 0.5 - 0.1 * k, 0.0) for k in range(5)])
    few = PredictSettings(min_score=0.15, max_boxes_per_class=3)
    np.testing.assert_allclose(read_output(output, few).scores, [0.5, 0.4, 0.3], atol=1e-6)
    np.testing.assert_allclose(
        read_output(output, PredictSettings(min_score=0.15)).scores, [0.5, 0.4, 0.3, 0.2], atol=1e-6
    )


@pytest.mark.parametrize("num_anchors", [1, 90, 900])
def test_boxes_are_those_of_torchvisions_nms_over_all_classes(num_anchors: int):
    """The reference takes the best 300 anchors of each class through one batched NMS."""
    rng = np.random.default_rng(num_anchors)
    places, sizes = rng.uniform(0, 200, (2, num_anchors)), rng.uniform(5, 60, (2, num_anchors))
    output = np.concatenate([places, sizes, rng.random((3, num_anchors)) ** 4]).astype(np.float32)
    settings = PredictSettings(min_score=0.01, nms_iou=0.4, max_boxes_per_class=1000)
    scores, anchors = torch.from_numpy(output[4:]).topk(min(300, num_anchors), dim=1)
    classes = torch.arange(3)[:, None].expand_as(scores)
    strong = scores >= 0.01
    boxes = box_convert(torch.from_numpy(output[:4]).T[anchors[strong]], "cxcywh", "xyxy")
    kept = batched_nms(boxes, scores[strong], classes[strong], 0.4)
    found = read_output(output, settings)
    np.testing.assert_allclose(found.scores, scores[strong][kept], atol=1e-7)
    np.testing.assert_array_equal(found.classes, classes[strong][kept])
    np.testing.assert_allclose(found.xyxy, boxes[kept], atol=1e-4)


def test_rows_of_the_nms_free_head_are_taken_as_they_are():
    rows = np.array([[1, 2, 3, 4, 0.2, 1], [5, 6, 7, 8, 0.9, 0], [0, 0, 1, 1, 0.0, 0]], dtype=np.float32)
    found = read_output(rows, PredictSettings(nms_free=True))
    assert found.classes.tolist() == [0, 1]
    np.testing.assert_allclose(found.xyxy, [[5, 6, 7, 8], [1, 2, 3, 4]])


def test_rows_of_the_nms_free_head_are_limited_a_class():
    rows = np.array([[k, 0, k + 1, 1, 0.1 * k, k % 2] for k in range(1, 8)], dtype=np.float32)
    found = read_output(rows, PredictSettings(nms_free=True, max_boxes_per_class=2))
    np.testing.assert_allclose(found.scores, [0.7, 0.6, 0.5, 0.4], atol=1e-6)


@pytest.mark.parametrize("image_hw", [(50, 130), (301, 97), (40, 20), (4100, 130), (3, 2000)])
def test_boxes_come_back_in_original_pixels(image_hw: tuple[int, int]):
    height, width = image_hw
    wanted = np.array([[0.1 * width, 0.2 * height, 0.6 * width, 0.9 * height]])
    x1, y1, x2, y2 = Resize(image_hw, (64, 64), keep_aspect=True).boxes_to_net(wanted)[0]
    output = raw_output([((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.9, 0.0)])
    found = detect(np.random.default_rng(0).random(image_hw, dtype=np.float32), FixedNetwork(output), SETTINGS)
    np.testing.assert_allclose(found.xyxy, wanted, atol=1e-3, rtol=1e-6)


def test_boxes_are_cut_to_the_picture_and_dropped_outside():
    output = raw_output([(60, 32, 20, 10, 0.9, 0.0), (32, 2, 20, 3, 0.8, 0.0)])  # the second lies in the bar
    found = detect(np.zeros((30, 60), dtype=np.float32), FixedNetwork(output), SETTINGS)
    assert len(found.xyxy) == 1 and found.xyxy[0, 2] == 60


@pytest.mark.parametrize("channels", [1, 3])
def test_network_knows_its_findings_channels_and_size(tmp_path: Path, channels: int):
    network = TorchNetwork(untrained_weights(tmp_path / "best.pt", channels=channels))
    assert (network.findings, network.channels, network.image_px) == (FINDINGS, channels, IMAGE_PX)


def test_a_batch_gives_what_its_pictures_give(tmp_path: Path):
    network = TorchNetwork(untrained_weights(tmp_path / "best.pt"))
    pictures = np.random.default_rng(0).integers(0, 256, (3, IMAGE_PX, IMAGE_PX), dtype=np.uint8)
    together = network.forward(torch.from_numpy(pictures[:, None]) / 255).numpy()
    apart = np.stack([network(picture) for picture in pictures])
    np.testing.assert_allclose(together, apart, rtol=1e-3, atol=1e-2)
    assert np.abs(apart[0] - apart[1]).max() > 0.01  # the network looks at its input


def test_the_picture_changes_the_detections(tmp_path: Path):
    """And 16-bit pixels give what the same picture in [0, 1] gives."""
    network = TorchNetwork(untrained_weights(tmp_path / "best.pt"))
    rng = np.random.default_rng(0)
    first, second = (draw_image(rng, num_boxes=count)[0] for count in (0, 3))
    found = [detect(picture, network, SETTINGS).scores[:5] for picture in (first, second)]
    assert np.abs(found[0] - found[1]).max() > 1e-3
    stored = np.round(second * 65535).astype(np.uint16)
    np.testing.assert_allclose(detect(stored, network, SETTINGS).scores[:5], found[1], atol=1e-3)
