"""Optimisers and schedules: which parameters decay, and each rate against its closed form."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from stage1_classify.model.classifier import Classifier
from stage1_classify.settings.classifier import OptimizerSettings, ScheduleSettings
from stage1_classify.training.optimizers import make_optimizer, make_schedule, parameter_groups
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

RATE, SCALE = 0.01, 0.25
EPOCHS, STEPS, CYCLE = 6, 5, 3


class Network(nn.Module):
    """A backbone with a table that timm would exempt from decay, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), Positions())
        self.head = nn.Linear(2, 3)


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 2))

    def no_weight_decay(self) -> set[str]:
        return {"table"}


def rates(
    schedule: ScheduleSettings, scores: list[float | None] | None = None, *, num_epochs: int = EPOCHS, **changes: object
) -> list[list[float]]:
    """The rate of each parameter group before each step, (epochs * STEPS, groups)."""
    given = {"learning_rate": RATE, "backbone_scale": SCALE, **changes}
    optimizer = make_optimizer(Network(), OptimizerSettings.model_validate(given))
    follows = make_schedule(optimizer, schedule, num_epochs=num_epochs, steps_per_epoch=STEPS, cycle_epochs=CYCLE)
    seen = []
    for epoch in range(num_epochs):
        follows.begin_epoch(epoch)
        for _ in range(STEPS):
            seen.append([group["lr"] for group in optimizer.param_groups])
            assert follows.rate == pytest.approx(seen[-1][0])
            optimizer.step()
            follows.after_step()
        follows.after_epoch(None if scores is None else scores[epoch])
    return seen


def heads(seen: list[list[float]]) -> list[float]:
    return [groups[0] for groups in seen]


def test_weights_decay_and_biases_norms_and_tables_do_not() -> None:
    model = Network()
    groups = parameter_groups(model, OptimizerSettings(learning_rate=RATE, backbone_scale=SCALE, weight_decay=0.3))
    names = {parameter: name for name, parameter in model.named_parameters()}
    listed = [([names[p] for p in group["params"]], group["lr"], group["weight_decay"]) for group in groups]
    assert listed == [
        (["head.weight"], RATE, 0.3),
        (["head.bias"], RATE, 0.0),
        (["backbone.0.weight"], RATE * SCALE, 0.3),
        (["backbone.0.bias", "backbone.1.weight", "backbone.1.bias", "backbone.2.table"], RATE * SCALE, 0.0),
    ]


def test_each_stage_has_a_share_of_the_rate_of_the_stage_after_it() -> None:
    model = Network()
    settings = OptimizerSettings(learning_rate=RATE, backbone_scale=SCALE, layer_decay=0.5)
    rate_of = {p: group["lr"] for group in parameter_groups(model, settings) for p in group["params"]}
    expected = {"head": 1, "backbone.2": SCALE, "backbone.1": SCALE / 2, "backbone.0": SCALE / 4}
    assert {name: rate_of[parameter] for name, parameter in model.named_parameters()} == {
        name: RATE * expected[name.rpartition(".")[0]] for name, _ in model.named_parameters()
    }


@pytest.mark.parametrize("kind", ["one_cycle", "cosine", "warm_restarts", "step", "constant"])
def test_each_cycle_has_the_whole_schedule_times_its_factor(kind: str) -> None:
    given = {"kind": kind, "restart_epochs": 2, "step_epochs": 2}
    seen = rates(ScheduleSettings.model_validate(given | {"cycle_factors": [1.0, 0.1]}))
    first, second = seen[: CYCLE * STEPS], seen[CYCLE * STEPS :]
    assert first == rates(ScheduleSettings.model_validate(given), num_epochs=CYCLE)
    assert second == [[pytest.approx(0.1 * rate) for rate in groups] for groups in first]


def test_every_parameter_of_a_classifier_is_in_one_group(tmp_path: Path) -> None:
    model = Classifier(stage1_settings(patch_folder(tmp_path)))
    groups = parameter_groups(model, OptimizerSettings())
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))
    assert all(p.ndim <= 1 for group in groups if group["weight_decay"] == 0 for p in group["params"])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
        ("adagrad", torch.optim.Adagrad),
    ],
)
def test_each_optimiser_moves_as_torchs_own(kind: str, expected: type[torch.optim.Optimizer]) -> None:
    settings = OptimizerSettings.model_validate(
        {"kind": kind, "learning_rate": RATE, "weight_decay": 0.1, "momentum": 0.7, "backbone_scale": 1.0}
    )
    torch.manual_seed(0)
    model = Network()
    weight = model.head.weight.detach().clone().requires_grad_()
    momentum = {"momentum": 0.7} if kind in ("sgd", "rmsprop") else {}
    optimizer = make_optimizer(model, settings)
    assert type(optimizer) is expected
    reference = expected([weight], lr=RATE, weight_decay=0.1, **momentum)
    for step in range(1, 4):
        model.head.weight.grad = weight.grad = torch.full_like(weight, 0.5 * step)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(model.head.weight, weight, rtol=0, atol=0)


