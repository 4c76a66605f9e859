"""The noisy-label loss: equal to ultralytics' own without label noise, and its effect on the gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

from stage3_detect.training.loss import (
    NoisyLabelAssigner,
    NoisyLabelLoss,
    NoisyLabelModel,
    as_ultralytics_model,
    make_loss,
)

NUM_CLASSES = 2
FEATURES_HW = [(12, 16), (6, 8), (3, 4)]
"""Of a 96 x 128 image at strides 8, 16, 32."""
LEFT, RIGHT = (0.25, 0.5, 0.25, 0.5), (0.75, 0.5, 0.25, 0.5)
WHOLE = (0.5, 0.5, 1.0, 1.0)


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    torch.manual_seed(0)
    made = DetectionModel("yolo11n.yaml", ch=1, nc=NUM_CLASSES, verbose=False)
    made.args = get_cfg()
    return made


def batch_of(*rows: tuple[int, int, tuple[float, ...]], noise: list[tuple[float, int]] | None = None) -> Any:
    """rows: image, class, centre-size box; noise: weight and whether it is a region, one a row."""
    batch = {
        "batch_idx": torch.tensor([float(row[0]) for row in rows]),
        "cls": torch.tensor([[float(row[1])] for row in rows]).reshape(-1, 1),
        "bboxes": torch.tensor([row[2] for row in rows]).reshape(-1, 4),
    }
    return batch if noise is None else batch | {"label_noise": torch.tensor(noise).reshape(-1, 2)}


def gradients(loss: Any, batch: Any, *, num_images: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (3,), gradient of the scores (B, K, A) and of the box distributions, at fixed predictions."""
    number = sum(height * width for height, width in FEATURES_HW)
    draw = torch.Generator().manual_seed(3)
    scores = torch.randn(num_images, NUM_CLASSES, number, generator=draw).requires_grad_()
    boxes = torch.randn(num_images, 64, number, generator=draw).requires_grad_()
    features = [torch.zeros(num_images, 8, *size) for size in FEATURES_HW]
    values, _ = loss.loss({"boxes": boxes, "scores": scores, "feats": features}, batch)
    values.sum().backward()
    assert scores.grad is not None and boxes.grad is not None
    return values.detach(), scores.grad, boxes.grad


def anchor_centres() -> Tensor:
    """(A, 2) x, y in pixels of the 128 x 96 image."""
    points = [
        (stride * (column + 0.5), stride * (row + 0.5))
        for stride, (height, width) in zip((8, 16, 32), FEATURES_HW, strict=True)
        for row in range(height)
        for column in range(width)
    ]
    return torch.tensor(points)


@pytest.mark.parametrize("architecture", ["yolo26n.yaml", "yolo11n.yaml"])
@pytest.mark.parametrize("num_boxes", [0, 5])
def test_without_noise_loss_and_gradients_are_ultralytics_own(architecture: str, num_boxes: int) -> None:
    torch.manual_seed(0)
    plain = DetectionModel(architecture, ch=1, nc=3, verbose=False)
    ours = NoisyLabelModel(architecture, ch=1, nc=3, verbose=False)
    ours.load_state_dict(plain.state_dict())
    plain.args = ours.args = get_cfg()
    draw = torch.Generator().manual_seed(1)
    batch = {
        "img": torch.rand(3, 1, 64, 96, generator=draw),
        "batch_idx": torch.tensor([0.0, 0, 0, 2, 2])[:num_boxes],
        "cls": torch.tensor([[0.0], [1], [2], [0], [0]])[:num_boxes],
        "bboxes": (torch.rand(5, 4, generator=draw) * 0.3 + 0.3)[:num_boxes],
    }
    losses = []
    for made, extra in ((plain, {}), (ours, {"label_noise": torch.tensor([[1.0, 0]] * 5)[:num_boxes]})):
        made.train()
        values, _ = made({**batch, **extra})
        values.sum().backward()
        losses.append(values.detach())
    assert torch.equal(*losses)
    pairs = list(zip(plain.parameters(), ours.parameters(), strict=True))
    assert all(torch.equal(p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None)
    assert sum(p.grad is not None for p, _ in pairs) > 100


def test_validation_batches_know_no_noise(model: DetectionModel) -> None:
    batch = batch_of((0, 1, LEFT))
    wanted = gradients(v8DetectionLoss(model), batch)
    got = gradients(make_loss(model, shared_iou=0.8), batch)
    assert all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True))


