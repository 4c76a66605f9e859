"""Pictures of training batches as the network sees them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cxr.arrays import Floats
from eval.report.box_colours import IGNORED, LEARNED
from eval.report.pictures import BoxLayer, Rgb, as_rgb, draw_layers, fitted, grid
from stage3_detect.training.dataset import IS_REGION, LABEL_NOISE

NUM_SHOWN, COLUMNS, TILE_PX = 9, 3, 310
"""Three tiles are as wide as the page of the report."""

_LARGE = 0.5
"""Ignore regions that cover a larger share of the image are not drawn: image labels give regions of the whole image,
which augmentation can shrink."""


def batch_picture(batch: Mapping[str, Any], names: Mapping[int, str]) -> Rgb:
    """The first images of a batch, each with its boxes, their findings, and its ignore regions.

    Args:
        batch: ultralytics' after preprocessing: img (B, C, H, W) in [0, 1]; batch_idx (n,), cls (n, 1), bboxes (n, 4)
            as centre and size in shares of the image; label_noise (n, 2).
        names: class -> finding.

    Returns:
        (height, width, 3).
    """
    images, owner, classes, shares, noise = (
        batch[key].detach().cpu().float().numpy() for key in ("img", "batch_idx", "cls", "bboxes", LABEL_NOISE)
    )
    corners = np.concatenate([shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2], axis=1)
    is_region, is_large = noise[:, IS_REGION] != 0, shares[:, 2:].prod(axis=1) > _LARGE
    tiles = []
    for row, image in enumerate(images[:NUM_SHOWN]):
        boxes, regions = (owner == row) & ~is_region, (owner == row) & is_region & ~is_large
        findings = [names[int(number)] for number in classes[boxes, 0]]
        tiles.append(_tile(image.mean(axis=0), corners[boxes], findings, corners[regions]))
    return grid(tiles, columns=COLUMNS, tile_px=TILE_PX)


def _tile(image: Floats, boxes: Floats, findings: list[str], regions: Floats) -> Rgb:
    """image: (H, W) in [0, 1]. boxes (n, 4), regions (m, 4): corners in shares of the image."""
    layers = [BoxLayer(regions, IGNORED.colour, dashed=IGNORED.is_dashed), BoxLayer(boxes, LEARNED.colour, findings)]
    return draw_layers(fitted(as_rgb(image), TILE_PX), layers, image_wh=(1.0, 1.0))
