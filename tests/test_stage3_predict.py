"""From raw network output to boxes in the picture's own pixels; the exported network agrees."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stage3_builders import FINDINGS, draw_image, make_coco

from cxr.config import UserError
from cxr.geometry import Resize
from stage3_detect.config import PredictSettings
from stage3_detect.export import Agreement, OnnxNetwork, compare_networks, export_onnx, require_agreement
from stage3_detect.predict import TorchNetwork, detect, predict_images, read_output

SETTINGS = PredictSettings()


def raw_output(rows: list[tuple[float, ...]]) -> np.ndarray:
    """(4 + 2, anchors) from rows of centre x, centre y, width, height, score 0, score 1."""
    return np.array(rows, dtype=np.float32).reshape(-1, 6).T.copy()


class FixedNetwork:
    """Stands for a network that sees the same boxes whatever it is shown."""

    findings, channels, image_px = FINDINGS, 1, 64

    def __init__(self, output: np.ndarray) -> None:
        self.output = output

    def __call__(self, net_input: np.ndarray) -> np.ndarray:
        assert net_input.shape == (1, 1, 64, 64)
        return self.output


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained yolo26n for 96 px and one channel, whose scores are not all the same."""
    from ultralytics.nn.tasks import DetectionModel  # after stage3_detect, which switches the network off

    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", ch=1, nc=2, verbose=False)
    for heads in (model.model[-1].cv3, model.model[-1].one2one_cv3):
        for head in heads:
            torch.nn.init.normal_(head[-1].weight, std=0.3)
            torch.nn.init.constant_(head[-1].bias, -2.0)
    model.names, model.args = dict(enumerate(FINDINGS)), {"imgsz": 96, "task": "detect"}
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    torch.save({"model": model, "train_args": {"imgsz": 96, "task": "detect"}, "epoch": -1}, path)
    return path


def test_no_anchor_gives_no_box():
    found = read_output(raw_output([]), SETTINGS)
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


def test_rows_of_the_nms_free_head_are_taken_as_they_are():
    rows = np.array([[1, 2, 3, 4, 0.2, 1], [5, 6, 7, 8, 0.9, 0], [0, 0, 1, 1, 0.0, 0]], dtype=np.float32)
    found = read_output(rows, PredictSettings(nms_free=True))
    assert found.classes.tolist() == [0, 1]
    np.testing.assert_allclose(found.xyxy, [[5, 6, 7, 8], [1, 2, 3, 4]])


@pytest.mark.parametrize("image_hw", [(50, 130), (301, 97), (40, 20)])
def test_boxes_come_back_in_original_pixels(image_hw: tuple[int, int]):
    height, width = image_hw
    wanted = np.array([[0.1 * width, 0.2 * height, 0.6 * width, 0.9 * height]])
    x1, y1, x2, y2 = Resize(image_hw, (64, 64), keep_aspect=True).boxes_to_net(wanted)[0]
    output = raw_output([((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.9, 0.0)])
    found = detect(
        np.random.default_rng(0).random(image_hw, dtype=np.float32), FixedNetwork(output), SETTINGS
    )
    np.testing.assert_allclose(found.xyxy, wanted, atol=1e-3)


def test_boxes_are_cut_to_the_picture_and_dropped_outside():
    output = raw_output([(60, 32, 20, 10, 0.9, 0.0), (32, 2, 20, 3, 0.8, 0.0)])  # the second lies in the bar
    found = detect(np.zeros((30, 60), dtype=np.float32), FixedNetwork(output), SETTINGS)
    assert len(found.xyxy) == 1 and found.xyxy[0, 2] == 60


def test_detections_keep_images_and_findings_of_the_list(tmp_path: Path):
    images = make_coco(tmp_path, "test", num_images=3, seed=0)
    output = raw_output([(32, 32, 10, 10, 0.0, 0.6)])
    found, milliseconds = predict_images(images, FixedNetwork(output), SETTINGS)
    assert found.boxes["finding"].tolist() == [FINDINGS[1]] * 3
    assert found.boxes["image_id"].tolist() == images.images["image_id"].tolist()
    assert found.findings == FINDINGS and milliseconds.shape == (3,) and (milliseconds > 0).all()


def test_missing_picture_is_the_users_mistake(tmp_path: Path):
    images = make_coco(tmp_path, "test", num_images=2, seed=0)
    (tmp_path / images.images["path"][1]).unlink()
    with pytest.raises(UserError, match="no file"):
        predict_images(images, FixedNetwork(raw_output([])), SETTINGS)


def test_network_knows_its_findings_channels_and_size(weights: Path):
    network = TorchNetwork(weights)
    assert (network.findings, network.channels, network.image_px) == (FINDINGS, 1, 96)


@pytest.mark.parametrize("nms_free", [False, True])
def test_exported_network_agrees_with_the_trained_one(weights: Path, tmp_path: Path, nms_free: bool):
    export_onnx(weights, tmp_path / "best.onnx", nms_free=nms_free)
    assert [path.name for path in tmp_path.iterdir()] == ["best.onnx"]
    reference = TorchNetwork(weights, nms_free=nms_free)
    exported = OnnxNetwork(tmp_path / "best.onnx", reference, num_threads=1)
    rng = np.random.default_rng(0)
    pictures = [draw_image(rng, num_boxes=count)[0] for count in (0, 1, 3)]
    agreement = compare_networks(pictures, reference, exported, min_score=0.001)
    require_agreement(agreement)
    settings = PredictSettings(nms_free=nms_free)
    ours, theirs = (detect(pictures[2], network, settings) for network in (reference, exported))
    assert len(ours.scores) > 10
    np.testing.assert_allclose(ours.scores[:10], theirs.scores[:10], atol=1e-3)


def test_disagreement_stops_the_run():
    with pytest.raises(RuntimeError, match=r"2 px"):
        require_agreement(Agreement(box_px=2.0, score=0.0))
