"""Labels to weights for real, on tiny pictures: what is written, what a stop leaves behind, where the weights open."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cxr.coco import CocoBoxes
from cxr.tracking import read_log
from stage3_detect.labels.sources import Sources
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training.reporting import epoch_line, log_worker_epochs
from stage3_detect.training.train import fit, train_detector, trainer_extras
from stage3_detect.training.trainer import epochs_done
from tests.stage3_detect.stage3_builders import FINDINGS, make_coco, tiny_settings
from tests.stage3_detect.training.test_exact_resume import stopped_in


def sources_of(root: Path) -> Sources:
    """Nine images with labels, three to choose on."""
    pseudo = make_coco(root, "train", num_images=9, seed=0, score=0.8)
    boxes = pseudo.boxes.assign(confidence=np.linspace(0.2, 0.9, len(pseudo.boxes)))
    boxed = set(zip(boxes["image_id"], boxes["finding"], strict=True))
    told = [
        {name: 1 if (image_id, name) in boxed else 0 for name in FINDINGS} for image_id in pseudo.images["image_id"]
    ]
    labels = CocoBoxes(pseudo.images.assign(labels=told), boxes, FINDINGS, pseudo.info)
    tune = make_coco(root, "tune", num_images=3, seed=3)
    return Sources(labels, tune, None, tune)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole training of two epochs."""
    root = tmp_path_factory.mktemp("learning")
    sources = sources_of(root)
    weights, folder = fit(root / "run", sources, sources.labels, tiny_settings())
    assert weights == root / "run" / "weights" / "best.pt"
    assert (folder.num_positives, folder.num_normals, folder.num_held_out) == (6, 3, 3)
    return root / "run"


def test_figures_of_each_epoch_are_logged(run_dir: Path) -> None:
    entries = read_log(run_dir)
    assert [entry["step"] for entry in entries] == [1, 2]
    needed = {"train/box_loss", "train/cls_loss", "metrics/mAP50(B)", "seconds"}
    assert all(needed <= entry.keys() for entry in entries)
    assert all(np.isfinite(entry["train/cls_loss"]) and entry["train/cls_loss"] > 0 for entry in entries)


def test_weights_are_halved_and_tell_nothing_of_this_machine(run_dir: Path) -> None:
    checkpoint = torch.load(run_dir / "weights" / "best.pt", map_location="cpu", weights_only=False)
    assert next(checkpoint["model"].parameters()).dtype == torch.float16
    assert checkpoint["model"].names == dict(enumerate(FINDINGS))
    assert checkpoint["optimizer"] is None and checkpoint["git"] is None
    assert str(run_dir.parent) not in repr({**checkpoint, "model": vars(checkpoint["model"])})
    raw = (run_dir / "weights" / "best.pt").read_bytes()
    assert str(run_dir.parent).encode() not in raw and b"stage3_detect" not in raw