def test_an_ignore_region_takes_the_penalty_of_its_class_away_inside_and_nowhere_else(model: DetectionModel) -> None:
    plain = gradients(v8DetectionLoss(model), batch_of((0, 1, LEFT)))
    noisy = batch_of((0, 1, LEFT), (0, 0, RIGHT), noise=[(1, 0), (0, 1)])
    loss, scores, boxes = gradients(make_loss(model, shared_iou=None), noisy)
    x, y = anchor_centres().unbind(1)
    inside = (x >= 80) & (x <= 112) & (y >= 24) & (y <= 72)
    assert inside.sum() == 4 * 6 + 2 * 4 + 2 * 1  # edges count as inside
    assert (scores[0, 0, inside] == 0).all()
    assert torch.equal(scores[0, 0, ~inside], plain[1][0, 0, ~inside])
    assert torch.equal(scores[0, 1], plain[1][0, 1])
    assert torch.equal(boxes, plain[2])
    assert loss[1] < plain[0][1]


def test_a_box_inside_an_ignore_region_of_its_class_is_still_learned(model: DetectionModel) -> None:
    plain = gradients(v8DetectionLoss(model), batch_of((0, 1, LEFT)))
    noisy = batch_of((0, 1, LEFT), (0, 1, WHOLE), noise=[(1, 0), (0, 1)])
    _, scores, boxes = gradients(make_loss(model, shared_iou=None), noisy)
    learned = scores[0, 1] != 0
    assert 1 <= learned.sum() <= 10  # the anchors that ultralytics gives to a box
    assert torch.equal(scores[0, 1, learned], plain[1][0, 1, learned])
    assert torch.equal(boxes, plain[2])


def test_a_class_that_is_not_mentioned_counts_by_its_weight(model: DetectionModel) -> None:
    plain = gradients(v8DetectionLoss(model), batch_of((0, 1, LEFT)))
    noisy = batch_of((0, 1, LEFT), (0, 0, WHOLE), noise=[(1, 0), (0.25, 1)])
    _, scores, _ = gradients(make_loss(model, shared_iou=None), noisy)
    assert torch.allclose(scores[0, 0], 0.25 * plain[1][0, 0], rtol=1e-6)
    assert torch.equal(scores[0, 1], plain[1][0, 1])


def test_where_regions_overlap_the_least_weight_holds(model: DetectionModel) -> None:
    noisy = batch_of((0, 0, WHOLE), (0, 0, RIGHT), (0, 1, WHOLE), noise=[(0.5, 1), (0, 1), (0, 1)])
    plain = gradients(v8DetectionLoss(model), batch_of())
    _, scores, _ = gradients(make_loss(model, shared_iou=None), noisy)
    x, y = anchor_centres().unbind(1)
    inside = (x >= 80) & (x <= 112) & (y >= 24) & (y <= 72)
    assert (scores[0, 0, inside] == 0).all()
    assert torch.allclose(scores[0, 0, ~inside], 0.5 * plain[1][0, 0, ~inside], rtol=1e-6)
    assert (scores[0, 1] == 0).all()


def test_a_region_of_one_image_leaves_the_other_alone(model: DetectionModel) -> None:
    plain = gradients(v8DetectionLoss(model), batch_of((1, 1, LEFT)), num_images=2)
    noisy = batch_of((0, 0, WHOLE), (1, 1, LEFT), noise=[(0, 1), (1, 0)])
    _, scores, _ = gradients(make_loss(model, shared_iou=None), noisy, num_images=2)
    assert (scores[0, 0] == 0).all()
    assert torch.equal(scores[0, 1], plain[1][0, 1])
    assert torch.equal(scores[1], plain[1][1])


def test_boxes_count_by_their_weight(model: DetectionModel) -> None:
    rows = ((0, 1, LEFT), (1, 0, RIGHT))
    plain_loss = make_loss(model, shared_iou=None)
    _, plain, plain_boxes = gradients(plain_loss, batch_of(*rows), num_images=2)
    targets = plain_loss.assigner.targets
    assert targets is not None
    weights = torch.tensor([1.5, 0.5])
    noisy = batch_of(*rows, noise=[(1.5, 0), (0.5, 0)])
    _, scores, boxes = gradients(make_loss(model, shared_iou=None), noisy, num_images=2)
    positive = targets.transpose(1, 2) > 0
    # everything is over the sum of the weighted targets, which changes with the weights
    total, weighted = targets.sum(), (targets.sum((1, 2)) * weights).sum()
    # ultralytics divides by no less than 1
    total, weighted = total.clamp(min=1), weighted.clamp(min=1)
    factor = torch.where(positive, weights[:, None, None], 1.0) * total / weighted
    assert torch.allclose(scores, plain * factor, rtol=1e-4, atol=1e-9)
    box_factor = weights[:, None, None] * total / weighted
    assert torch.allclose(boxes, plain_boxes * box_factor, rtol=1e-4, atol=1e-8)


