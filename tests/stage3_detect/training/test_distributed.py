"""Several processes by ultralytics' own command, script and pickle; on the CPU, see distributed_detector."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cxr.coco import CocoBoxes
from cxr.tracking import read_log
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training import train
from stage3_detect.training.train import train_detector
from stage3_detect.training.trainer import epochs_done
from tests.paths import ROOT
from tests.stage3_detect.stage3_builders import FINDINGS, make_coco, tiny_settings, yolo_folder_of
from tests.stage3_detect.training.distributed_detector import PairTrainer

NORMALS = {"normals_per_positive": 100}


def mostly_normals(root: Path) -> CocoBoxes:
    """16 images, one of them with boxes; the labels deny one finding and do not mention the other."""
    coco = make_coco(root, "train", num_images=16, seed=0, score=0.8)
    told = [{FINDINGS[0]: 0} for _ in range(16)]
    boxes = coco.boxes[coco.boxes["image_id"] == "train_000"]
    return CocoBoxes(coco.images.assign(labels=told), boxes, FINDINGS, coco.info)


def settings_of(num_epochs: int) -> Stage3Settings:
    return tiny_settings(train={"num_epochs": num_epochs}, labels=NORMALS)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.stage3_detect.training import test_distributed as here
root = Path({root!r})
here.train.PseudoBoxTrainer = here.PairTrainer
settings = here.settings_of(60)
folder = here.yolo_folder_of(root, settings, here.mostly_normals(root))
here.train_detector(root / "run", folder.data_yaml, settings)
"""


@dataclass(frozen=True)
class Training:
    """A training in two processes.

    messages: what was logged. num_left_behind: ultralytics' scripts that were not removed.
    """

    dir: Path
    messages: list[str]
    num_left_behind: int


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def train_in_two(root: Path, num_epochs: int) -> Training:
    """Train, or go on, in the folder `root`."""
    settings = settings_of(num_epochs)
    data_yaml = root / "yolo" / "data.yaml"
    if not data_yaml.exists():
        yolo_folder_of(root, settings, mostly_normals(root))
    scripts = Path(os.environ["YOLO_CONFIG_DIR"]) / "Ultralytics" / "DDP"
    before, kept = set(scripts.glob("*")), Kept()
    log = logging.getLogger("raybox")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "PseudoBoxTrainer", PairTrainer)
        patch.setattr(log, "handlers", [kept])
        log.setLevel(logging.INFO)
        train_detector(root / "run", data_yaml, settings)
    return Training(root / "run", kept.messages, len(set(scripts.glob("*")) - before))


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """One epoch for all tests: each process takes seconds to begin."""
    return train_in_two(tmp_path_factory.mktemp("pair"), 1)


def kill_after_an_epoch(root: Path) -> list[psutil.Process]:
    """Start a long training, kill its first process; returns the others that outlived it."""
    code = KILLED.format(tests=str(ROOT), root=str(root))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not read_log(root / "run") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    others = psutil.Process(process.pid).children(recursive=True)
    assert len(others) >= 3  # torch's launcher and two that train
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return psutil.wait_procs(others, timeout=120)[1]


@pytest.mark.slow
def test_a_killed_training_leaves_no_process_behind_and_goes_on(tmp_path: Path) -> None:
    assert kill_after_an_epoch(tmp_path) == []
    last = tmp_path / "run" / "train" / "weights" / "last.pt"
    done = epochs_done(last)
    assert done is not None and 1 <= done < 60
    checkpoint = torch.load(last, map_location="cpu", weights_only=False)
    checkpoint["train_args"]["epochs"] = done + 1  # else the test would train 60
    torch.save(checkpoint, last)
    training = train_in_two(tmp_path, done + 1)
    assert f"stage3: the training resumes after epoch {done}" in training.messages
    assert [entry["step"] for entry in read_log(training.dir)] == list(range(1, done + 2))


def facts_of(training: Training, rank: int) -> dict[str, Any]:
    return dict(json.loads((training.dir / f"facts{rank}.json").read_text()))


def test_both_processes_end_with_the_same_weights(training: Training) -> None:
    first, second = (torch.load(training.dir / f"weights{rank}.pt") for rank in (0, 1))
    trained = [name for name in first if "running_" not in name and "num_batches" not in name]
    assert len(trained) > 100 and all(torch.equal(first[name], second[name]) for name in trained)
    # each normalised by its own pictures: they did not see the same
    assert any(not torch.equal(first[name], second[name]) for name in first if "running_mean" in name)


def test_batches_without_any_box_are_trained_on(training: Training) -> None:
    seen = [facts_of(training, rank)["seen"] for rank in (0, 1)]
    assert [len(batches) for batches in seen] == [4, 4]  # 16 pictures, 2 processes, 2 a batch, one epoch
    boxes = sorted((min(pair), max(pair)) for pair in zip(*([b[0] for b in s] for s in seen), strict=True))
    assert boxes == [(0, 0), (0, 0), (0, 0), (0, 1)]  # one process had the only box, the other none
    # one finding is denied, the other is masked where it is not mentioned
    assert all(batch[1] == 2 for batches in seen for batch in batches)


def test_other_processes_know_our_settings_and_stay_offline(training: Training) -> None:
    for rank in (0, 1):
        facts = facts_of(training, rank)
        assert facts["shared_iou"] == 0.8
        assert facts["offline"] == ["true", os.environ["YOLO_CONFIG_DIR"]]
    assert facts_of(training, 0)["fitness"] is not None and facts_of(training, 1)["fitness"] is None


def test_the_first_process_writes_checkpoints_and_figures_and_this_one_logs_them(training: Training) -> None:
    entries = read_log(training.dir)
    assert all("metrics/mAP50(B)" in entry and entry["train/cls_loss"] > 0 for entry in entries)
    lines = (training.dir / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(entries)
    (told,) = [line for line in training.messages if line.startswith("stage3: epoch")]
    assert told.startswith("stage3: epoch 1 of 1  box_loss ") and "  AP50 0." in told
    assert (training.dir / "weights" / "best.pt").is_file()
    assert epochs_done(training.dir / "train" / "weights" / "last.pt") == 1
    assert training.num_left_behind == 0
