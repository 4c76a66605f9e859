"""Boxes of tables with one row per box, and labels that follow from boxes."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.boxes import CORNERS
from cxr.datasets.text_cells import known_names
from cxr.labels import FINDINGS
from cxr.masks import Mask, box_of
from cxr.tables import Problems, box_table

Column = pd.Series | str | int
"""A value per row, or one for all rows."""


def named_boxes(
    names: pd.Series, xyxy: npt.ArrayLike, mapping: Mapping[str, str], problems: Problems, **columns: Column
) -> pd.DataFrame:
    """A table of boxes from the rows of a release.

    Args:
        names: (N,) the release's name of each box's finding. A name that `mapping` lacks is a problem.
        xyxy: (N, 4) corners, NaN where a cell is no number.
        mapping: name -> canonical finding.
        columns: image_id and, if known, reader, frame_h, frame_w and mask.
    """
    known = known_names(names, mapping, problems)
    corners = pd.DataFrame(np.asarray(xyxy, dtype=np.float64).reshape(-1, 4), columns=CORNERS, index=names.index)
    boxes = corners.assign(finding=names.map(known), **columns)
    return box_table(boxes[names.isin(list(known))])


def mask_boxes(table: pd.DataFrame) -> pd.DataFrame:
    """One box around each mask. table: columns image_id, finding and mask (`cxr.masks.Mask`); further box columns."""
    masks: list[Mask] = table["mask"].tolist()
    corners = pd.DataFrame([box_of(mask) for mask in masks], columns=CORNERS, index=table.index)
    sides = pd.DataFrame([mask.size_hw for mask in masks], columns=["frame_h", "frame_w"], index=table.index)
    return box_table(pd.concat([table, corners, sides], axis=1))


def labels_of_boxes(image_ids: pd.Series, boxes: pd.DataFrame, findings: Iterable[str]) -> pd.DataFrame:
    """(N, findings) 1 if the image has a box of the finding, else 0; for releases that mark every image.

    findings: have a column even if no image has a box of them. The columns are in the order of FINDINGS; findings that
    it lacks come last.
    """
    wanted = dict.fromkeys([*findings, *boxes["finding"]])
    ids = {name: set(own) for name, own in boxes.groupby("finding")["image_id"]}
    present = [name for name in FINDINGS if name in wanted]
    present += [name for name in wanted if name not in FINDINGS]
    return pd.DataFrame(
        {name: image_ids.isin(ids.get(name, ())).to_numpy(dtype=np.float64) for name in present}, index=image_ids.index
    )
