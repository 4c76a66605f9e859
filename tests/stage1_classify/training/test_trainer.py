"""The training loop step by step: equal to a bare loop, accumulation, averages, frozen parts, the two phases."""

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from cxr.imaging.pictures import Pictures
from stage1_classify.model.classifier import CaseForward, Classifier
from stage1_classify.model.predict import predict_logits
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.trainer import Trainer
from stage1_classify.training.validation import check_selectable, interleaved, selecting_score, validation_figures
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings
from tests.stage1_classify.training.train_builders import PLAIN, fitted, logged, splits, trainer


def tiny(root: Path, **changes: Any) -> Stage1Settings:
    """float32, no augmentation, 16 cases an epoch."""
    given = {"augment": PLAIN, "sampling": {"num_samples": 16}, **changes}
    given["train"] = {"precision": "fp32", "num_epochs": 2, **changes.get("train", {})}
    return stage1_settings(patch_folder(root), **given)


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, **{"rtol": 0.0, "atol": 0.0, **tolerance})


def test_the_default_is_a_bare_loop_of_adamw_and_one_cycle_bit_for_bit(tmp_path: Path) -> None:
    settings = tiny(tmp_path / "data", optimizer={"weight_decay": 0.1})
    ours = trainer(settings, tmp_path / "run")
    torch.manual_seed(settings.seed)
    model = Classifier(settings).to(memory_format=torch.channels_last)
    assert_equal(weights(ours.model), weights(model))

    decayed, plain = ([p for p in model.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=settings.optimizer.learning_rate)
    schedule = OneCycleLR(optimizer, max_lr=settings.optimizer.learning_rate, total_steps=8, pct_start=0.25)
    forward = CaseForward(model)
    for _ in range(settings.train.num_epochs):
        ours.train_epoch()
        ours.progress.epoch += 1
        for batch in ours._loader():
            loss = ours._loss(forward(batch.images, batch.cases, len(batch.targets)), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.train.clip_norm)
            optimizer.step()
            schedule.step()
    assert_equal(weights(ours.model), weights(model))


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    """With sgd the first step is rate times gradient, so its length is the rate times the bound."""
    settings = tiny(
        tmp_path / "data",
        train={"clip_norm": 0.01, "batch_size": 16},
        optimizer={"kind": "sgd", "learning_rate": 0.5, "weight_decay": 0.0},
        schedule={"kind": "constant"},
    )
    ours = trainer(settings, tmp_path / "run")
    before = weights(ours.model)
    ours.train_epoch()
    after = weights(ours.model)
    length = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))
    assert length == pytest.approx(0.5 * 0.01, rel=1e-4)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_two_batches_of_4_move_the_weights_as_one_of_8(tmp_path: Path, kind: str) -> None:
    ends, lines = [], []
    for name, given in (("halves", {"batch_size": 4, "accumulate_steps": 2}), ("whole", {"batch_size": 8})):
        settings = tiny(tmp_path / "data", train=given, optimizer={"kind": kind, "learning_rate": 0.01})
        out = fitted(settings, tmp_path / name)
        state = torch.load(out / "last.ckpt", weights_only=True)
        assert state["progress"]["steps"] == 4
        ends.append(state["model"])
        lines.append(logged(out))
    assert_equal(ends[0], ends[1], rtol=1e-4, atol=1e-6)
    for one, other in zip(*lines, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_last_incomplete_accumulation_is_a_move_of_what_there_is(tmp_path: Path) -> None:
    """12 cases, batches of 4, two per step: a step of 8 cases, then one of 4, both with their mean loss."""
    settings = tiny(
        tmp_path / "data",
        train={"batch_size": 4, "accumulate_steps": 2, "num_epochs": 1},
        sampling={"num_samples": 12},
        optimizer={"kind": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.1},
        schedule={"kind": "cosine"},
    )
    ours = trainer(settings, tmp_path / "run")
    model, rates = Classifier(settings), [0.1, 0.05]
    model.load_state_dict(ours.model.state_dict())
    figures = ours.train_epoch()
    assert ours.progress.steps == 2
    assert figures["train/learning_rate"] == pytest.approx(0.0)
    batches, losses = list(ours._loader()), []
    for group, rate in zip((batches[:2], batches[2:]), rates, strict=True):
        model.zero_grad()
        for batch in group:
            loss = ours._loss(CaseForward(model)(batch.images, batch.cases, 4), batch.targets)
            (loss / len(group)).backward()
            losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.train.clip_norm)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(rate * parameter.grad)
    assert_equal(weights(model), weights(ours.model), rtol=1e-4, atol=1e-6)
    assert figures["train/loss"] == pytest.approx(sum(losses) / 3)


