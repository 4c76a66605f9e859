"""Split images with boxes into halves with labels, as if a report had named the side of each finding."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.boxes import CORNERS, area
from cxr.datasets.files_on_disk import read_sizes
from cxr.tables import BOX_COLUMNS, Dataset, Exclusion, image_table

SLIVERS = "parts of boxes dropped because too little of the box lies in the half"

SIDES = {"L": "left", "R": "right_mirrored"}


def to_hemithoraces(
    dataset: Dataset, *, sideless: npt.NDArray[np.bool_], reason: str, finding: str, min_share: float
) -> Dataset:
    """Turn each half of each image into an image with one finding.

    Args:
        dataset: whole images, with boxes in their pixels.
        sideless: (N,) True for an image whose boxes are unknown; it is excluded with `reason`.
        finding: the finding of all boxes. The label of a half is 1 if it contains a box, else 0.
        min_share: a box belongs to a half if at least this share of its area lies in it.

    Returns:
        Two images per file, ``<image_id>:L`` and ``<image_id>:R``. Their `patient_id` is the image id if the patient
        is unknown. Boxes are in pixels of the half and mirrored in the right half. If the width is odd, the middle
        column belongs to neither half.
    """
    excluded = tuple(Exclusion(name, reason) for name in dataset.images.loc[sideless, "image_id"])
    images = dataset.images[~sideless].reset_index(drop=True)
    boxes = dataset.boxes[dataset.boxes["image_id"].isin(images["image_id"])]
    widths = _widths(dataset, images, boxes)
    parts = [_half_boxes(boxes, widths, side, min_share) for side in SIDES]
    kept = pd.concat([part for part, _ in parts], ignore_index=True).assign(finding=finding)
    halves = _half_images(images)
    label = halves["image_id"].isin(kept["image_id"]).astype(np.float64)
    index = pd.Index(halves["image_id"], name="image_id")
    slivers = sum(num for _, num in parts)
    return Dataset(
        name=dataset.name,
        root=dataset.root,
        images=halves,
        labels=pd.DataFrame({finding: label.to_numpy()}, index=index),
        boxes=kept[BOX_COLUMNS],
        excluded=dataset.excluded + excluded,
        synthetic=dataset.synthetic,
        counts={**dataset.counts, **({SLIVERS: slivers} if slivers else {})},
    )


def _widths(dataset: Dataset, images: pd.DataFrame, boxes: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(N,) width of the image of each box."""
    path_of = dict(zip(images["image_id"], images["path"], strict=True))
    paths = [path_of[image_id] for image_id in boxes["image_id"]]
    sizes = read_sizes(dataset.root, paths).hw
    return np.array([sizes[path][1] for path in paths], dtype=np.float64)


def _half_boxes(
    boxes: pd.DataFrame, widths: npt.NDArray[np.float64], side: str, min_share: float
) -> tuple[pd.DataFrame, int]:
    """The boxes of one half, and the number of boxes with too small a part in it."""
    whole = boxes[CORNERS].to_numpy(dtype=np.float64).reshape(-1, 4)
    half = whole.copy()
    if side == "R":
        half[:, [0, 2]] = widths[:, None] - whole[:, [2, 0]]
    half[:, [0, 2]] = np.clip(half[:, [0, 2]], 0, (widths // 2)[:, None])
    share = area(half) / area(whole)
    kept = share >= min_share
    part = boxes[kept].assign(image_id=boxes.loc[kept, "image_id"] + f":{side}")
    part[CORNERS] = half[kept]
    return part, int(((share > 0) & ~kept).sum())


def _half_images(images: pd.DataFrame) -> pd.DataFrame:
    rows = images.loc[images.index.repeat(len(SIDES))].reset_index(drop=True)
    sides = pd.Series(list(SIDES) * len(images), dtype=str)
    known = rows["patient_id"] != ""
    columns = {name: rows[name] for name in ("path", "study_id", "view", "sex", "age", "split")}
    return image_table(
        image_id=rows["image_id"] + ":" + sides,
        region=sides.map(SIDES),
        patient_id=rows["patient_id"].where(known, rows["image_id"]),
        **columns,
    )
