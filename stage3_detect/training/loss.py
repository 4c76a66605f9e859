"""Ultralytics' detection loss and model for noisy labels: box weights, and regions where a class is not penalised.

The loss stays ultralytics'. Two of its parts are replaced: the assigner, which chooses the box that each anchor learns,
and the binary cross entropy, which now weights each cell (anchor, class). Without label noise both compute exactly
what ultralytics' own parts compute.

Notation: B images, A anchors, K classes, n boxes and r regions per image after padding.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import TaskAlignedAssigner

from stage3_detect.model.checkpoint import allowed_in_checkpoints
from stage3_detect.training.dataset import IS_REGION, LABEL_NOISE, WEIGHT


@dataclass(frozen=True)
class LabelNoise:
    """Weights and ignore regions of one batch. Coordinates are xyxy in pixels of the network input.

    weights: (B, n) of the boxes, in the order in which the loss pads them. regions: (B, r, 4). classes: (B, r) of the
    regions. region_weights: (B, r) weight of the class's background inside the region, 1 for padding.
    """

    weights: Tensor
    regions: Tensor
    classes: Tensor
    region_weights: Tensor


class NoisyLabelAssigner(TaskAlignedAssigner):
    """Ultralytics' assigner, followed by two steps: overlapping boxes of different classes share their anchors, and
    targets are weighted.

    After a call, `cell_weights` (B, A, K) is the weight of each cell in the classification loss, and `targets`
    (B, A, K) its target before weighting.
    """

    def __init__(self, *, like: TaskAlignedAssigner, shared_iou: float | None) -> None:
        """Copy the options of `like`, the assigner that ultralytics chose for the model."""
        names = ("topk", "num_classes", "alpha", "beta", "stride", "eps", "topk2")
        super().__init__(**{name: getattr(like, name) for name in names})
        self.shared_iou = shared_iou
        self.noise: LabelNoise | None = None
        self.cell_weights: Tensor | None = None
        self.targets: Tensor | None = None

    @torch.no_grad()
    def forward(self, *inputs: Tensor, **extra: Tensor) -> tuple[Tensor, ...]:
        """As in ultralytics, with target scores times box weight, which also weights the box losses."""
        labels, boxes, scores, is_positive, index = super().forward(*inputs, **extra)
        _, _, points, gt_labels, gt_boxes, real = inputs
        if gt_boxes.shape[1] == 0:
            box_weights = torch.zeros_like(scores)
        else:
            weights = self.noise.weights.to(gt_boxes) if self.noise else torch.ones_like(gt_boxes[..., 0])
            classes = _class_shares(gt_boxes, gt_labels, real, num_classes=self.num_classes, shared_iou=self.shared_iou)
            shares, box_weights = _anchor_shares(classes, weights, index, is_positive)
            scores = torch.maximum(scores, shares * scores.amax(dim=2, keepdim=True))
        self.targets = scores
        self.cell_weights = torch.where(scores > 0, box_weights, _background_weights(self.noise, points, scores))
        return labels, boxes, scores * torch.where(scores > 0, box_weights, 0), is_positive, index


def _class_shares(
    gt_boxes: Tensor, gt_labels: Tensor, real: Tensor, *, num_classes: int, shared_iou: float | None
) -> Tensor:
    """(B, n, n, K): share of the first box's score that counts for the class of the second box: 1 for itself, the IoU
    for a box of another class if it is at least `shared_iou`, else 0.

    gt_boxes: (B, n, 4). gt_labels: (B, n, 1). real: (B, n, 1), 0 for padding.
    """
    number = gt_boxes.shape[1]
    shares = torch.eye(number, device=gt_boxes.device).expand(len(gt_boxes), -1, -1)
    if shared_iou is not None:
        pairs = bbox_iou(gt_boxes[:, :, None], gt_boxes[:, None], xywh=False).squeeze(-1)
        both = (real * real.transpose(1, 2)).bool() & (gt_labels != gt_labels.transpose(1, 2))
        shares = torch.maximum(shares, torch.where(both & (pairs >= shared_iou), pairs, 0))
    one_hot = torch.nn.functional.one_hot(gt_labels.long().squeeze(-1), num_classes)
    return shares[..., None] * one_hot[:, None].to(shares)


def _anchor_shares(classes: Tensor, weights: Tensor, index: Tensor, is_positive: Tensor) -> tuple[Tensor, Tensor]:
    """(B, A, K) each: the share of an anchor's score that each class gets, and the weight of the box it comes from.

    classes: see `_class_shares`. weights: (B, n) of the boxes. index: (B, A) the box of each anchor.
    is_positive: (B, A).
    """
    shares, source = classes.max(dim=2)  # (B, n, K): over the second box
    box_weights = torch.gather(weights[:, None].expand(-1, classes.shape[1], -1), 2, source)
    rows = index.long()[..., None].expand(-1, -1, classes.shape[3])
    return torch.gather(shares, 1, rows) * is_positive[..., None], torch.gather(box_weights, 1, rows)


def _background_weights(noise: LabelNoise | None, points: Tensor, scores: Tensor) -> Tensor:
    """(B, A, K) weight of a background cell: the lowest weight of the regions that contain it, 1 outside regions."""
    weights = torch.ones_like(scores)
    if noise is None or noise.regions.shape[1] == 0:
        return weights
    x, y = points[:, 0], points[:, 1]
    x1, y1, x2, y2 = noise.regions.to(points)[..., None].unbind(2)
    inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)  # (B, r, A)
    values = torch.where(inside, noise.region_weights.to(scores)[..., None], 1).transpose(1, 2)
    columns = noise.classes.long()[:, None].expand(-1, len(points), -1)
    return weights.scatter_reduce(2, columns, values, "amin")


class CellWeightedLoss(nn.BCEWithLogitsLoss):
    """Binary cross entropy (B, A, K) with the assigner's unweighted targets, times the weight of each cell."""

    def __init__(self, assigner: NoisyLabelAssigner) -> None:
        super().__init__(reduction="none")
        self._assigner = [assigner]  # in a list, so that it is not registered as a submodule

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Uses the assigner's unweighted targets instead of `target`, which is weighted."""
        assigner = self._assigner[0]
        assert assigner.targets is not None and assigner.cell_weights is not None, "call the assigner first"
        return super().forward(input, assigner.targets.to(target)) * assigner.cell_weights


