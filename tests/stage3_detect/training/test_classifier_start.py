"""A detector on the classifier's network: its layout, its first weights, and what learns at which rate."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import yaml_model_load

from cxr.config import UserError
from stage1_classify.model.loading import first_member
from stage3_detect.model.checkpoint import read_network
from stage3_detect.training.classifier_start import classifier_start, layout_on, network_on
from tests.stage3_detect.serving.chain_builders import make_classifier_run
from tests.stage3_detect.stage3_builders import FINDINGS, tiny_settings, trainer_of

ON_CLASSIFIER = {"source": "classifier", "learning_rate_share": 0.125}


def test_layout_with_maps_of_three_strides() -> None:
    layout = layout_on(yaml_model_load("yolo26n.yaml"), [-1, 1, "Maps", []], [24, 40, 64])
    assert layout["backbone"] == [
        [-1, 1, "Maps", []],
        [0, 1, "Index", [24, 0]],
        [-1, 1, "Conv", [512, 1, 1]],
        [0, 1, "Index", [40, 1]],
        [-1, 1, "Conv", [512, 1, 1]],
        [0, 1, "Index", [64, 2]],
        [-1, 1, "Conv", [1024, 1, 1]],
        [-1, 1, "SPPF", [1024, 5, 3, True]],
        [-1, 2, "C2PSA", [1024]],
    ]
    assert [row[0] for row in layout["head"]] == [
        *(-1, [-1, 4], -1, -1, [-1, 2], -1),
        *(-1, [-1, 11], -1, -1, [-1, 8], -1, [14, 17, 20]),
    ]


def test_layout_without_a_map_of_stride_32_keeps_the_convolutions() -> None:
    layout = layout_on(yaml_model_load("yolov8n.yaml"), [-1, 1, "Maps", []], [24, 40])
    kinds = [row[2] for row in layout["backbone"]]
    assert kinds == ["Maps", "Index", "Conv", "Index", "Conv", "Conv", "C2f", "SPPF"]
    assert layout["backbone"][5] == [-1, 1, "Conv", [1024, 3, 2]]
    assert layout["head"][1][0] == [-1, 4] and layout["head"][-1][0] == [13, 16, 19]


@pytest.mark.parametrize("architecture", ["yolov10n.yaml", "yolo26n-p2.yaml", "yolo26n-p6.yaml"])
def test_another_architecture_is_refused(architecture: str) -> None:
    with pytest.raises(UserError, match="yolo11 and yolo26"):
        layout_on(yaml_model_load(architecture), [-1, 1, "Maps", []], [24, 40])


@pytest.mark.parametrize(
    ("backbone", "num_maps"), [({"name": "test_convnext"}, 3), ({"name": "test_efficientnet", "feature_stage": 3}, 2)]
)
def test_the_start_holds_the_classifiers_weights(tmp_path: Path, backbone: dict[str, Any], num_maps: int) -> None:
    stage1 = make_classifier_run(tmp_path / "stage1", backbone=backbone)
    settings = tiny_settings(backbone=ON_CLASSIFIER)
    weights = classifier_start(tmp_path, FINDINGS, settings, stage1=stage1)
    assert weights == tmp_path / "weights" / "start.pt"
    network, _ = read_network(weights, what="test", advice="")
    assert network.stride.tolist() == [8, 16, 32] and network.names == dict(enumerate(FINDINGS))
    theirs = {name.replace(".", "_"): value for name, value in first_member(stage1).model.backbone.named_parameters()}
    ours = dict(network.model[0].network.named_parameters())
    for name, value in ours.items():
        short = name.removeprefix("model.").replace(".", "_")
        assert any(key.endswith(short) and torch.equal(value, other) for key, other in theirs.items()), name
    with torch.no_grad():
        assert len(network.model[0](torch.rand(1, 1, 64, 96))) == num_maps
    before = weights.stat().st_mtime_ns
    assert classifier_start(tmp_path, FINDINGS, settings, stage1=tmp_path / "none") == weights
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backbone": {"name": "test_convnext", "feature_stage": 1}}, "strides 4, 8, not at 16"),
        ({"input": {"size_hw": [32, 48], "clahe_clip": 2, "cache_dir": None}}, "CLAHE"),
    ],
)
def test_a_classifier_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    member = first_member(make_classifier_run(tmp_path / "stage1", **changes))
    with pytest.raises(UserError, match=reason):
        network_on(member, "yolo26n.yaml", FINDINGS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"distillation": {"num_epochs": 1}}, "distillation.num_epochs: 1"), ({"model": "other.pt"}, "model: other.pt")],
)
def test_settings_that_contradict_it_are_refused(changes: dict[str, Any], reason: str) -> None:
    assert tiny_settings(**changes) and tiny_settings(backbone=ON_CLASSIFIER)
    with pytest.raises(ValueError, match=f"backbone.source: classifier with {reason}"):
        tiny_settings(backbone=ON_CLASSIFIER, **changes)


def test_the_classifiers_network_learns_more_slowly_and_its_first_stages_do_not(tmp_path: Path) -> None:
    stage1 = make_classifier_run(tmp_path / "stage1", backbone={"name": "test_resnet"})
    settings = tiny_settings(backbone=ON_CLASSIFIER)
    trainer = trainer_of(tmp_path, backbone=ON_CLASSIFIER)
    trainer.model = str(classifier_start(tmp_path, FINDINGS, settings, stage1=stage1))
    trainer._setup_train()
    rates = {id(one): group["initial_lr"] for group in trainer.optimizer.param_groups for one in group["params"]}
    parameters = dict(trainer.model.named_parameters())
    assert len(rates) == sum(len(group["params"]) for group in trainer.optimizer.param_groups) == len(parameters)
    share = {name: rates[id(one)] / settings.train.learning_rate for name, one in parameters.items()}
    assert {value for name, value in share.items() if name.startswith("model.0.")} == {0.125}
    assert {value for name, value in share.items() if not name.startswith("model.0.")} == {1}
    frozen = {name for name, one in parameters.items() if not one.requires_grad}
    first = ("model.0.network.model.conv1.", "model.0.network.model.bn1.", "model.0.network.model.layer1.")
    assert frozen == {name for name in parameters if name.startswith(first)}
    trainer._model_train()
    norms = {name: one for name, one in trainer.model.named_modules() if isinstance(one, torch.nn.BatchNorm2d)}
    still = {name for name, one in norms.items() if not one.training}
    assert still == {name for name in norms if f"{name}.".startswith(first)} and len(still) < len(norms)