def test_no_average_without_a_decay(tmp_path: Path) -> None:
    settings = tiny(tmp_path / "data")
    ours = trainer(settings, tmp_path / "run")
    assert ours.kept_model is ours.model


def test_the_average_is_the_closed_form_of_weights_and_running_statistics(tmp_path: Path) -> None:
    """decay 1 - t^(-2/3) at step t, at most ema_decay; the first step replaces the untrained weights."""
    settings = tiny(tmp_path / "data", backbone={"name": "resnet10t", "feature_stage": 1}, train={"ema_decay": 0.5})
    ours = trainer(settings, tmp_path / "run")
    assert ours._average is not None
    seen: list[dict[str, Tensor]] = []
    update = ours._average.update

    def recording(model: Classifier, step: int) -> None:
        seen.append(weights(model))
        update(model, step=step)

    ours._average.update = recording  # type: ignore[method-assign]
    ours.train_epoch()
    assert len(seen) == ours.progress.steps == 4
    expected = seen[0]
    for step, now in enumerate(seen[1:], start=2):
        decay = min(0.5, 1 - step ** (-2 / 3))
        expected = {
            name: tensor * decay + now[name] * (1 - decay) if tensor.is_floating_point() else now[name]
            for name, tensor in expected.items()
        }
    assert any(name.endswith("running_var") for name in expected)
    assert_equal(weights(ours.kept_model), expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(expected["head.classifier.weight"], seen[-1]["head.classifier.weight"])


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    settings = tiny(
        tmp_path / "data",
        backbone={"name": "resnet10t", "feature_stage": 1},
        train={"ema_decay": 0.5, "num_epochs": 1},
        optimizer={"learning_rate": 0.05},
    )
    out = fitted(settings, tmp_path / "run")
    state = torch.load(out / "last.ckpt", weights_only=True)
    average = {name.removeprefix("module."): tensor for name, tensor in state["average"].items()}
    assert_equal(load_file(out / "best.safetensors"), average)
    val, model = splits(settings)[1], Classifier(settings)
    figures = []
    for kept in (average, state["model"]):
        model.load_state_dict(kept)
        figures.append(validation_figures(predict_logits(model, val.pictures, num_channels=1), val, settings))
    line = logged(out)[0]
    assert figures[0]["val/loss"] == pytest.approx(line["val/loss"], rel=1e-5)
    assert figures[1]["val/loss"] != pytest.approx(line["val/loss"], rel=1e-3)


def test_a_backbone_that_is_kept_does_not_change_in_weights_or_statistics(tmp_path: Path) -> None:
    settings = tiny(
        tmp_path / "data",
        backbone={"name": "resnet10t", "feature_stage": 1},
        freeze={"keep_backbone": True},
        optimizer={"weight_decay": 0.5},
    )
    ours = trainer(settings, tmp_path / "run")
    before = weights(ours.model)
    ours.train_epoch()
    for name, tensor in weights(ours.model).items():
        assert torch.equal(tensor, before[name]) is name.startswith("backbone."), name


def test_a_frozen_backbone_wakes_and_sleeps_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = tiny(
        tmp_path / "data",
        freeze={"backbone_epochs": 1, "gradual_epochs": 1, "cycle_epochs": 3},
        train={"num_epochs": 4},
    )
    ours = trainer(settings, tmp_path / "run")
    changed = []
    with caplog.at_level("INFO", logger="raybox"):
        for _ in range(4):
            before = weights(ours.model)
            ours.train_epoch()
            ours.progress.epoch += 1
            after = weights(ours.model)
            parts = {"stem_": "stem", "stages_0": "stages_0", "stages_1": "stages_1", "head": "head"}
            changed.append({p for p in parts if any(p in n and not torch.equal(before[n], after[n]) for n in before)})
    assert changed == [{"head"}, {"head", "stages_1"}, {"head", "stages_1", "stages_0", "stem_"}, {"head"}]
    messages = [record.getMessage() for record in caplog.records if "trained:" in record.getMessage()]
    assert messages == [
        "from epoch 1 on, trained: head",
        "from epoch 2 on, trained: head, stages_1",
        "from epoch 3 on, trained: head, stages_1, stages_0",
        "from epoch 4 on, trained: head",
    ]


def conditional(root: Path, **changes: Any) -> Stage1Settings:
    """Pleural Effusion as the parent of Lung Lesion, two conditional epochs."""
    hierarchy = {"enabled": True, "parents": {"Lung Lesion": "Pleural Effusion"}, "conditional_epochs": 2}
    return tiny(root, hierarchy=hierarchy, **changes)


def test_children_are_trained_under_positive_parents_then_the_head_on_everything(tmp_path: Path) -> None:
    ours = trainer(conditional(tmp_path / "data", train={"num_epochs": 4}), tmp_path / "run")
    for epoch in range(4):
        before = weights(ours.model)
        ours.train_epoch()
        ours.progress.epoch += 1
        after = weights(ours.model)
        targets = torch.cat([batch.targets for batch in ours._loader()])
        child, parent = targets[:, 0], targets[:, 1]
        is_conditional = epoch < 2
        assert bool(torch.equal(torch.isnan(child), parent != 1)) is is_conditional
        assert not torch.isnan(parent).any()
        backbone_moves = any(not torch.equal(before[n], after[n]) for n in before if n.startswith("backbone."))
        assert backbone_moves is is_conditional
        assert not torch.equal(before["head.classifier.weight"], after["head.classifier.weight"])


def test_the_conditional_epochs_choose_no_model_and_stop_nothing(tmp_path: Path) -> None:
    settings = conditional(
        tmp_path / "data",
        train={"num_epochs": 9, "patience_epochs": 2},
        schedule={"kind": "plateau", "plateau_patience_epochs": 1, "factor": 0.5},
    )
    ours = trainer(settings, tmp_path / "run")
    scores, stale, rates = [0.9, 0.1, 0.5, 0.4, 0.3], [], []
    for score in scores:
        assert not ours.is_done
        ours._begin_epoch()
        ours.end_epoch({"val/auroc": score})
        stale.append(ours.progress.stale_epochs)
        rates.append(ours._schedule.rate)
        assert (tmp_path / "run" / "best.safetensors").exists() is (ours.progress.epoch > 2)
    assert ours.is_done
    assert (ours.progress.best_epoch, ours.progress.best_score) == (3, 0.5)
    assert stale == [0, 0, 0, 1, 2]
    assert rates == pytest.approx([0.003, 0.003, 0.003, 0.0015, 0.00075])


def test_conditional_epochs_must_leave_some_to_choose_from(tmp_path: Path) -> None:
    settings = conditional(tmp_path / "data")
    with pytest.raises(UserError, match=r"conditional_epochs: got 2, expected fewer than train.num_epochs, 2"):
        check_selectable(splits(settings)[1].targets, settings)


def test_validation_multiplies_a_child_by_its_parent(tmp_path: Path) -> None:
    settings = conditional(tmp_path / "data")
    val = splits(settings)[1]
    logits = torch.randn(len(val.targets), 2, generator=torch.Generator().manual_seed(0)).double()
    probabilities = logits.sigmoid()
    probabilities[:, 0] *= probabilities[:, 1]
    expected = torch.nn.functional.binary_cross_entropy(probabilities, torch.from_numpy(val.targets).double())
    figures = validation_figures(logits.float().numpy(), val, settings)
    assert figures["val/loss"] == pytest.approx(float(expected), rel=1e-5)
    plain = validation_figures(logits.float().numpy(), val, tiny(tmp_path / "data"))
    assert plain["val/loss"] != pytest.approx(float(expected), rel=1e-2)


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_shares_of_the_processes_make_the_whole_in_order(tmp_path: Path, num_processes: int) -> None:
    val = splits(tiny(tmp_path / "data"))[1]
    model = Classifier(tiny(tmp_path / "data"))
    shares = [
        predict_logits(model, val.pictures, rows=range(first, len(val.pictures), num_processes), num_channels=1)
        for first in range(num_processes)
    ]
    assert sum(map(len, shares)) == len(val.pictures)
    whole = predict_logits(model, val.pictures, num_channels=1)
    torch.testing.assert_close(torch.from_numpy(interleaved(shares)), torch.from_numpy(whole))


def test_training_stops_after_patience_epochs_without_a_better_score(tmp_path: Path) -> None:
    ours = trainer(tiny(tmp_path / "data", train={"num_epochs": 9, "patience_epochs": 2}), tmp_path / "run")
    for score in (0.5, 0.6, 0.6, 0.1):
        assert not ours.is_done
        ours._begin_epoch()
        ours.end_epoch({"val/auroc": score})
    assert ours.is_done
    assert ours.progress.best_epoch == 2


def test_selecting_score() -> None:
    assert selecting_score({"val/auroc": 0.7}, "auroc") == 0.7
    assert selecting_score({"val/loss": 0.7}, "loss") == -0.7
    assert selecting_score({"val/f1": None}, "f1") == float("-inf")


def test_an_epoch_tells_its_speed(tmp_path: Path) -> None:
    figures = trainer(tiny(tmp_path / "data"), tmp_path / "run").train_epoch()
    assert figures["train/images_per_second"] is not None
    assert figures["train/images_per_second"] > 0
    assert "train/skipped_steps" not in figures


def test_dropout_draws_anew_each_epoch_from_the_seed_alone(tmp_path: Path) -> None:
    settings = tiny(tmp_path / "data", head={"dropout": 0.5}, optimizer={"learning_rate": 1e-12})
    losses = []
    for name in ("one", "other"):
        ours: Trainer = trainer(settings, tmp_path / name)
        torch.manual_seed(len(losses))
        for _ in range(2):
            losses.append(ours.train_epoch()["train/loss"])
            ours.progress.epoch += 1
    assert losses[:2] == losses[2:]
    assert losses[0] != losses[1]


def test_compiling_keeps_names_and_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dynamo alone: its own code generator takes over 30 s here. It was run by hand, with the same losses."""
    compiled: list[CaseForward] = []

    def compile_quickly(self: CaseForward) -> None:
        compiled.append(self)
        torch.nn.Module.compile(self, backend="eager")

    monkeypatch.setattr(CaseForward, "compile", compile_quickly)
    losses, names = [], []
    for wanted in (False, True):
        settings = tiny(tmp_path / "data", train={"compile": wanted, "ema_decay": 0.5}, freeze={"backbone_epochs": 1})
        ours = trainer(settings, tmp_path / str(wanted))
        for _ in range(2):
            losses.append(ours.train_epoch()["train/loss"])
            ours.progress.epoch += 1
        names.append([*ours.model.state_dict(), *ours.kept_model.state_dict()])
        assert len(compiled) == (2 if wanted else 0)  # anew when other parts learn
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-5)
    assert names[0] == names[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_what_the_settings_say(tmp_path: Path, precision: str) -> None:
    settings = tiny(tmp_path / "data", train={"precision": precision})
    ours = trainer(settings, tmp_path / "run")
    seen = []
    convolution = ours.model.get_submodule("backbone.network.stages_1.blocks.0.conv_dw")
    handle = convolution.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    ours.train_epoch()
    handle.remove()
    assert set(seen) == {torch.float32 if precision == "fp32" else torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in ours.model.parameters())


def test_positive_weights_are_of_the_targets_that_are_trained(tmp_path: Path) -> None:
    """Here the child is never positive under its parent, so it has no ratio there and weighs 1."""
    settings = conditional(tmp_path / "data", loss={"max_positive_weight": 3.0}, train={"num_epochs": 3})
    ours = trainer(settings, tmp_path / "run")
    train = splits(settings)[0].targets
    weights_of = []
    for epoch in (0, 2):
        ours._prepare_data(epoch)
        weights_of.append(ours._loss.positive_weight.tolist())
    ratio = [min(3.0, float((column == 0).sum() / (column == 1).sum())) for column in train.T]
    under_parent = train[train[:, 1] == 1, 0]
    assert not under_parent.any()
    assert weights_of[0] == pytest.approx([1.0, ratio[1]])
    assert weights_of[1] == pytest.approx(ratio)


def test_an_epoch_is_logged_though_the_process_ends_while_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that a kill swallowed would be missing for good: the epoch is not made again."""
    settings = tiny(tmp_path / "data", train={"num_epochs": 1})
    end_epoch = Trainer.end_epoch

    def killed(self: Trainer, figures: Any) -> None:
        end_epoch(self, figures)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "end_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(settings, tmp_path / "run")
    monkeypatch.undo()
    assert [line["step"] for line in logged(fitted(settings, tmp_path / "run"))] == [1]


def test_a_batch_that_is_too_small_for_the_norms_is_told(tmp_path: Path) -> None:
    backbone = {"name": "test_resnet", "feature_stage": None}  # a map of one cell
    settings = tiny(tmp_path / "data", backbone=backbone, train={"batch_size": 1}, input={"size_hw": [32, 32]})
    with pytest.raises(UserError, match=r"train\.batch_size: one image per process"):
        trainer(settings, tmp_path / "run").train_epoch()


def test_the_image_that_a_dead_worker_was_reading_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = trainer(tiny(tmp_path / "data", train={"num_workers": 1}), tmp_path / "run")
    read = Pictures.__getitem__
    chosen = next(iter(ours._sampler))[2]  # a case has one image

    def deadly(pictures: Pictures, row: int) -> NetImage:
        if row == chosen:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(pictures, row)

    monkeypatch.setattr(Pictures, "__getitem__", deadly)
    with pytest.raises(UserError, match=r"train\.num_workers: .*while it read image") as told:
        ours.train_epoch()
    assert f"image {ours._train.pictures.image_ids[chosen]};" in str(told.value)
