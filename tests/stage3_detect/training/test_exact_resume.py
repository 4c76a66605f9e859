"""A training that was stopped between two epochs ends as an undisturbed one, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.config import UserError
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training.train import train_detector
from stage3_detect.training.trainer import PseudoBoxTrainer, epochs_done
from tests.stage3_detect.stage3_builders import tiny_settings, yolo_folder_of

EPOCHS = 3


@pytest.fixture(scope="module")
def settings() -> Stage3Settings:
    """With every augmentation, an average of weights, and a mosaic that ends before the last epoch."""
    augment = {"mosaic_probability": 0.5, "mosaic_off_last_epochs": 1, "contrast_probability": 1.0}
    return tiny_settings(train={"num_epochs": EPOCHS, "ema_share": 0.3}, augment=augment)


@pytest.fixture(scope="module")
def data_yaml(tmp_path_factory: pytest.TempPathFactory, settings: Stage3Settings) -> Path:
    return yolo_folder_of(tmp_path_factory.mktemp("exact"), settings).data_yaml


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, settings: Stage3Settings, data_yaml: Path) -> Path:
    """An undisturbed training."""
    out = tmp_path_factory.mktemp("whole")
    train_detector(out, data_yaml, settings)
    return out


def stopped_in(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings end in this epoch (from 0), after its last batch and before it is saved."""
    original = PseudoBoxTrainer.validate

    def validate(self: PseudoBoxTrainer) -> Any:
        if self.epoch == epoch:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(PseudoBoxTrainer, "validate", validate)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_stopped_training_ends_as_an_undisturbed_one(
    whole: Path, settings: Stage3Settings, data_yaml: Path, tmp_path: Path, epoch: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stopped_in(epoch, patch)
        with pytest.raises(KeyboardInterrupt):
            train_detector(tmp_path, data_yaml, settings)
    weights = tmp_path / "train" / "weights"
    assert epochs_done(weights / "last.pt") == epoch
    assert [path.name for path in weights.glob("state_*")] == [f"state_{epoch - 1}.pt"]
    train_detector(tmp_path, data_yaml, settings)
    for name in (f"train/weights/state_{EPOCHS - 1}.pt", "weights/best.pt"):
        one, other = (contents(folder / name) for folder in (whole, tmp_path))
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []


def contents(path: Path) -> dict[str, torch.Tensor]:
    """Weights, averaged weights and the optimizer's tensors; of a published file its weights."""
    if path.name == "best.pt":
        return dict(read_checkpoint(path, what="", advice="")["model"].state_dict())
    state = torch.load(path, weights_only=True)
    tensors = {f"{part} {name}": tensor for part in ("model", "average") for name, tensor in state[part].items()}
    moments = state["optimizer"]["state"]
    return tensors | {f"{n} {key}": value for n, own in moments.items() for key, value in own.items()}


def test_without_the_state_it_resumes_and_says_so(
    settings: Stage3Settings, data_yaml: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stopped_in(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train_detector(tmp_path, data_yaml, settings)
    (tmp_path / "train" / "weights" / "state_1.pt").unlink()
    assert train_detector(tmp_path, data_yaml, settings).is_file()
    assert "the training resumes from weights in 16 bits" in caplog.text


def test_a_loss_that_is_not_finite_stops_in_the_first_epoch(
    settings: Stage3Settings, data_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PseudoBoxTrainer.preprocess_batch

    def poisoned(self: PseudoBoxTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        batch = original(self, batch)
        batch["img"] = batch["img"] * float("nan")
        return batch

    monkeypatch.setattr(PseudoBoxTrainer, "preprocess_batch", poisoned)
    with pytest.raises(UserError, match=r"loss is not finite .*epoch 1.* lower train.learning_rate"):
        train_detector(tmp_path, data_yaml, settings)
    assert not (tmp_path / "weights" / "best.pt").exists()