class NoisyLabelLoss(v8DetectionLoss):
    """Ultralytics' detection loss with the label noise of a batch (`dataset.LABEL_NOISE`)."""

    assigner: NoisyLabelAssigner
    stride: Tensor

    def __init__(self, model: nn.Module, *, shared_iou: float | None, **options: Any) -> None:
        """Arguments as in ultralytics; shared_iou: `NoiseSettings.shared_boxes_iou`."""
        super().__init__(model, **options)
        self.assigner = NoisyLabelAssigner(like=self.assigner, shared_iou=shared_iou)
        self.bce = CellWeightedLoss(self.assigner)

    def loss(self, preds: dict[str, Tensor], batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """As in ultralytics; regions are removed from the boxes and given to the assigner."""
        noise = batch.get(LABEL_NOISE)
        self.assigner.noise = None
        if noise is not None:
            is_region = noise[:, IS_REGION] > 0
            self.assigner.noise = self._label_noise(preds, batch, noise, is_region)
            batch = {**batch, **{key: batch[key][~is_region] for key in ("batch_idx", "cls", "bboxes")}}
        return super().loss(preds, batch)

    def _label_noise(
        self, preds: dict[str, Tensor], batch: dict[str, Any], noise: Tensor, is_region: Tensor
    ) -> LabelNoise:
        """The rows of a batch as padded tensors. noise: (rows, 2), see `dataset.LABEL_NOISE`. is_region: (rows,)."""
        count = preds["boxes"].shape[0]
        height, width = (size * self.stride[0] for size in preds["feats"][0].shape[2:])
        scale = torch.tensor([width, height, width, height], device=self.device)
        rows = torch.cat(
            [batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"], noise[:, [WEIGHT]]], 1
        ).to(self.device)

        def padded(rows: Tensor, columns: list[int]) -> Tensor:
            """(B, n, 5) by ultralytics' padding: one value, then xyxy in pixels."""
            table: Tensor = self.preprocess(rows[:, columns].clone(), count, scale_tensor=scale)
            return table

        boxes = padded(rows[~is_region], [0, 6, 2, 3, 4, 5])
        regions = padded(rows[is_region], [0, 1, 2, 3, 4, 5])
        weights = padded(rows[is_region], [0, 6, 2, 3, 4, 5])[..., 0]
        real = regions[..., 1:].sum(2) > 0
        return LabelNoise(boxes[..., 0], regions[..., 1:], regions[..., 0], torch.where(real, weights, 1))


def make_loss(model: nn.Module, *, shared_iou: float | None) -> NoisyLabelLoss | E2ELoss:
    """The loss of a single head, or of YOLO26's pair of a one-to-many and a one-to-one head."""
    of_one_head = partial(NoisyLabelLoss, shared_iou=shared_iou)
    head: Any = model.model[-1]  # type: ignore[index]
    has_pair = getattr(head, "one2one_cv2", None) is not None
    return E2ELoss(model, of_one_head) if has_pair else of_one_head(model)


@allowed_in_checkpoints
class NoisyLabelModel(DetectionModel):
    """Ultralytics' model with `NoisyLabelLoss`. shared_iou: `NoiseSettings.shared_boxes_iou`."""

    shared_iou: float | None = None

    def init_criterion(self) -> NoisyLabelLoss | E2ELoss:
        """Called by ultralytics before the first batch."""
        return make_loss(self, shared_iou=self.shared_iou)


def as_ultralytics_model(model: Any) -> Any:
    """Restore ultralytics' class, so the file can be loaded where this project is not installed."""
    if isinstance(model, NoisyLabelModel):
        model.__class__ = DetectionModel  # type: ignore[assignment]  # on purpose
        model.__dict__.pop("shared_iou", None)
    return model