def test_a_box_of_weight_nothing_teaches_nothing(model: DetectionModel) -> None:
    noisy = batch_of((0, 1, LEFT), noise=[(0, 0)])
    loss, scores, boxes = gradients(make_loss(model, shared_iou=None), noisy)
    assert loss[0] == 0 and loss[2] == 0
    assert (boxes == 0).all()
    assert 1 <= (scores[0, 1] == 0).sum() <= 10


def test_two_findings_with_one_box_share_its_anchors(model: DetectionModel) -> None:
    rows = ((0, 0, LEFT), (0, 1, LEFT))
    alone = make_loss(model, shared_iou=None)
    gradients(alone, batch_of(*rows))
    shared = make_loss(model, shared_iou=0.8)
    _, scores, _ = gradients(shared, batch_of(*rows, noise=[(1, 0), (1, 0)]))
    assert alone.assigner.targets is not None and shared.assigner.targets is not None
    # ultralytics gives every anchor to one of the two
    assert (alone.assigner.targets[0] > 0).all(1).sum() == 0
    found = shared.assigner.targets[0]
    assert torch.equal(found[:, 0], found[:, 1]) and (found > 0).any()
    assert ((scores[0, 0] < 0) == (found[:, 0] > torch.sigmoid(_logits()[0, 0]))).all()


def _logits() -> Tensor:
    """The scores that `gradients` predicts."""
    number = sum(height * width for height, width in FEATURES_HW)
    return torch.randn(1, NUM_CLASSES, number, generator=torch.Generator().manual_seed(3))


def test_boxes_that_overlap_less_share_nothing(model: DetectionModel) -> None:
    moved = (0.29, 0.5, 0.25, 0.5)  # IoU (0.25 - 0.04) / (0.25 + 0.04) = 0.72
    rows = ((0, 0, LEFT), (0, 1, moved))
    wanted = gradients(v8DetectionLoss(model), batch_of(*rows))
    got = gradients(make_loss(model, shared_iou=0.8), batch_of(*rows, noise=[(1, 0), (1, 0)]))
    assert all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True))
    shared = make_loss(model, shared_iou=0.7)
    gradients(shared, batch_of(*rows))
    assert shared.assigner.targets is not None
    both = (shared.assigner.targets[0] > 0).all(1)
    low, high = shared.assigner.targets[0, both].sort(1).values.unbind(1)
    assert both.any() and torch.allclose(low / high, torch.tensor(0.21 / 0.29), rtol=1e-3)


def test_shared_anchors_weigh_by_the_box_that_gives_them(model: DetectionModel) -> None:
    noisy = batch_of((0, 0, LEFT), (0, 1, LEFT), noise=[(0.5, 0), (2, 0)])
    loss = make_loss(model, shared_iou=0.8)
    gradients(loss, noisy)
    cells, scores = loss.assigner.cell_weights, loss.assigner.targets
    assert cells is not None and scores is not None
    positive = scores[0] > 0
    assert set(cells[0, positive[:, 0], 0].tolist()) == {0.5}
    assert set(cells[0, positive[:, 1], 1].tolist()) == {2.0}
    assert set(cells[0][~positive].tolist()) == {1.0}


def test_the_assigner_takes_over_what_ultralytics_chose(model: DetectionModel) -> None:
    theirs = v8DetectionLoss(model, tal_topk=7, tal_topk2=1).assigner
    ours = NoisyLabelLoss(model, shared_iou=None, tal_topk=7, tal_topk2=1).assigner
    assert isinstance(ours, NoisyLabelAssigner)
    names = ("topk", "topk2", "num_classes", "alpha", "beta", "stride", "stride_val", "eps")
    assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]


def test_published_models_are_of_ultralytics_own_class() -> None:
    made = NoisyLabelModel("yolo11n.yaml", ch=1, nc=2, verbose=False)
    made.shared_iou = 0.8
    assert type(as_ultralytics_model(made)) is DetectionModel
    assert "shared_iou" not in vars(made)
