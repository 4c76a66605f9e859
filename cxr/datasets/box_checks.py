"""Checks of a release's boxes, and their conversion to pixels of the image file."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.boxes import CORNERS
from cxr.masks import masks_in, resized
from cxr.tables import MASK_COLUMN, Problems, box_columns

NO_SIZE = "box of an image whose original size is no positive number"
TWO_SIZES = "box of an image with several original sizes"
NOT_A_NUMBER = "box with a coordinate that is no number"
INVERTED = "inverted or empty box"
OUTSIDE = "box outside the image"
DUPLICATE_BOX = "duplicated box row"
UNKNOWN_IMAGE = "box of an image that is not in the image table"
CLIPPED = "boxes clipped that overhung the image by at most 1 % of its side"

MAX_OVERHANG = 0.01
"""A box may exceed the image by this share of the image's side and is clipped. A larger overhang is a problem."""

Mask = npt.NDArray[np.bool_]


def describe_boxes(boxes: pd.DataFrame, source: str = "") -> list[str]:
    """One phrase per box for messages: ``tb0005: Nodule (10, 20, 30, 40)``."""
    rows = zip(boxes["image_id"], boxes["finding"], boxes[CORNERS].to_numpy(), strict=True)
    return [
        f"{image_id}: {finding} box ({', '.join(f'{corner:g}' for corner in corners)}){source}"
        for image_id, finding, corners in rows
    ]


def check_shapes(boxes: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The boxes without invalid ones: not a number, inverted, empty, listed twice, or of an image whose original size
    is unknown or not the same in all rows. These become problems.
    """
    corners = boxes[CORNERS].to_numpy(dtype=np.float64).reshape(-1, 4)
    not_number = ~np.isfinite(corners).all(axis=1)
    inverted = ~not_number & ((corners[:, 2] <= corners[:, 0]) | (corners[:, 3] <= corners[:, 1]))
    sound: pd.DataFrame = boxes[~not_number & ~inverted]
    problems.add_all(describe_boxes(boxes[not_number]), NOT_A_NUMBER)
    problems.add_all(describe_boxes(boxes[inverted]), INVERTED)
    twice = sound.duplicated(box_columns(sound))
    problems.add_all(describe_boxes(sound[twice]), DUPLICATE_BOX)
    once: pd.DataFrame = sound[~twice]
    if "frame_h" not in once.columns:
        return once
    sides = once[["frame_h", "frame_w"]].to_numpy(dtype=np.float64)
    sized = (np.isfinite(sides) & (sides > 0)).all(axis=1)
    problems.add_all(describe_boxes(once[~sized]), NO_SIZE)
    frames = once.loc[sized, ["image_id", "frame_h", "frame_w"]].drop_duplicates()
    several = frames.loc[frames["image_id"].duplicated(), "image_id"]
    torn = sized & once["image_id"].isin(several).to_numpy()
    problems.add_all(describe_boxes(once[torn]), TWO_SIZES)
    known: pd.DataFrame = once[sized & ~torn]
    return known


def check_images_known(boxes: pd.DataFrame, image_ids: pd.Series, problems: Problems) -> pd.DataFrame:
    """The boxes whose image is in the image table. The others become problems."""
    known = boxes["image_id"].isin(image_ids)
    problems.add_all(describe_boxes(boxes[~known]), UNKNOWN_IMAGE)
    kept: pd.DataFrame = boxes[known]
    return kept


def fit_into_images(boxes: pd.DataFrame, sizes_hw: Mapping[str, tuple[int, int]], problems: Problems) -> pd.DataFrame:
    """Scale boxes and their masks to pixels of the image file, and clip boxes to the image.

    Args:
        boxes: box columns, and `frame_h`, `frame_w` if the coordinates refer to an image of another size than the file.
        sizes_hw: image_id -> height and width of the file.

    Returns:
        The boxes. An overhang of at most 1 % is clipped and counted; boxes further outside become problems.
    """
    file_hw = np.array([sizes_hw[image_id] for image_id in boxes["image_id"]], dtype=np.float64).reshape(-1, 2)
    has_frame = "frame_h" in boxes.columns
    frame_hw = boxes[["frame_h", "frame_w"]].to_numpy(dtype=np.float64) if has_frame else file_hw
    corners = boxes[CORNERS].to_numpy(dtype=np.float64).reshape(-1, 4)
    limits = frame_hw[:, [1, 0, 1, 0]]
    inside = np.clip(corners, 0, limits)
    overhang = np.abs(corners - inside)
    # a thin box at the rim may have no area left after clipping
    vanished = (inside[:, 2] <= inside[:, 0]) | (inside[:, 3] <= inside[:, 1])
    outside = (overhang > MAX_OVERHANG * limits).any(axis=1) | vanished
    _report_outside(boxes, outside, frame_hw, problems)
    problems.count(CLIPPED, int((overhang > 0).any(axis=1)[~outside].sum()))
    fitted: pd.DataFrame = boxes[box_columns(boxes)].copy()
    fitted[CORNERS] = inside * (file_hw / frame_hw)[:, [1, 0, 1, 0]]
    if MASK_COLUMN in fitted.columns:
        masks = zip(masks_in(boxes), boxes["image_id"], strict=True)
        scaled = [None if mask is None else resized(mask, sizes_hw[image_id]) for mask, image_id in masks]
        fitted[MASK_COLUMN] = pd.Series(scaled, index=fitted.index, dtype=object)
    kept: pd.DataFrame = fitted[~outside]
    return kept


def _report_outside(boxes: pd.DataFrame, outside: Mask, frame_hw: npt.NDArray[np.float64], problems: Problems) -> None:
    phrases = describe_boxes(boxes[outside])
    for phrase, (height, width) in zip(phrases, frame_hw[outside], strict=True):
        problems.add(f"{phrase} in an image of height {height:g}, width {width:g}", OUTSIDE)