def test_one_cycle_rises_and_falls_along_cosines() -> None:
    seen = heads(rates(ScheduleSettings(kind="one_cycle", warmup_share=0.4)))
    peak, last = 0.4 * EPOCHS * STEPS - 1, EPOCHS * STEPS - 1

    def between(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    for step, rate in enumerate(seen):
        rising = between(RATE / 25, RATE, step / peak)
        falling = between(RATE, RATE / 25 / 1e4, (step - peak) / (last - peak))
        assert rate == pytest.approx(rising if step <= peak else falling)


def test_one_cycle_leaves_the_momentum_of_sgd_and_cycles_beta_of_adamw() -> None:
    for kind, key, changes in (("sgd", "momentum", False), ("adamw", "betas", True)):
        optimizer = make_optimizer(Network(), OptimizerSettings.model_validate({"kind": kind, "momentum": 0.6}))
        schedule = make_schedule(optimizer, ScheduleSettings(), num_epochs=2, steps_per_epoch=10)
        before = optimizer.param_groups[0][key]
        optimizer.step()
        schedule.after_step()
        assert (optimizer.param_groups[0][key] != before) is changes


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_of_very_few_steps_runs(steps: int) -> None:
    optimizer = make_optimizer(Network(), OptimizerSettings())
    schedule = make_schedule(optimizer, ScheduleSettings(), num_epochs=1, steps_per_epoch=steps)
    for _ in range(steps):
        optimizer.step()
        schedule.after_step()
    assert 0 < schedule.rate <= 1e-3


def test_cosine_falls_from_the_highest_rate_to_nothing() -> None:
    seen = heads(rates(ScheduleSettings(kind="cosine")))
    total = EPOCHS * STEPS
    assert seen == pytest.approx([RATE / 2 * (1 + math.cos(math.pi * step / total)) for step in range(total)])


def test_warm_restarts_begin_again_every_restart_epochs() -> None:
    seen = heads(rates(ScheduleSettings(kind="warm_restarts", restart_epochs=2)))
    cycle = 2 * STEPS
    expected = [RATE / 2 * (1 + math.cos(math.pi * (step % cycle) / cycle)) for step in range(EPOCHS * STEPS)]
    assert seen == pytest.approx(expected)


def test_step_falls_by_the_factor_every_step_epochs() -> None:
    seen = heads(rates(ScheduleSettings(kind="step", step_epochs=2, factor=0.5)))
    assert seen == pytest.approx([RATE * 0.5 ** (step // STEPS // 2) for step in range(EPOCHS * STEPS)])


def test_constant_stays() -> None:
    assert heads(rates(ScheduleSettings(kind="constant"))) == [RATE] * (EPOCHS * STEPS)


@pytest.mark.parametrize(
    ("scores", "patience", "falls"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, [0, 0, 0, 0, 0, 0]),
        ([0.5, 0.5, 0.4, 0.6, 0.1, 0.1], 1, [0, 0, 1, 2, 2, 3]),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 2, [0, 0, 0, 1, 1, 2]),
        ([-9.0, -8.0, -8.5, -8.0, -7.9, -7.8], 2, [0, 0, 0, 0, 1, 1]),
        ([None, None, None, 0.5, 0.4, 0.3], 1, [0, 0, 0, 0, 0, 1]),
        ([float("-inf")] * 6, 2, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_plateau_falls_after_patience_epochs_without_a_better_score(
    scores: list[float | None], patience: int, falls: list[int]
) -> None:
    schedule = ScheduleSettings(kind="plateau", plateau_patience_epochs=patience, factor=0.5)
    seen = heads(rates(schedule, scores))[::STEPS]
    assert seen == pytest.approx([RATE * 0.5**count for count in falls])


@pytest.mark.parametrize("kind", ["one_cycle", "cosine", "warm_restarts", "step", "plateau", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop", "adagrad"])
def test_the_backbones_rate_stays_its_share_of_the_heads(kind: str, optimizer: str) -> None:
    schedule = ScheduleSettings.model_validate({"kind": kind, "step_epochs": 1, "plateau_patience_epochs": 1})
    for head, plain_head, backbone, plain_backbone in rates(schedule, [0.0] * EPOCHS, kind=optimizer):
        assert plain_head == head
        assert backbone == plain_backbone == pytest.approx(SCALE * head)


@pytest.mark.parametrize("kind", ["one_cycle", "cosine", "warm_restarts", "step", "plateau", "constant"])
def test_a_schedule_goes_on_where_its_state_was_taken(kind: str) -> None:
    settings = ScheduleSettings.model_validate(
        {"kind": kind, "step_epochs": 1, "plateau_patience_epochs": 1, "restart_epochs": 1}
    )
    pairs = []
    for _ in range(2):
        optimizer = make_optimizer(Network(), OptimizerSettings())
        pairs.append((optimizer, make_schedule(optimizer, settings, num_epochs=4, steps_per_epoch=3)))

    def train(which: int, epochs: range) -> None:
        optimizer, schedule = pairs[which]
        for epoch in epochs:
            for _ in range(3):
                optimizer.step()
                schedule.after_step()
            schedule.after_epoch(-float(epoch))

    train(0, range(2))
    pairs[1][0].load_state_dict(pairs[0][0].state_dict())
    pairs[1][1].load_state_dict(pairs[0][1].state_dict())
    train(0, range(2, 4))
    train(1, range(2, 4))
    assert pairs[0][1].rate == pairs[1][1].rate
    assert pairs[0][0].param_groups[0]["lr"] == pairs[1][0].param_groups[0]["lr"]
