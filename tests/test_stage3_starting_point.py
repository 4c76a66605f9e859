"""An architecture or a weights file: what is there, what is not, how many channels."""

from pathlib import Path

import pytest
import torch

from cxr.config import UserError
from stage3_detect.config import DataSettings, DetectSettings, TrainSettings
from stage3_detect.starting_point import input_channels, model_input


def settings(model: str | Path) -> DetectSettings:
    return DetectSettings(model=str(model), data=DataSettings(image_px=64), train=TrainSettings(num_epochs=1))


def test_architecture_is_no_input_and_takes_one_grey_channel():
    assert model_input(settings("yolo26n.yaml")) == {} and input_channels(settings("yolo26n.yaml")) == 1


def test_unknown_architecture_is_the_users_mistake():
    with pytest.raises(UserError, match=r"no architecture yolo99n.yaml; try yolo26n.yaml"):
        model_input(settings("yolo99n.yaml"))


def test_name_that_is_neither_is_refused():
    with pytest.raises(ValueError, match=r"expected an architecture"):
        settings("yolo26n")


def test_missing_weights_file_is_the_users_mistake(tmp_path: Path):
    with pytest.raises(UserError, match="nothing is downloaded"):
        model_input(settings(tmp_path / "none.pt"))


def test_weights_decide_the_channels(tmp_path: Path):
    from ultralytics.nn.tasks import DetectionModel  # after stage3_detect, which switches the network off

    model = DetectionModel("yolo26n.yaml", ch=3, nc=2, verbose=False)
    torch.save({"model": model, "train_args": {}, "epoch": -1}, tmp_path / "colour.pt")
    assert model_input(settings(tmp_path / "colour.pt")) == {"weights": tmp_path / "colour.pt"}
    assert input_channels(settings(tmp_path / "colour.pt")) == 3


def test_file_that_is_no_network_is_the_users_mistake(tmp_path: Path):
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match="no ultralytics detection model"):
        input_channels(settings(tmp_path / "broken.pt"))
