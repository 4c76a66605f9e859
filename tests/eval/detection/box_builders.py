"""Builders of box sets for the tests of eval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes, boxes_table

Row = tuple[object, ...]
NAN = float("nan")


def coco_boxes(
    rows: Sequence[Row], *, images: Sequence[str] = ("a", "b"), findings: Sequence[str] = ("Edema",)
) -> CocoBoxes:
    """Boxes (image, finding, x1, y1, x2, y2, score) on images of 300 x 200 pixels."""
    table = pd.DataFrame(
        [(name, f"{name}.png", "full", 300, 200) for name in images],
        columns=["image_id", "path", "region", "width", "height"],
    )
    return CocoBoxes(table, boxes_table(rows), tuple(findings), {})


def random_case(seed: int, *, num_images: int = 23, num_classes: int = 6) -> tuple[CocoBoxes, CocoBoxes]:
    """Random truth and predictions: tied scores, images without boxes, a class without truth."""
    rng = np.random.default_rng(seed)
    images = [f"image{i}" for i in rng.permutation(num_images)]
    findings = [f"class {k}" for k in range(num_classes)]
    true, found = [], []
    for image in images:
        for k, finding in enumerate(findings):
            for _ in range(rng.integers(3) if k else 0):
                x, y, w, h = rng.uniform((0, 0, 20, 20), (200, 120, 100, 80))
                true.append((image, finding, x, y, x + w, y + h, NAN))
                dx, dy = rng.normal(0, 14, size=2)
                score = round(float(rng.uniform()), 1)
                if rng.uniform() < 0.8:
                    found.append((image, finding, x + dx, y + dy, x + w + dx, y + h + dy, score))
            if rng.uniform() < 0.5:
                x, y = rng.uniform(0, 150, size=2)
                found.append((image, finding, x, y, x + 50, y + 30, round(float(rng.uniform()), 1)))
    kinds = {"images": images, "findings": findings}
    return coco_boxes(true, **kinds), coco_boxes(found, **kinds)


def duplicated(coco: CocoBoxes, counts: np.ndarray) -> CocoBoxes:
    """A set in which each image stands as often as drawn, under new names."""
    images, boxes = [], []
    for (_, image), times in zip(coco.images.iterrows(), counts, strict=True):
        of_image = coco.boxes[coco.boxes["image_id"] == image["image_id"]]
        for copy in range(times):
            name = f"{image['image_id']} #{copy}"
            images.append(image.to_frame().T.assign(image_id=name))
            boxes.append(of_image.assign(image_id=name))
    return CocoBoxes(pd.concat(images, ignore_index=True), pd.concat(boxes, ignore_index=True), coco.findings, {})


def without_ties(coco: CocoBoxes) -> CocoBoxes:
    scores = np.random.default_rng(3).permutation(len(coco.boxes)) / len(coco.boxes)
    return coco.with_boxes(coco.boxes.assign(score=scores))
