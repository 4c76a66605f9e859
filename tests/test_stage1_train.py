"""Training as a whole: it learns, goes on exactly where it was killed, and two processes equal one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from stage1_builders import patch_folder, stage1_settings

from cxr.config import UserError
from cxr.runs import open_run, start_run
from cxr.splits import load_splits
from stage1_classify.classify import Stage1
from stage1_classify.config import Stage1Settings
from stage1_classify.model import load_classifier
from stage1_classify.seen import check_unseen, read_seen
from stage1_classify.train import Trainer, make_fabric, selecting_score

ROOT = Path(__file__).parent.parent


def train(settings: Stage1Settings, out: Path) -> Path:
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    try:
        Stage1(run, settings, make_fabric(settings))()
    finally:
        run.release()
    return out


def test_a_run_learns_and_leaves_everything_behind(tmp_path: Path) -> None:
    settings = stage1_settings(
        patch_folder(tmp_path / "data", num_images=60),
        train={"num_epochs": 12},
        optimizer={"learning_rate": 0.01},
        augment={"erase": 0.0},
    )
    run = open_run(train(settings, tmp_path / "run"), stage="stage1")
    assert run.metrics["auroc/mean"] is not None
    assert run.metrics["auroc/mean"] > 0.9
    assert run.metrics["auroc/mean/low"] is not None
    assert run.manifest["findings"] == settings.findings
    assert set(run.manifest["splits"]) == {"train", "val", "test"}
    assert run.output("report").is_file()
    header = run.output("predictions_test").read_text().splitlines()[0]
    assert header == "image_id,Lung Lesion,Pleural Effusion"
    model, read = load_classifier(run.dir)
    assert read == settings
    assert model(torch.zeros(1, 1, 32, 48)).shape == (1, 2)


def test_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"precision": "32-true"})
    whole = train(settings, tmp_path / "whole")
    original = Trainer.end_epoch

    def killed(self: Trainer, figures: dict[str, float | None]) -> None:
        if self.progress.epoch == 1:
            raise KeyboardInterrupt  # in the middle of the second epoch's bookkeeping
        original(self, figures)

    monkeypatch.setattr(Trainer, "end_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "halves")
    monkeypatch.setattr(Trainer, "end_epoch", original)
    halves = train(settings, tmp_path / "halves")
    first, second = (torch.load(out / "last.ckpt", weights_only=True)["model"] for out in (whole, halves))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=0)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """The same batches, targets and positive weights: losses and weights agree to rounding (no batch norm here)."""
    settings = stage1_settings(
        patch_folder(tmp_path / "data"), train={"num_epochs": 2, "precision": "32-true"}
    )
    config = tmp_path / "stage1.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    script = str(ROOT / "stage1_classify" / "run.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, command in (("one", [sys.executable]), ("two", torchrun)):
        done = subprocess.run(
            [*command, script, str(config), "--out", str(tmp_path / name)],
            capture_output=True, text=True, env=environment, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    losses = [
        [
            json.loads(line)["train/loss"]
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert open_run(tmp_path / "two").manifest["world_size"] == 2
    one, two = (load_file(tmp_path / name / "best.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)


def test_training_starts_from_another_runs_backbone(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data")
    first = train(stage1_settings(root, train={"num_epochs": 1}), tmp_path / "first")
    # a learning rate of almost nothing: what it ends with is what it began with, under another set of findings
    settings = stage1_settings(
        root,
        findings=["Lung Lesion"],
        init_from=str(first),
        train={"num_epochs": 1},
        optimizer={"learning_rate": 1e-12},
    )
    second = load_file(train(settings, tmp_path / "second") / "best.safetensors")
    for name, tensor in load_file(first / "best.safetensors").items():
        if name.startswith("backbone."):
            torch.testing.assert_close(second[name], tensor, rtol=1e-4, atol=1e-6)
    other = stage1_settings(root, init_from=str(first), backbone={"feature_stage": 2})
    with pytest.raises(UserError, match="does not fit"):
        train(other, tmp_path / "third")


def test_empty_and_unknown_findings_are_refused(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data")
    text = (root / "labels.csv").read_text().replace(",0,1\n", ",0,0\n")
    (root / "labels.csv").write_text(text)
    with pytest.raises(UserError, match="Pleural Effusion without a positive"):
        train(stage1_settings(root), tmp_path / "empty")
    with pytest.raises(UserError, match="finding 'Edema' is not there"):
        train(stage1_settings(root, findings=["Edema"]), tmp_path / "unknown")


def test_a_damaged_checkpoint_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"))
    out = train(settings, tmp_path / "run")
    (out / "manifest.json").unlink()
    (out / "last.ckpt").write_bytes((out / "last.ckpt").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        train(settings, out)


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data")
    settings = stage1_settings(root)
    out = train(settings, tmp_path / "run")
    (out / "manifest.json").unlink()
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join(lines[:-3]) + "\n")
    with pytest.raises(UserError, match="changed since it began"):
        train(settings, out)


def test_patients_that_were_seen_are_never_scored(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data")
    first = train(stage1_settings(root, split={"seed": 5}, train={"num_epochs": 1}), tmp_path / "first")
    data = stage1_settings(root).data.read()
    seen = read_seen(first)
    parts = load_splits(first / "splits.json")
    check_unseen(seen, data, parts["test"], split="test", by=["train", "val"])
    check_unseen(seen, data, parts["val"], split="tune", by=["train"])
    with pytest.raises(UserError, match="has seen in train or val"):
        check_unseen(seen, data, parts["val"], split="test", by=["train", "val"])
    with pytest.raises(UserError, match="or the run it started from"):
        train(stage1_settings(root, init_from=str(first), train={"num_epochs": 1}), tmp_path / "second")


def test_nothing_to_select_by_is_refused(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"min_positives": 100})
    with pytest.raises(UserError, match=r"no finding has 100 positives"):
        train(settings, tmp_path / "run")


def test_very_short_trainings_run(tmp_path: Path) -> None:
    settings = stage1_settings(
        patch_folder(tmp_path / "data"), train={"num_epochs": 1, "batch_size": 16}, schedule={"warmup": 0.25}
    )
    assert open_run(train(settings, tmp_path / "run")).stage == "stage1"


def test_selecting_score() -> None:
    assert selecting_score({"val/auroc": 0.7}, "auroc") == 0.7
    assert selecting_score({"val/loss": 0.7}, "loss") == -0.7
    assert selecting_score({"val/f1": None}, "f1") == float("-inf")
