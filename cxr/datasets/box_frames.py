"""The size of the image to which the coordinates of boxes refer: the frame. One rule for all data sets.

Files may be smaller copies of the images that readers marked. Boxes are scaled from their frame to the file
(`fit_into_images`), so the frame must be known. In this order:

1. `box_frame` in the settings: "file", or one height and width for all images.
2. Columns of a table, as `frame_h` and `frame_w` of the boxes; or the release fixes it (NIH: 1024 x 1024).
3. The header of a DICOM file, which is the image that readers marked.

Otherwise boxes of other files than DICOM are refused (VinDr-CXR, whose originals are DICOM), or presumed to be in
pixels of the file as long as none ends far outside it (csv_table).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from cxr.config import UserError
from cxr.datasets.box_checks import describe_boxes
from cxr.imaging.files import DICOM_SUFFIXES
from cxr.tables import DataSettings

FrameSource = Literal["given", "dicom", "presumed"]
"""given: by `box_frame`, columns or the release. dicom: boxes are in pixels of the original DICOM image. presumed: they
are in pixels of the file unless they contradict it."""

ADVICE = (
    "name the columns with width and height of the original images, or set `box_frame` in `data`: file if the boxes "
    "are in pixels of the files, [height, width] if all originals had that size"
)
FAR_OVERHANG = 0.1
"""No reader marks a box that exceeds the image by more than this share of the image's side."""

Side = Annotated[int, Field(gt=0)]


class BoxFrameSettings(DataSettings):
    """Data whose boxes may refer to images of another size than the files."""

    box_frame: Literal["file"] | tuple[Side, Side] | None = None
    """To which image the coordinates of boxes refer. file: the image file. [height, width]: an original image of that
    size, the same for all files. None: the size comes from columns of the table or DICOM headers."""


def in_frame(boxes: pd.DataFrame, settings: BoxFrameSettings) -> pd.DataFrame:
    """The boxes with the frame of the setting `box_frame`, which comes before columns of a table."""
    if settings.box_frame is None:
        return boxes
    own = boxes.drop(columns=["frame_h", "frame_w"], errors="ignore")
    if settings.box_frame == "file":
        return own
    height, width = settings.box_frame
    return own.assign(frame_h=float(height), frame_w=float(width))


def frame_source(boxes: pd.DataFrame, settings: BoxFrameSettings, *, otherwise: FrameSource) -> FrameSource:
    """How sure the frame of boxes is. otherwise: if neither the setting nor columns give it."""
    is_given = settings.box_frame is not None or "frame_h" in boxes.columns
    return "given" if is_given else otherwise


def require_dicom(boxes: pd.DataFrame, paths: Mapping[str, str], *, source: str) -> None:
    """UserError if a box belongs to another file than a DICOM. paths: image_id -> path of its file."""
    files = [paths[image_id] for image_id in boxes["image_id"].unique()]
    others = [path for path in files if Path(path).suffix.lower() not in DICOM_SUFFIXES]
    if others:
        raise UserError(
            f"{source}: boxes of {len(others)} files that are no DICOM, for instance {others[0]}: they may be smaller "
            f"copies of the images that were marked, and no table gives the original size; {ADVICE}"
        )


def refuse_far_boxes(boxes: pd.DataFrame, sizes_hw: Mapping[str, tuple[int, int]], *, source: str) -> None:
    """UserError if a box ends far outside its file: then all boxes may be in pixels of larger originals. Likewise if no
    box reaches beyond the first pixel: then they are shares of the image's sides, as YOLO's are.

    sizes_hw: image_id -> height and width of the file.
    """
    file_hw = np.array([sizes_hw[image_id] for image_id in boxes["image_id"]], dtype=np.float64).reshape(-1, 2)
    ends = boxes[["y2", "x2"]].to_numpy(dtype=np.float64).reshape(-1, 2)
    if len(ends) and ends.max() <= 1:
        raise UserError(
            f"{source}: no box reaches beyond the first pixel of its image, for instance {describe_boxes(boxes)[0]}; "
            "multiply the coordinates by the width and height of the images"
        )
    far = np.asarray((ends > (1 + FAR_OVERHANG) * file_hw).any(axis=1), dtype=np.bool_)
    if far.any():
        outside: pd.DataFrame = boxes[far]
        height, width = file_hw[far][0]
        raise UserError(
            f"{source}: {far.sum()} of {len(far)} boxes end far outside their images, for instance "
            f"{describe_boxes(outside)[0]} in an image of height {height:g}, width {width:g}, so the images may be "
            f"smaller copies of those that were marked; {ADVICE}"
        )
