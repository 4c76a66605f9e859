"""Training as a whole: it reduces the loss, resumes exactly after a kill, and refuses data that it cannot train on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cxr.config import UserError
from cxr.runs.run_folder import open_run, start_run
from cxr.splits import load_splits
from stage1_classify import pipeline
from stage1_classify.model.classifier import load_classifier
from stage1_classify.model.seen_patients import check_unseen, read_seen
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.checkpoint import Progress, load_last, save_last, save_weights
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.trainer import Trainer
from tests.builders import PickledCall
from tests.disks import files_of_at_most
from tests.stage1_classify.stage1_builders import as_read, patch_folder, stage1_settings
from tests.stage1_classify.training.train_builders import PLAIN, assert_same, fitted, logged, trainer


def train(settings: Stage1Settings, out: Path) -> Path:
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    try:
        pipeline.run(run, settings, make_fabric(settings))
    finally:
        run.release()
    return out


def test_a_run_learns_and_leaves_everything_behind(tmp_path: Path) -> None:
    settings = stage1_settings(
        patch_folder(tmp_path / "data", num_images=60),
        train={"num_epochs": 12},
        optimizer={"learning_rate": 0.01},
        augment={"erase_probability": 0.0},
    )
    run = open_run(train(settings, tmp_path / "run"), stage="stage1")
    assert run.metrics["auroc/mean"] is not None
    assert run.metrics["auroc/mean"] > 0.9
    assert run.metrics["auroc/mean/low"] is not None
    assert run.manifest["findings"] == settings.findings
    assert set(run.manifest["splits"]) == {"train", "val", "test"}
    assert run.output("report").is_file()
    header = run.output("predictions").read_text().splitlines()[0]
    assert {"image_id", "Lung Lesion", "Pleural Effusion"} <= set(header.split(","))
    model, read = load_classifier(run.dir)
    assert read == as_read(settings)
    assert model(torch.zeros(1, 1, 32, 48)).shape == (1, 2)


EVERYTHING = {
    "train": {"precision": "fp32", "num_epochs": 4, "ema_decay": 0.9, "accumulate_steps": 2},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05, "backbone_scale": 0.5, "layer_decay": 0.5},
    "schedule": {"kind": "plateau", "plateau_patience_epochs": 1, "cycle_factors": [1.0, 0.5]},
    "freeze": {"backbone_epochs": 1, "gradual_epochs": 1, "cycle_epochs": 2},
    "input": {"crop_hw": [24, 32]},
    "labels": {"moving_share": 0.8},
    "backbone": {"name": "resnet10t", "feature_stage": 2},
    "head": {"dropout": 0.3},
}


@pytest.mark.parametrize("changes", [{"train": {"precision": "fp32"}}, EVERYTHING], ids=["default", "everything"])
@pytest.mark.parametrize("killed_in", [1, 2])
def test_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], killed_in: int
) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"), **changes)
    whole = fitted(settings, tmp_path / "whole")
    original = Trainer.end_epoch

    def killed(self: Trainer, figures: dict[str, float | None]) -> None:
        if self.progress.epoch == killed_in:
            raise KeyboardInterrupt  # when the epoch is trained and not yet kept
        original(self, figures)

    monkeypatch.setattr(Trainer, "end_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(settings, tmp_path / "halves")
    monkeypatch.setattr(Trainer, "end_epoch", original)
    halves = fitted(settings, tmp_path / "halves")
    assert logged(halves) == logged(whole)
    one, other = (torch.load(out / "last.ckpt", weights_only=True) for out in (whole, halves))
    assert_same(one, other)
    assert_same(load_file(whole / "best.safetensors"), load_file(halves / "best.safetensors"))


DIVERGING = {
    "augment": PLAIN,
    "train": {"precision": "fp32", "num_epochs": 5},
    "schedule": {"kind": "constant", "cycle_factors": [1.0, 200.0, 200.0, 200.0, 200.0]},
    "freeze": {"cycle_epochs": 1},
}
"""A first epoch with a learning rate of .003, then .6."""


def test_a_diverged_training_stops_keeps_its_best_epoch_and_stops_again(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data", num_images=20), **DIVERGING)
    out = tmp_path / "run"
    for _ in range(2):  # the second training resumes
        with pytest.raises(UserError) as caught:
            fitted(settings, out)
        (line,) = caught.value.problems
        assert " in epoch 3 (" in line and " times in epoch 2)" in line
        assert "best.safetensors holds the best epoch, 1, with " in line
        assert line.endswith("a lower optimizer.learning_rate than 0.003")
        progress = torch.load(out / "last.ckpt", weights_only=True)["progress"]
        assert (progress["epoch"], progress["best_epoch"]) == (2, 1)
        assert progress["best_relative_loss"] < 1.1 and progress["relative_loss"] > 30
        assert [entry["step"] for entry in logged(out)] == [1, 2, 3]
    once = fitted(settings.model_copy(update={"train": settings.train.model_copy(update={"num_epochs": 1})}), tmp_path)
    assert_same(load_file(once / "best.safetensors"), load_file(out / "best.safetensors"))


def test_a_loss_that_falls_from_far_above_goes_on_and_the_next_rise_ends_it() -> None:
    progress = Progress()
    for epoch, loss in enumerate([500.0, 400.0, 31.0, 1.0, 29.0, 31.0]):
        progress.epoch = epoch
        progress.add_loss(loss, learning_rate=0.5)
    progress.epoch = 6
    with pytest.raises(
        UserError, match=r"32 times .* epoch 7 \(31 times in epoch 6\), .* no epoch was chosen .* 0\.5$"
    ):
        progress.add_loss(32.0, learning_rate=0.5)
    assert progress.relative_loss == 31


@pytest.mark.parametrize("kind", ["bce", "focal", "asymmetric", "auc_margin"])
def test_the_loss_of_a_network_with_logits_of_0_is_one(tmp_path: Path, kind: str) -> None:
    """Also with weights of positives and a case that the last batch repeats."""
    settings = stage1_settings(
        patch_folder(tmp_path / "data", num_images=20), loss={"kind": kind}, optimizer={"learning_rate": 1e-12}
    )
    ours = trainer(settings, tmp_path / "run")
    with torch.no_grad():
        for parameter in ours.model.head.parameters():
            parameter.zero_()
    ours.train_epoch()
    ours.end_epoch({"val/auroc": 0.5})
    assert ours.progress.relative_loss == pytest.approx(1, abs=1e-4)


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
    with pytest.raises(UserError, match="no positives of Pleural Effusion"):
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


def test_code_in_a_checkpoint_is_refused_before_it_runs(tmp_path: Path) -> None:
    torch.save({"progress": PickledCall(Path.mkdir, tmp_path / "mark")}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        load_last(tmp_path / "last.ckpt", {})
    assert not (tmp_path / "mark").exists()


def test_a_checkpoint_of_another_version_is_told(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"num_epochs": 1})
    out = fitted(settings, tmp_path / "run")
    state = torch.load(out / "last.ckpt", weights_only=True)
    torch.save({key: state[key] for key in state if key != "finite_check"}, out / "last.ckpt")
    with pytest.raises(UserError, match=r"holds model, optimizer, progress, schedule, expected .*finite_check"):
        fitted(settings, out)


def test_checkpoints_are_written_beside_and_renamed(tmp_path: Path) -> None:
    """A crash while writing leaves the old file whole, and no half of a new one under its name."""
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"num_epochs": 1})
    out = fitted(settings, tmp_path / "run")
    before = {name: (out / name).read_bytes() for name in ("last.ckpt", "best.safetensors")}

    large = torch.nn.Linear(300, 100)  # 120 kB
    with files_of_at_most(60_000):
        with pytest.raises(OSError, match=r"File too large: '.*/last\.ckpt'"):
            save_last(out / "last.ckpt", {"model": large}, Progress())
        with pytest.raises(OSError, match=r"File too large: '.*/best\.safetensors'"):
            save_weights(out / "best.safetensors", large)
    assert not list(out.glob(".*.partial"))  # they would fill the disk further
    assert before == {name: (out / name).read_bytes() for name in before}


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data")
    settings = stage1_settings(root)
    out = train(settings, tmp_path / "run")
    (out / "manifest.json").unlink()
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join(lines[:-3]) + "\n")
    with pytest.raises(UserError, match="changed since it began"):
        train(settings, out)


def test_a_run_does_not_go_on_with_other_labels(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data")
    settings = stage1_settings(root, train={"num_epochs": 1})
    out = train(settings, tmp_path / "run")
    (out / "manifest.json").unlink()
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("patient1,1,0", "patient1,0,1"))
    with pytest.raises(UserError, match="labels changed since it began"):
        train(settings, out)
    (root / "labels.csv").write_text(table)
    assert open_run(train(settings, out)).stage == "stage1"


def test_settings_that_the_data_refuse_may_be_mended_in_the_same_folder(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data")
    with pytest.raises(UserError, match="no finding has 1000 positives"):
        train(stage1_settings(root, train={"min_positives": 1000}), tmp_path / "run")
    mended = stage1_settings(root, split={"seed": 5}, train={"num_epochs": 1})
    assert open_run(train(mended, tmp_path / "run")).stage == "stage1"


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
        patch_folder(tmp_path / "data"), train={"num_epochs": 1, "batch_size": 16}, schedule={"warmup_share": 0.25}
    )
    assert open_run(train(settings, tmp_path / "run")).stage == "stage1"
