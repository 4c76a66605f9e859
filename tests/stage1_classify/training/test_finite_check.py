"""A loss or gradient that is not finite ends the run, named by step, images and layer; overflows are counted."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxr.config import UserError
from stage1_classify.data.batches import Batch, TrainingSet
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.finite_check import FiniteCheck, bad_gradients, find_non_finite, watched_outputs
from stage1_classify.training.train import fit
from stage1_classify.training.trainer import Trainer
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings
from tests.stage1_classify.training.train_builders import PLAIN, fitted, float16_fabric, logged, splits, trainer

FINE, NAN, INF = torch.tensor(1.0), torch.tensor(math.nan), torch.tensor(math.inf)


def tiny(root: Path, **changes: Any) -> Stage1Settings:
    given: dict[str, Any] = {"augment": PLAIN, "train": {"precision": "fp32", "num_epochs": 3}, **changes}
    given["train"] = {"precision": "fp32", "num_epochs": 3, **changes.get("train", {})}
    return stage1_settings(patch_folder(root), **given)


def batch_of(images: Tensor) -> Batch:
    count = len(images)
    return Batch(images, torch.arange(count), torch.zeros(count, 1), torch.arange(count))


def test_without_scaled_gradients_no_overflow_is_tolerated() -> None:
    check = FiniteCheck(max_skipped=None)
    assert check.check(FINE, FINE) == "finite"
    for loss, norm in ((NAN, NAN), (INF, FINE), (FINE, INF), (FINE, NAN)):
        assert check.check(loss, norm) == "failed"


def test_overflows_are_skipped_until_too_many_come_in_a_row() -> None:
    check = FiniteCheck(max_skipped=2)
    norms = [INF, INF, FINE, NAN, INF, INF]
    outcomes = [check.check(FINE, norm) for norm in norms]
    assert outcomes == ["skipped", "skipped", "finite", "skipped", "skipped", "failed"]
    assert check.skipped == 5
    assert FiniteCheck(max_skipped=0).check(FINE, INF) == "failed"


def test_a_loss_that_is_not_finite_is_never_tolerated() -> None:
    assert FiniteCheck(max_skipped=5).check(NAN, NAN) == "failed"


def test_the_count_is_saved_and_restored() -> None:
    check, other = FiniteCheck(max_skipped=2), FiniteCheck(max_skipped=2)
    check.check(FINE, INF)
    other.load_state_dict(check.state_dict())
    assert other == check


class Cube(nn.Module):
    """Finite forward, infinite gradient at 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sqrt(inputs.abs())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1))


def test_nothing_is_found_in_a_finite_step() -> None:
    model = network()
    assert find_non_finite(model, [batch_of(torch.ones(2, 3))], lambda b: model(b.images).sum()) is None
    assert find_non_finite(model, [], lambda b: model(b.images).sum()) is None


@pytest.mark.parametrize(("poisoned", "expected"), [("0", "0"), ("2.0", "2.0"), ("3", "3")])
def test_the_innermost_first_layer_is_named(poisoned: str, expected: str) -> None:
    model = network()
    with torch.no_grad():
        model.get_submodule(poisoned).bias[0] = math.nan
    found = find_non_finite(model, [batch_of(torch.ones(2, 3))], lambda b: model(b.images).sum())
    assert found is not None
    assert found.what == f"the output of layer {expected}"
    assert found.rows == ()  # all of them


def test_a_poisoned_picture_is_named_and_the_batch_it_is_in() -> None:
    model, images = network(), torch.ones(3, 3)
    images[1, 2] = math.inf
    batches = [batch_of(torch.ones(2, 3)), batch_of(images)]
    found = find_non_finite(model, batches, lambda b: model(b.images).sum())
    assert found is not None
    assert (found.what, found.rows) == ("the network's input", (1,))
    assert found.batch is batches[1]


def test_a_layer_that_overflows_for_some_images_alone_names_them() -> None:
    model, images = network(), torch.ones(3, 3)
    images[2] = 3e38
    found = find_non_finite(model, [batch_of(images)], lambda b: model(b.images * 100).sum())
    assert found is not None
    assert (found.what, found.rows) == ("the output of layer 0", (2,))


def test_the_loss_alone_can_be_not_finite() -> None:
    model = network()
    found = find_non_finite(model, [batch_of(torch.ones(2, 3))], lambda b: model(b.images).sum() / 0.0)
    assert found is not None
    assert found.what == "the loss, of finite logits"


def test_gradients_that_are_not_finite_are_named_from_the_last_layer_on() -> None:
    model = nn.Sequential(nn.Linear(3, 2), Cube(), nn.Linear(2, 1))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    batch = batch_of(torch.ones(2, 3))
    found = find_non_finite(model, [batch], lambda b: model(b.images).sum())
    assert found is not None
    assert found.what == "the gradient of 0.bias, 0.weight"
    assert all(parameter.grad is None for parameter in model.parameters())
    model[0].requires_grad_(False)
    assert bad_gradients(model, model(batch.images).sum()) == []


