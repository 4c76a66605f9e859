"""A detector whose loss diverges: what ends, what stays, and what another call says."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cxr.config import UserError
from cxr.tracking import read_log
from stage3_detect.training.divergence import check_divergence, constant_loss, is_diverging
from stage3_detect.training.train import train_detector
from stage3_detect.training.trainer import PseudoBoxTrainer, epochs_done
from tests.stage3_detect.stage3_builders import make_coco, tiny_settings, yolo_folder_of

ARGS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, batch=16, imgsz=640, lr0=0.01)


def test_constant_loss_of_an_untrained_detector() -> None:
    assert constant_loss(ARGS) == 7.5 + 1.5 + 0.5 * 16 * 15
    assert constant_loss(SimpleNamespace(**{**vars(ARGS), "imgsz": 320, "batch": 4})) == 7.5 + 1.5 + 0.5 * 4 * 15 / 4


def log_of(run_dir: Path, *losses: float) -> None:
    lines = [{"step": n, "train/box_loss": 1.0, "train/cls_loss": loss - 1} for n, loss in enumerate(losses, start=1)]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_training_that_saved_its_last_epoch_has_not_diverged(tmp_path: Path) -> None:
    check_divergence(tmp_path, ARGS, num_saved=None, best_epoch=None)
    log_of(tmp_path, 129.0, 129_000.0, 1_290_000.0)
    check_divergence(tmp_path, ARGS, num_saved=3, best_epoch=1)
    with pytest.raises(
        UserError, match=r"1e\+04 times .* epoch 3 \(1e\+03 times in epoch 2\),.* best epoch, 1, with 1 times"
    ):
        check_divergence(tmp_path, ARGS, num_saved=2, best_epoch=1)


def with_a_rate_of_1000_from_the_second_epoch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    original = PseudoBoxTrainer.preprocess_batch

    def preprocess_batch(self: PseudoBoxTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if self.epoch > 0:
            for group in self.optimizer.param_groups:
                group["lr"] = 1000.0
        return original(self, batch)

    monkeypatch.setattr(PseudoBoxTrainer, "preprocess_batch", preprocess_batch)


def test_a_diverged_training_stops_keeps_its_best_epoch_and_stops_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the second epoch is 10^8 times that of the first; in a third it would be 0."""
    train = {"num_epochs": 6, "batch_size": 2, "ema_share": 0, "learning_rate": 0.01}
    settings = tiny_settings(train=train, data={"image_px": 64})
    pseudo = make_coco(tmp_path, "train", num_images=5, seed=0, score=0.8)
    data_yaml = yolo_folder_of(tmp_path, settings, pseudo).data_yaml
    with_a_rate_of_1000_from_the_second_epoch_on(monkeypatch)
    run_dir, weights = tmp_path / "run", tmp_path / "run" / "train" / "weights"
    kept = []
    for _ in range(2):  # the second training resumes
        with pytest.raises(UserError) as caught:
            train_detector(run_dir, data_yaml, settings)
        (line,) = caught.value.problems
        assert " times that of constant outputs in epoch 2 (" in line
        assert "train/weights/best.pt holds the best epoch, 1, with " in line
        assert line.endswith("a lower train.learning_rate than 0.01")
        assert [entry["step"] for entry in read_log(run_dir)] == [1, 2]
        kept.append({path.name: path.read_bytes() for path in weights.iterdir()})
    assert epochs_done(weights / "last.pt") == 1
    assert kept[0] == kept[1] and kept[0].keys() == {"best.pt", "last.pt", "state_0.pt"}
    assert not (run_dir / "weights").exists()


@pytest.mark.parametrize(
    ("before", "now", "diverging"), [([], 129e3, False), ([387e1], 387e1, False), ([388e1], 388e1, True)]
)
def test_the_epoch_before_comes_from_the_log(tmp_path: Path, before: list[float], now: float, diverging: bool) -> None:
    """129 is the loss of constant outputs. A line of the epoch itself, from before a kill, does not count."""
    log_of(tmp_path, *before, 129e9)
    parts = {"train/box_loss": 1.0, "train/cls_loss": now - 1}
    trainer = SimpleNamespace(
        args=ARGS, epoch=len(before), save_dir=tmp_path / "train", tloss=parts, label_loss_items=dict
    )
    assert is_diverging(trainer) is diverging