def test_weights_open_in_ultralytics_without_this_project(run_dir: Path, tmp_path: Path) -> None:
    code = f"""
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("stage3_detect", "cxr", "eval"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import torch
from ultralytics import YOLO
path = {str(run_dir / "weights" / "best.pt")!r}
loaded = torch.load(path, weights_only=False)
found = YOLO(path).predict(torch.zeros(1, 1, 96, 96), imgsz=96, verbose=False)
print(type(loaded["model"]).__module__, type(loaded["model"]).__name__, found[0].names)
assert not any(name.startswith(("stage3", "cxr")) for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = f"ultralytics.nn.tasks DetectionModel {dict(enumerate(FINDINGS))}"
    assert done.stdout.strip().splitlines()[-1] == expected


def test_done_training_is_taken_as_it_is(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    best = run_dir / "weights" / "best.pt"
    before = best.stat().st_mtime_ns
    with caplog.at_level(logging.INFO, "raybox"):
        train_detector(run_dir, run_dir / "yolo" / "data.yaml", tiny_settings())
    assert "training is finished" in caplog.text and best.stat().st_mtime_ns == before
    best.unlink()  # as if killed between the last epoch and this file: nothing is trained again
    logged = (run_dir / "metrics.jsonl").read_bytes()
    train_detector(run_dir, run_dir / "yolo" / "data.yaml", tiny_settings())
    assert best.is_file() and (run_dir / "metrics.jsonl").read_bytes() == logged


def test_a_second_training_starts_from_given_weights(run_dir: Path, tmp_path: Path) -> None:
    settings = tiny_settings(train={"num_epochs": 1, "learning_rate": 1e-12, "ema_share": 0})
    sources = sources_of(tmp_path)
    first = run_dir / "weights" / "best.pt"
    weights, _ = fit(tmp_path / "run", sources, sources.labels, settings, start=first)
    before, after = (torch.load(path, map_location="cpu", weights_only=False)["model"] for path in (first, weights))
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(old, new, rtol=1e-2, atol=1e-3, msg=name)


# --- stopped and gone on --------------------


def test_a_stopped_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """tests/stage3_detect/test_pipeline.py kills the process of a training."""
    settings = tiny_settings(train={"batch_size": 8})
    sources = sources_of(tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_in(1, patch)
        fit(tmp_path / "run", sources, sources.labels, settings)
    last = tmp_path / "run" / "train" / "weights" / "last.pt"
    assert epochs_done(last) == 1
    # what the trainer is told stands in data.yaml, not in the checkpoint: whatever happened to it, it is told again
    data_yaml = tmp_path / "run" / "yolo" / "data.yaml"
    told = yaml.safe_load(data_yaml.read_text())
    data_yaml.write_text(yaml.safe_dump({**told, "raybox": {"tracking": "off"}}))
    with caplog.at_level(logging.INFO, "raybox"):
        weights, _ = fit(tmp_path / "run", sources, sources.labels, settings)
    assert "the training resumes after epoch 1" in caplog.text
    assert "epoch 2 of 2  box_loss" in caplog.text
    assert "epoch 1 of" not in caplog.text
    assert [entry["step"] for entry in read_log(tmp_path / "run")] == [1, 2]
    assert weights.is_file() and epochs_done(last) == 2
    again = yaml.safe_load(data_yaml.read_text())
    assert again == told and again["raybox"] == trainer_extras(settings)


def test_damaged_weights_of_a_done_training_are_written_anew(run_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir / "train", copy / "train")
    (copy / "weights").mkdir()
    (copy / "weights" / "best.pt").write_bytes((run_dir / "weights" / "best.pt").read_bytes()[:5000])
    best = train_detector(copy, run_dir / "yolo" / "data.yaml", tiny_settings())
    models = [torch.load(path, weights_only=False)["model"] for path in (best, run_dir / "weights" / "best.pt")]
    assert all(map(torch.equal, *(model.state_dict().values() for model in models)))


def test_half_a_checkpoint_is_none(tmp_path: Path) -> None:
    assert epochs_done(tmp_path / "last.pt") is None
    torch.save({"epoch": 3, "weights": torch.zeros(1000)}, tmp_path / "last.pt")
    assert epochs_done(tmp_path / "last.pt") == 4
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])
    assert epochs_done(tmp_path / "last.pt") is None


def test_without_a_whole_checkpoint_training_begins_anew(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: Stage3Settings = tiny_settings(train={"num_epochs": 1})
    work = tmp_path / "run" / "train" / "weights"
    work.mkdir(parents=True)
    (work / "last.pt").write_bytes(b"half")
    best = train_detector(tmp_path / "run", run_dir / "yolo" / "data.yaml", settings)
    assert "no complete checkpoint in train;" in caplog.text
    assert best.is_file() and len(read_log(tmp_path / "run")) == 1


# --- lines of the log --------------------


def test_line_of_an_epoch() -> None:
    figures = {"train/box_loss": 1.23456, "train/cls_loss": 0.5, "val/cls_loss": 9.0, "seconds": 41.0}
    assert epoch_line(3, 10, figures) == "epoch 3 of 10  box_loss 1.235  cls_loss 0.5  41 s"
    validated = figures | {"metrics/mAP50(B)": 0.3124}
    assert epoch_line(3, 10, validated) == "epoch 3 of 10  box_loss 1.235  cls_loss 0.5  AP50 0.312  41 s"
    for value in (np.nan, np.inf):
        line = epoch_line(3, 10, validated | {"val/box_loss": value})
        assert line == "epoch 3 of 10  box_loss 1.235  cls_loss 0.5  AP50 0.312  (its outputs are not finite)  41 s"


def test_lines_that_other_processes_add_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "seconds": 1}) + "\n")
    with caplog.at_level(logging.INFO, "raybox"), log_worker_epochs(tmp_path, 4):
        with path.open("a") as file:
            file.write(json.dumps({"step": 2, "seconds": 2}) + '\n{"step": 3, "tor\n{"step": 3, ')
        deadline = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.05)
        assert caplog.messages == ["stage3: epoch 2 of 4  2 s"]
        with path.open("a") as file:
            file.write('"seconds": 3}\n')
    assert caplog.messages[1:] == ["stage3: epoch 3 of 4  3 s"]
    with caplog.at_level(logging.INFO, "raybox"), log_worker_epochs(tmp_path / "nothing", 4):
        pass
    assert len(caplog.messages) == 2


def test_offline_switches_reach_other_processes() -> None:
    code = "import ultralytics.utils as u; print(u.ONLINE, u.AUTOINSTALL, u.USER_CONFIG_DIR)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", str(Path(os.environ["YOLO_CONFIG_DIR"]) / "Ultralytics")]
