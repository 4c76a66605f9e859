"""What our trainer changes in ultralytics', without training."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stage3_builders import make_coco

from stage3_detect.config import DataSettings, DetectSettings, TrainSettings
from stage3_detect.offline import go_offline
from stage3_detect.train import ultralytics_arguments
from stage3_detect.trainer import PseudoBoxTrainer, averaging_factor, kept_threads
from stage3_detect.yolo_dataset import write_yolo_folder

SETTINGS = DetectSettings(
    data=DataSettings(image_px=64),
    train=TrainSettings(num_epochs=5, batch_size=4, precision="fp32"),
    device="cpu",
)


@pytest.fixture
def trainer(tmp_path: Path) -> PseudoBoxTrainer:
    pseudo = make_coco(tmp_path, "train", num_images=6, seed=0, score=0.8)
    folder = write_yolo_folder(tmp_path / "yolo", pseudo, SETTINGS.data, tune=None, channels=1, seed=0)
    paths = {"data": str(folder.data_yaml), "save_dir": str(tmp_path / "train")}
    return PseudoBoxTrainer(overrides=ultralytics_arguments(SETTINGS) | paths)


def test_averaging_fades_in():
    assert averaging_factor(3, window_steps=0) == averaging_factor(3, window_steps=1) == 0
    assert averaging_factor(0, window_steps=10) == 0
    assert averaging_factor(20, window_steps=10) == pytest.approx(0.9 * (1 - math.exp(-1)))
    assert averaging_factor(10_000, window_steps=10) == pytest.approx(0.9)


def test_every_batch_is_a_step_and_radiographs_keep_up_and_grey():
    arguments = ultralytics_arguments(SETTINGS)
    assert arguments["nbs"] == arguments["batch"] == 4
    assert [arguments[name] for name in ("flipud", "hsv_h", "hsv_s", "mosaic")] == [0, 0, 0, 0]
    assert arguments["amp"] is False  # True would fetch a model to test mixed precision


def test_services_are_off(trainer: PseudoBoxTrainer):
    from ultralytics.utils import AUTOINSTALL, ONLINE
    from ultralytics.utils import SETTINGS as YOLO_SETTINGS
    from ultralytics.utils.events import events

    assert not ONLINE and not AUTOINSTALL and not events.enabled
    services = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync")
    assert not any(YOLO_SETTINGS[name] for name in services)
    used = {
        callback.__module__.rpartition(".")[2] for group in trainer.callbacks.values() for callback in group
    }
    assert used <= {"base", "events", "platform"}  # the last two do nothing offline and without a key
    assert "ULTRALYTICS_API_KEY" not in os.environ


def test_settings_folder_is_kept_by_a_second_call():
    assert str(go_offline()) == os.environ["YOLO_CONFIG_DIR"]


def test_network_takes_one_grey_channel(trainer: PseudoBoxTrainer):
    model = trainer.get_model(cfg="yolo26n.yaml", verbose=False)
    assert next(model.parameters()).shape[1] == 1


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with kept_threads():
        torch.set_num_threads(1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("epoch", "due"), [(0, False), (1, True), (2, False), (4, True)])
def test_validation_every_second_epoch_and_after_the_last(
    trainer: PseudoBoxTrainer, epoch: int, due: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(PseudoBoxTrainer.__bases__[0], "validate", lambda self: ({"new": 1.0}, 0.5))
    trainer.val_every_epochs, trainer.epoch, trainer.stop, trainer.metrics = 2, epoch, False, {"old": 1.0}
    assert trainer.validate() == (({"new": 1.0}, 0.5) if due else ({"old": 1.0}, None))


def test_ultralytics_takes_no_threads_away():
    """In a process of its own: what counts is the order of imports."""
    code = "import stage3_detect.chain, torch; print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    plain = "import torch; print(torch.get_num_threads())"
    counts = [
        subprocess.run(
            [sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True
        )
        for text in (code, plain)
    ]
    assert counts[0].stdout == counts[1].stdout
