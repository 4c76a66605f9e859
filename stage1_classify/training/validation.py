"""Validation results of a model, and the choice of the best epoch by them."""

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from cxr.arrays import Float32s, Floats, mean_over_classes
from cxr.config import UserError
from cxr.metrics import Metrics
from eval.classification.metrics import classification_metrics, probabilistic_f1
from eval.classification.operating_points import choose_thresholds
from eval.stats.measures import finite_or_none
from stage1_classify.data.batches import Split
from stage1_classify.data.hierarchy import make_hierarchy
from stage1_classify.data.studies import sum_views
from stage1_classify.model.probabilities import sigmoid
from stage1_classify.settings.classifier import Stage1Settings

_SHOWN = 5

log = logging.getLogger("raybox")


def interleaved(shares: Sequence[Float32s]) -> Float32s:
    """The logits (N, K) in the order of the images. Process p of n predicted the images p, p + n, p + 2 n, ..."""
    logits = np.empty((sum(map(len, shares)), shares[0].shape[1]), dtype=np.float32)
    for first, share in enumerate(shares):
        logits[first :: len(shares)] = share
    return logits


def validation_figures(logits: Float32s, val: Split, settings: Stage1Settings) -> Metrics:
    """Loss and the means of AUROC, F1, AUPRC and probabilistic F1 on validation, over findings with enough positives.

    They use uncalibrated probabilities: views are added, and children are multiplied by their parents. The loss is the
    unweighted binary cross-entropy, averaged over all B * K targets; masked targets count as 0.

    Args:
        logits: (N, K) of the images of `val`.

    Raises:
        UserError: a logit is not finite.
    """
    _check_finite(logits, val)
    hierarchy = make_hierarchy(settings.hierarchy, settings.findings)
    targets = val.targets.astype(np.float64)
    probabilities = hierarchy.multiply(sigmoid(sum_views(logits, val.cases.views)))
    metrics = classification_metrics(
        targets,
        probabilities,
        findings=settings.findings,
        thresholds=choose_thresholds(targets, probabilities),
        groups=None,
        num_resamples=0,
        min_positives=settings.train.min_positives,
    )
    figures: Metrics = {"val/loss": _loss(probabilities, val.targets)}
    figures |= {f"val/{name}": metrics[f"{name}/mean"] for name in ("auroc", "f1", "auprc")}
    enough = (targets == 1).sum(axis=0) >= settings.train.min_positives
    mean = mean_over_classes(probabilistic_f1(targets, probabilities)[enough])
    return figures | finite_or_none({"val/probabilistic_f1": float(mean)})


def _check_finite(logits: Float32s, val: Split) -> None:
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        named = ", ".join(val.pictures.image_ids[row] for row in bad[:_SHOWN])
        raise UserError(
            f"validation: the logits of {len(bad)} of {len(logits)} images are not finite, for instance {named}; the "
            "files of the last complete epoch are unchanged; check these images, or train again with another --out "
            "and a lower optimizer.learning_rate or with train.precision=fp32"
        )


def _loss(probabilities: Floats, targets: Float32s) -> float:
    known = ~np.isnan(targets)
    cost = functional.binary_cross_entropy(
        torch.from_numpy(probabilities[known]), torch.from_numpy(targets[known]).double(), reduction="sum"
    )
    return float(cost) / targets.size


def check_selectable(targets: Float32s, settings: Stage1Settings) -> None:
    """Raise a UserError if no epoch could be chosen by the validation targets (B, K); log findings of one class."""
    train, conditional = settings.train, settings.hierarchy.conditional_epochs
    if conditional >= train.num_epochs:
        raise UserError(
            f"hierarchy.conditional_epochs: got {conditional}, expected fewer than train.num_epochs, "
            f"{train.num_epochs}: the best epoch is chosen among the later ones"
        )
    for finding, column in zip(settings.findings, targets.T, strict=True):
        missing = [name for name, value in (("positive", 1), ("negative", 0)) if not (column == value).any()]
        if missing:
            log.warning(
                "validation: %s has no %s case, so it has no AUROC there and no part in the choice of the epoch",
                finding,
                " and no ".join(missing),
            )
    enough = (np.nansum(targets == 1, axis=0) >= train.min_positives) & (targets == 0).any(axis=0)
    if train.select_by != "loss" and not enough.any():
        raise UserError(
            f"train.select_by={train.select_by}: no finding has {train.min_positives} positives and a negative among "
            f"{len(targets)} validation cases; lower train.min_positives, enlarge val, or set train.select_by=loss"
        )


def selecting_score(figures: Mapping[str, float | None], select_by: str) -> float:
    """The score of an epoch, higher is better. Minus infinity if the metric does not exist."""
    value = figures[f"val/{select_by}"]
    if value is None or math.isnan(value):
        return float("-inf")
    return -value if select_by == "loss" else value


def one_line(figures: Metrics) -> str:
    """The figures of an epoch for the log: "val/auroc 0.83  val/f1 0.52"."""
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)