def test_hooks_are_released_also_after_an_error() -> None:
    model = network()
    with pytest.raises(ZeroDivisionError), watched_outputs(model, 2):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in model.modules())


def poison_after_first_epoch(monkeypatch: pytest.MonkeyPatch, poison: Any) -> None:
    """Call `poison(trainer)` when the second epoch begins."""
    original = Trainer.train_epoch

    def poisoned(self: Trainer) -> dict[str, float | None]:
        if self.progress.epoch == 1:
            poison(self)
        return original(self)

    monkeypatch.setattr(Trainer, "train_epoch", poisoned)


def test_a_poisoned_weight_ends_the_run_and_leaves_the_last_good_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, before = tiny(tmp_path / "data"), {}

    def poison(self: Trainer) -> None:
        before.update({path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()})
        with torch.no_grad():
            layer = self.model.get_submodule("backbone.network.stages_1.blocks.0.conv_dw")
            layer.weight[0] = math.nan

    poison_after_first_epoch(monkeypatch, poison)
    with pytest.raises(UserError) as caught:
        fitted(settings, tmp_path / "run")
    first, images, advice = caught.value.problems
    assert "epoch 2, step 1;" in first
    assert "the output of layer backbone.network.stages_1.blocks.0.conv_dw" in first
    assert images.count("images/p") == settings.train.batch_size
    assert "optimizer.learning_rate" in advice
    assert {"last.ckpt", "best.safetensors"} <= set(before)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}

    monkeypatch.undo()
    going_on = trainer(settings, tmp_path / "run")
    assert going_on.progress.epoch == 1
    assert math.isfinite(going_on.train_epoch()["train/loss"] or math.nan)


def test_a_poisoned_picture_ends_the_run_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny(tmp_path / "data", train={"accumulate_steps": 2})
    train, val = splits(settings)
    original, bad = TrainingSet._augmented, 7

    def augmented(self: TrainingSet, row: int) -> Tensor:
        return original(self, row) / (0.0 if row == bad else 1.0)

    monkeypatch.setattr(TrainingSet, "_augmented", augmented)
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError) as caught:
        fit(make_fabric(settings), train, val, settings, tmp_path / "run")
    first, images, _ = caught.value.problems
    name = train.pictures.image_ids[bad]
    assert f"the network's input, for {name}" in first
    assert name in images
    assert images.count("images/p") == settings.train.batch_size  # the affected one of the two batches of that step


def test_validation_that_is_not_finite_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny(tmp_path / "data")
    trained = trainer(settings, tmp_path / "run")
    trained.train_epoch()
    with torch.no_grad():
        trained.model.head.classifier.bias[1] = math.inf
    val = splits(settings)[1]
    with pytest.raises(UserError, match=rf"logits of {len(val.pictures)} of {len(val.pictures)} images are not"):
        trained.validate(val)


def test_float16_overflows_are_skipped_counted_and_forgotten(tmp_path: Path) -> None:
    """A scale of 2^60 overflows until it has halved often enough; a skipped step changes neither rate nor weights."""
    settings = tiny(tmp_path / "data", train={"max_skipped_steps": 60}, schedule={"kind": "cosine"})
    trained = trainer(settings, tmp_path / "run", float16_fabric(2.0**24))
    figures = trained.train_epoch()
    steps = len(trained._sampler)
    skipped = figures["train/skipped_steps"]
    assert skipped is not None
    assert 0 < skipped < steps
    assert trained.progress.steps == steps - skipped
    total = settings.train.num_epochs * steps
    expected = 0.003 / 2 * (1 + math.cos(math.pi * trained.progress.steps / total))
    assert figures["train/learning_rate"] == pytest.approx(expected)
    assert figures["train/loss"] is not None
    assert math.isfinite(figures["train/loss"])


def test_too_many_float16_overflows_in_a_row_end_the_run(tmp_path: Path) -> None:
    settings = tiny(tmp_path / "data", train={"max_skipped_steps": 1})
    with pytest.raises(UserError, match=r"epoch 1, step 2; first: the gradient of"):
        fitted(settings, tmp_path / "run", float16_fabric(2.0**60))


def test_float16_goes_on_with_its_scale_and_count(tmp_path: Path) -> None:
    settings = tiny(tmp_path / "data", train={"max_skipped_steps": 60, "num_epochs": 2})
    whole = fitted(settings, tmp_path / "whole", float16_fabric(2.0**24))
    halves = tmp_path / "halves"
    first = trainer(settings, halves, float16_fabric(2.0**24))
    first.end_epoch(first.train_epoch() | first.validate(splits(settings)[1]))
    fitted(settings, halves, float16_fabric(2.0**3))
    assert logged(halves)[-1] == logged(whole)[-1]
    one, other = (torch.load(out / "last.ckpt", weights_only=True) for out in (whole, halves))
    assert one["scaler"] == other["scaler"]
    assert one["finite_check"] == other["finite_check"]
    for name, tensor in one["model"].items():
        torch.testing.assert_close(other["model"][name], tensor, rtol=0, atol=0)


def test_float16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="fp16, which needs a GPU"):
        make_fabric(tiny(tmp_path / "data", train={"precision": "fp16"}))
