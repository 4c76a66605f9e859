"""Ultralytics' detection loss with doubts: how much each box counts, and where a class is not to be penalised.

The loss itself stays ultralytics'. It is met at its own joints: the assigner, which says which anchor learns which box,
and the binary cross entropy, which is asked for one value a cell (anchor, class). Without doubts both give exactly what
ultralytics' own give.

Notation: B images, A anchors, K classes, n boxes an image after padding, r regions an image after padding.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import TaskAlignedAssigner

from stage3_detect.training.dataset import DOUBTS, IS_REGION, WEIGHT


@dataclass(frozen=True)
class Doubts:
    """What one batch says beside its boxes. Coordinates are pixels of the network input, xyxy.

    weights: (B, n) of the boxes, in the order in which the loss pads them. regions: (B, r, 4); classes: (B, r);
    region_weights: (B, r) what the background of that class counts inside, 1 for padding.
    """

    weights: Tensor
    regions: Tensor
    classes: Tensor
    region_weights: Tensor


class DoubtfulAssigner(TaskAlignedAssigner):
    """Ultralytics' assigner; afterwards boxes share anchors with those of other classes that lie on them, and the
    targets are weighted.

    `cells` (B, A, K) then holds the weight of each cell in the classification loss, and `scores` (B, A, K) its target.
    """

    def __init__(self, *, like: TaskAlignedAssigner, shared_iou: float | None) -> None:
        """Take over everything from `like`, the assigner that ultralytics chose for the model."""
        super().__init__(
            topk=like.topk,
            num_classes=like.num_classes,
            alpha=like.alpha,
            beta=like.beta,
            stride=like.stride,
            eps=like.eps,
            topk2=like.topk2,
        )
        self.shared_iou = shared_iou
        self.doubts: Doubts | None = None
        self.cells: Tensor | None = None
        self.scores: Tensor | None = None

    @torch.no_grad()
    def forward(self, *inputs: Tensor, **extra: Tensor) -> tuple[Tensor, ...]:
        """As ultralytics', with target scores times the weight of their box: its box losses weigh by these."""
        labels, boxes, scores, is_positive, index = super().forward(*inputs, **extra)
        _, _, points, gt_labels, gt_boxes, real = inputs
        if gt_boxes.shape[1] == 0:
            box_weights = torch.zeros_like(scores)
        else:
            weights = _each(self.doubts.weights if self.doubts else None, gt_boxes)
            classes = _one_hot(gt_labels, real, self.num_classes, self.shared_iou, gt_boxes)
            shares, box_weights = _shared(classes, weights, index, is_positive)
            scores = torch.maximum(scores, shares * scores.amax(dim=2, keepdim=True))
        self.scores = scores
        self.cells = torch.where(scores > 0, box_weights, _background(self.doubts, points, scores))
        return labels, boxes, scores * torch.where(scores > 0, box_weights, 0), is_positive, index


def _each(weights: Tensor | None, gt_boxes: Tensor) -> Tensor:
    """(B, n) weights of the boxes; 1 where nothing is known."""
    return torch.ones_like(gt_boxes[..., 0]) if weights is None else weights.to(gt_boxes)


def _one_hot(
    gt_labels: Tensor, real: Tensor, num_classes: int, shared_iou: float | None, gt_boxes: Tensor
) -> Tensor:
    """(B, n, n, K): how much an anchor of the first box speaks for the class of the second: 1 for its own, the IoU of
    the two for another class when it is at least `shared_iou`, else 0."""
    number = gt_boxes.shape[1]
    same = torch.eye(number, device=gt_boxes.device).expand(len(gt_boxes), -1, -1)
    if shared_iou is not None:
        pairs = bbox_iou(gt_boxes[:, :, None], gt_boxes[:, None], xywh=False).squeeze(-1)
        both = (real * real.transpose(1, 2)).bool() & (gt_labels != gt_labels.transpose(1, 2))
        same = torch.maximum(same, torch.where(both & (pairs >= shared_iou), pairs, 0))
    one_hot = torch.nn.functional.one_hot(gt_labels.long().squeeze(-1), num_classes)
    return same[..., None] * one_hot[:, None].to(same)


def _shared(classes: Tensor, weights: Tensor, index: Tensor, is_positive: Tensor) -> tuple[Tensor, Tensor]:
    """(B, A, K) each: the share of an anchor's score that a class gets, and the weight of the box that gives it."""
    shares, source = classes.max(dim=2)  # (B, n, K): over the second box
    box_weights = torch.gather(weights[:, None].expand(-1, classes.shape[1], -1), 2, source)
    rows = index.long()[..., None].expand(-1, -1, classes.shape[3])
    return torch.gather(shares, 1, rows) * is_positive[..., None], torch.gather(box_weights, 1, rows)


