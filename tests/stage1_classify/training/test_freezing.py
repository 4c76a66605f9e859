"""What is trained in which epoch: the plan, the parts of real networks; frozen parts stay constant at no cost."""

import pytest
import torch
from torch import nn

from stage1_classify.model.backbone import Backbone
from stage1_classify.settings.classifier import BackboneSettings, FreezeSettings
from stage1_classify.training.freezing import Freezing, num_learning_parts, parts_of

IMAGE_HW = (64, 96)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [4, 4, 4, 4, 4, 4, 4, 4]),
        ({"keep_backbone": True}, [0, 0, 0, 0, 0, 0, 0, 0]),
        ({"backbone_epochs": 3}, [0, 0, 0, 4, 4, 4, 4, 4]),
        ({"backbone_epochs": 2, "gradual_epochs": 1}, [0, 0, 1, 2, 3, 4, 4, 4]),
        ({"backbone_epochs": 1, "gradual_epochs": 2}, [0, 1, 1, 2, 2, 3, 3, 4]),
        ({"gradual_epochs": 3}, [1, 1, 1, 2, 2, 2, 3, 3]),
        ({"backbone_epochs": 1, "cycle_epochs": 3}, [0, 4, 4, 0, 4, 4, 0, 4]),
        ({"backbone_epochs": 1, "gradual_epochs": 1, "cycle_epochs": 4}, [0, 1, 2, 3, 0, 1, 2, 3]),
    ],
)
def test_how_many_parts_learn(settings: dict[str, object], expected: list[int]) -> None:
    plan = FreezeSettings.model_validate(settings)
    assert [num_learning_parts(epoch, plan, num_parts=4) for epoch in range(8)] == expected


FAMILIES = [
    ("resnet10t", None, ["act1", "layer1", "layer2", "layer3", "layer4"]),
    ("resnet10t", 2, ["act1", "layer1", "layer2"]),
    ("test_convnext", None, ["stages.0", "stages.1", "stages.2", "stages.3"]),
    ("test_convnext", 1, ["stages_0", "stages_1"]),
    ("efficientnet_b0", None, ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"]),
    ("test_vit", None, [f"blocks.{index}" for index in range(6)]),
    ("test_vit", 3, [f"blocks.{index}" for index in range(4)]),
    (
        "densenet121",
        None,
        [f"features.{name}" for name in ("norm0", "denseblock1", "denseblock2", "denseblock3", "norm5")],
    ),
]


def backbone_of(name: str, stage: int | None) -> Backbone:
    hw = (160, 160) if name == "test_vit" else IMAGE_HW
    return Backbone(BackboneSettings(name=name, feature_stage=stage), hw)


@pytest.mark.parametrize(("name", "stage", "expected"), FAMILIES)
def test_parts_are_timms_stages_and_hold_each_module_once(name: str, stage: int | None, expected: list[str]) -> None:
    backbone = backbone_of(name, stage)
    parts = parts_of(backbone)
    assert [part.name for part in parts] == expected
    assert [module for part in parts for module in part.modules] == list(backbone.modules())
    assert all(any(True for m in part.modules for _ in m.parameters(recurse=False)) for part in parts)


def test_what_lies_between_two_stages_belongs_to_the_later_one() -> None:
    backbone = backbone_of("densenet121", None)
    names = {module: name for name, module in backbone.named_modules()}
    second = [names[module] for module in parts_of(backbone)[2].modules]
    assert "network.features.transition1.conv" in second
    last = [names[module] for module in parts_of(backbone)[-1].modules]
    assert {"network.features.transition3.conv", "network.features.denseblock4"} <= set(last)


def test_a_network_without_listed_stages_is_cut_into_its_children() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3))
    backbone = nn.Sequential()
    backbone.network = network
    assert [part.name for part in parts_of(backbone)] == ["0", "2"]
    backbone.network = nn.ReLU()
    assert [part.name for part in parts_of(backbone)] == ["network"]


def learning_names(backbone: nn.Module) -> set[str]:
    return {name.split(".")[1] for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def test_parts_wake_from_the_head_downwards_and_frozen_norms_keep_their_statistics() -> None:
    torch.manual_seed(0)
    backbone = backbone_of("resnet10t", None)
    freezing = Freezing([backbone], FreezeSettings(backbone_epochs=1, gradual_epochs=1))
    images = torch.rand(2, 1, *IMAGE_HW)

    assert freezing.begin(0)
    assert freezing.learning == ["head"]
    assert freezing.is_partial
    backbone.train()
    freezing.keep_statistics()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    assert not backbone(images).requires_grad
    for name, buffer in backbone.named_buffers():
        assert torch.equal(buffer, before[name]), name

    assert freezing.begin(2)
    assert freezing.learning == ["head", "layer4", "layer3"]
    assert learning_names(backbone) == {"layer3", "layer4"}
    backbone.train()
    freezing.keep_statistics()
    backbone(images).sum().backward()
    for name, buffer in backbone.named_buffers():
        changes = name.startswith(("network.layer3", "network.layer4"))
        assert torch.equal(buffer, before[name]) is not changes, name
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) is name.startswith(("network.layer3", "network.layer4")), name

    assert freezing.begin(9)
    assert not freezing.is_partial
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert not freezing.begin(10)  # nothing changes
    backbone.train()
    freezing.keep_statistics()
    assert all(module.training for module in backbone.modules())


def test_frozen_parts_cost_no_backward() -> None:
    """Counted by the autograd graph: from the loss nothing of a frozen part can be reached."""
    backbone = backbone_of("resnet10t", None)
    freezing = Freezing([backbone], FreezeSettings(gradual_epochs=1))
    sizes = []
    for epoch in (0, 2, 9):
        freezing.begin(epoch)
        sizes.append(_graph_size(backbone(torch.rand(1, 1, *IMAGE_HW)).sum()))
    assert sizes[0] < sizes[1] < sizes[2]


def _graph_size(loss: torch.Tensor) -> int:
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


def test_after_the_conditional_epochs_only_the_head_learns_whatever_else_is_set() -> None:
    backbone = backbone_of("test_convnext", 1)
    settings = FreezeSettings(backbone_epochs=1, cycle_epochs=2)
    freezing = Freezing([backbone], settings, conditional_epochs=3)
    learning = []
    for epoch in range(6):
        freezing.begin(epoch)
        learning.append(len(freezing.learning) - 1)
    assert learning == [0, 2, 0, 0, 0, 0]
