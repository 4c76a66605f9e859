"""Co-teaching: which boxes are left out, and that each network is trained without those that the other one doubts."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from stage3_detect.training.co_teaching import CoTeachingModel, doubtful, drop_rate_at, networks_in
from stage3_detect.training.loss import NoisyLabelModel, as_ultralytics_model, losses_of_boxes
from tests.stage3_detect.stage3_builders import trainer_of

NAN = math.nan


def test_no_box_is_doubtful_without_boxes() -> None:
    assert doubtful(torch.zeros(2, 0), 0.5).shape == (2, 0)
    assert not doubtful(torch.full((2, 3), NAN), 0.5).any()


@pytest.mark.parametrize(
    ("rate", "named"), [(0.2, []), (0.25, [(1, 0)]), (0.5, [(0, 1), (1, 0)]), (0.99, [(0, 1), (0, 2), (1, 0)])]
)
def test_the_share_with_the_highest_loss_is_doubtful(rate: float, named: list[tuple[int, int]]) -> None:
    losses = torch.tensor([[0.1, 0.7, 0.3], [2.0, NAN, NAN]])  # four boxes and padding
    assert [tuple(place) for place in doubtful(losses, rate).nonzero().tolist()] == named


def test_of_equal_losses_no_more_than_the_share_is_doubtful() -> None:
    assert doubtful(torch.ones(2, 2), 0.5).sum() == 2


def test_the_drop_rate_grows_in_the_first_half() -> None:
    assert [drop_rate_at(epoch, 8, rate=0.2) for epoch in (0, 1, 2, 4, 7)] == pytest.approx([0, 0.05, 0.1, 0.2, 0.2])
    assert drop_rate_at(0, 1, rate=0.2) == 0


def test_the_loss_of_a_box_is_the_mean_over_its_anchors() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 20], [0, 0, 10, 10], [5, 5, 9, 9], [0, 0, 1, 1]]])
    scores = torch.tensor([[[0.1, 0.5], [0.1, 0.25], [1.0, 0.9], [0.3, 0.3]]])
    gt_boxes = torch.tensor([[[0.0, 0, 10, 20], [5, 5, 9, 9], [0, 0, 0, 0]]])
    gt_labels = torch.tensor([[[1.0], [0], [0]]])
    index, is_positive = torch.tensor([[0, 0, 1, 0]]), torch.tensor([[True, True, True, False]])
    losses = losses_of_boxes(scores, boxes, gt_labels, gt_boxes, index, is_positive)
    first = (-math.log(0.5) + 0 - math.log(0.25) + 0.5) / 2  # IoU 1 and 1/2
    assert losses[0, :2].tolist() == pytest.approx([first, 0], abs=1e-5)
    assert losses[0, 2].isnan()


@pytest.fixture(params=["yolo26n.yaml", "yolo11n.yaml"])
def model(request: pytest.FixtureRequest) -> CoTeachingModel:
    torch.manual_seed(0)
    made: Any = CoTeachingModel(request.param, ch=1, nc=2, verbose=False)
    made.peer = NoisyLabelModel(request.param, ch=1, nc=2, verbose=False)
    made.args = get_cfg()
    return made.train()


def batch(*weights: float) -> dict[str, Any]:
    """Two images of 64 x 96 pixels with three boxes of these weights."""
    draw = torch.Generator().manual_seed(1)
    return {
        "img": torch.rand(2, 1, 64, 96, generator=draw),
        "batch_idx": torch.tensor([0.0, 0, 1]),
        "cls": torch.tensor([[0.0], [1], [0]]),
        "bboxes": torch.tensor([[0.3, 0.5, 0.2, 0.4], [0.7, 0.5, 0.3, 0.3], [0.5, 0.4, 0.4, 0.5]]),
        "label_noise": torch.tensor([[weight, 0] for weight in weights]),
    }


@dataclass
class Alone:
    """Loss (3,) of one network, its parts to be logged, and the losses of its boxes (B, n)."""

    loss: Tensor
    parts: dict[str, Tensor]
    boxes: Tensor


def alone(network: Any, given: dict[str, Any]) -> Alone:
    loss: Any = NoisyLabelModel.init_criterion(network)
    values, parts = loss(network.forward(given["img"]), given)
    return Alone(values.detach(), parts, getattr(loss, "one2many", loss).assigner.box_losses)


def test_at_rate_0_both_networks_are_trained_as_if_alone(model: CoTeachingModel) -> None:
    given = batch(1, 1, 1)
    values, parts = model.loss(given)
    own, peers = (alone(network, given) for network in networks_in(model))
    assert torch.equal(values.detach(), own.loss + peers.loss)
    assert parts == own.parts


def test_each_network_is_trained_without_what_the_other_doubts(model: CoTeachingModel) -> None:
    given, model.drop_rate = batch(1, 1, 1), 0.4  # one box of three
    values, _ = model.loss(given)
    pair = networks_in(model)
    named = [int(alone(network, given).boxes[[0, 0, 1], [0, 1, 0]].argmax()) for network in pair]
    without = [batch(*(float(place != other) for place in range(3))) for other in reversed(named)]
    expected = sum(alone(network, one).loss for network, one in zip(pair, without, strict=True))
    assert torch.equal(values.detach(), expected)
    assert not torch.equal(values.detach(), sum(alone(network, given).loss for network in pair))


def test_validation_is_that_of_the_detector(model: CoTeachingModel) -> None:
    given = batch(1, 1, 1)
    model.drop_rate = 0.4
    with torch.no_grad():
        values, _ = model.eval().loss(given, model.forward(given["img"]))
    plain = NoisyLabelModel(model.yaml, ch=1, nc=2, verbose=False).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    plain.args = model.args
    with torch.no_grad():
        assert torch.equal(values, plain.loss(given, plain.forward(given["img"]))[0])


def test_a_published_file_has_no_peer(model: CoTeachingModel) -> None:
    published = as_ultralytics_model(model)
    assert type(published) is DetectionModel
    assert not [name for name in published.state_dict() if "peer" in name]
    assert not {"peer", "drop_rate", "shared_iou"} & (vars(published).keys() | published._modules.keys())


def test_the_peer_starts_from_the_same_backbone_and_another_neck_and_head(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, noise={"co_teaching_rate": 0.2})
    model: Any = trainer.get_model("yolo26n.yaml")
    assert isinstance(model, CoTeachingModel) and networks_in(model) == [model, model.peer]
    own, peers = (network.state_dict() for network in networks_in(model))
    first_of_neck = len(model.yaml["backbone"])
    kernels = [name for name in peers if name.endswith("conv.weight")]
    equal = {name: torch.equal(own[name], peers[name]) for name in kernels}
    assert {name for name in kernels if int(name.split(".")[1]) < first_of_neck} == {n for n in kernels if equal[n]}
    assert 0 < sum(equal.values()) < len(equal)


def test_without_co_teaching_there_is_no_peer(tmp_path: Path) -> None:
    model = trainer_of(tmp_path).get_model("yolo26n.yaml")
    assert type(model) is NoisyLabelModel and networks_in(model) == [model]