def _background(doubts: Doubts | None, points: Tensor, scores: Tensor) -> Tensor:
    """(B, A, K) weight of a cell that no box claims: the least of the regions that it lies in, 1 outside of all."""
    weights = torch.ones_like(scores)
    if doubts is None or doubts.regions.shape[1] == 0:
        return weights
    x, y = points[:, 0], points[:, 1]
    x1, y1, x2, y2 = doubts.regions.to(points)[..., None].unbind(2)
    inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)  # (B, r, A)
    values = torch.where(inside, doubts.region_weights.to(scores)[..., None], 1).transpose(1, 2)
    columns = doubts.classes.long()[:, None].expand(-1, len(points), -1)
    return weights.scatter_reduce(2, columns, values, "amin")


class CellWeightedLoss(nn.Module):
    """Binary cross entropy (B, A, K) of the unweighted targets, each cell times its weight."""

    def __init__(self, assigner: DoubtfulAssigner) -> None:
        super().__init__()
        self._assigner = [assigner]  # in a list, else it would become a part of this module
        self._loss = nn.BCEWithLogitsLoss(reduction="none")

    def forward(self, logits: Tensor, weighted_targets: Tensor) -> Tensor:
        """`weighted_targets`, as the assigner gave them to the loss, are replaced by its unweighted ones."""
        assigner = self._assigner[0]
        assert assigner.scores is not None and assigner.cells is not None, "the assigner comes first"
        return torch.as_tensor(self._loss(logits, assigner.scores.to(weighted_targets)) * assigner.cells)


class DoubtfulLoss(v8DetectionLoss):
    """Ultralytics' detection loss that knows a batch's doubts (`dataset.DOUBTS`); without them it is that loss."""

    def __init__(self, model: nn.Module, *, shared_iou: float | None, **options: Any) -> None:
        """Arguments as of ultralytics' loss; `shared_iou` as of `NoiseSettings.shared_boxes_iou`."""
        super().__init__(model, **options)
        self.assigner = DoubtfulAssigner(like=self.assigner, shared_iou=shared_iou)
        self.bce = CellWeightedLoss(self.assigner)

    def loss(self, preds: dict[str, Tensor], batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """As ultralytics'; regions are taken out of the boxes and told to the assigner."""
        doubts = batch.get(DOUBTS)
        self.assigner.doubts = None
        if doubts is not None:
            is_region = doubts[:, IS_REGION] > 0
            self.assigner.doubts = self._read(preds, batch, doubts, is_region)
            batch = {**batch, **{key: batch[key][~is_region] for key in ("batch_idx", "cls", "bboxes")}}
        return super().loss(preds, batch)

    def _read(
        self, preds: dict[str, Tensor], batch: dict[str, Any], doubts: Tensor, is_region: Tensor
    ) -> Doubts:
        count = preds["boxes"].shape[0]
        height, width = (size * self.stride[0] for size in preds["feats"][0].shape[2:])
        scale = torch.tensor([width, height, width, height], device=self.device)
        rows = torch.cat(
            [batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"], doubts[:, [WEIGHT]]],
            1,
        ).to(self.device)
        boxes = self._padded(rows[~is_region], [0, 6, 2, 3, 4, 5], count, scale)
        regions = self._padded(rows[is_region], [0, 1, 2, 3, 4, 5], count, scale)
        told = self._padded(rows[is_region], [0, 6, 2, 3, 4, 5], count, scale)[..., 0]
        real = regions[..., 1:].sum(2) > 0
        return Doubts(boxes[..., 0], regions[..., 1:], regions[..., 0], torch.where(real, told, 1))

    def _padded(self, rows: Tensor, columns: list[int], count: int, scale: Tensor) -> Tensor:
        """(B, n, 5) by ultralytics' own padding: the value in the first place, then xyxy pixels."""
        padded: Tensor = self.preprocess(rows[:, columns].clone(), count, scale_tensor=scale)
        return padded


def make_loss(model: nn.Module, *, shared_iou: float | None) -> DoubtfulLoss | E2ELoss:
    """The loss for one head, or for YOLO26's pair of a one-to-many and a one-to-one head."""

    def of_one_head(model: nn.Module, **options: Any) -> DoubtfulLoss:
        return DoubtfulLoss(model, shared_iou=shared_iou, **options)

    head: Any = model.model[-1]  # type: ignore[index]
    has_pair = getattr(head, "one2one_cv2", None) is not None
    return E2ELoss(model, of_one_head) if has_pair else of_one_head(model)
