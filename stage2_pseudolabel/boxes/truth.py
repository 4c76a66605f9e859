"""Ground truth of the tune and test split as COCO: fused readers, image sizes, classes in the classifier's order."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.arrays import Bools
from cxr.coco import BOX_FIELDS, IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.config import UserError
from cxr.imaging.files import read_size_hw
from cxr.labels import check_findings
from cxr.readers import ReaderSettings, fuse_readers
from cxr.tables import MASK_COLUMN, Dataset

NOT_READ = "not read for the finding"
"""Why a box of the ground truth is an ignore region, in `ignored_by`."""


def ground_truth(dataset: Dataset, findings: Sequence[str], readers: ReaderSettings, *, split: str) -> CocoBoxes:
    """All images of `dataset`, also those without a box, and the fused boxes of `findings`.

    The boxes' columns are BOX_FIELDS, votes (NaN for a consensus) and, if the data set has masks, mask. Boxes of all
    findings are fused first, because a reader who marked another finding counts as a reader of the image. UserError as
    `fuse_readers`.

    Of several data sets, an image is one ignore region of each finding that its readers did not look for (`not_read`).
    """
    fused = fuse_readers(dataset.boxes, readers)
    fused = fused[fused["finding"].isin(findings)].assign(score=float("nan"))
    masks = [MASK_COLUMN] if MASK_COLUMN in fused.columns else []
    boxes, images = fused[[*BOX_FIELDS, "votes", *masks]].reset_index(drop=True), image_sizes(dataset)
    regions = _whole_images(images, findings, not_read(dataset, findings))
    if len(regions):
        boxes = boxes.assign(iscrowd=0, ignored_by="")
        boxes = pd.concat([boxes, regions.assign(votes=np.nan, iscrowd=1, ignored_by=NOT_READ)], ignore_index=True)
    return CocoBoxes(images, boxes, tuple(findings), info(dataset, split))


def not_read(dataset: Dataset, findings: Sequence[str]) -> Bools:
    """(N, K): nobody looked for the finding in the image, so that a box there is neither right nor wrong.

    As in the federated data set LVIS (Gupta et al., CVPR 2019), a finding is scored only in images where it is known to
    be there or not. It is known where the image's data set has boxes of it, and where the label says that it is absent.
    A single data set is scored in all its images.
    """
    sets = dataset.images["set"].to_numpy(dtype=object)
    marked = [[finding in dataset.boxed.get(name, frozenset()) for finding in findings] for name in sets]
    absent = dataset.labels.reindex(columns=list(findings)).to_numpy(dtype=np.float64) == 0
    several = (sets != "")[:, None]
    return np.asarray(several & ~np.array(marked, dtype=bool).reshape(absent.shape) & ~absent)


def _whole_images(images: pd.DataFrame, findings: Sequence[str], wanted: Bools) -> pd.DataFrame:
    """A box around the whole image for each True of `wanted` (N, K)."""
    rows, columns = np.nonzero(wanted)
    chosen, names = images.iloc[rows], np.array(findings, dtype=object)[columns]
    cells = zip(chosen["image_id"], names, chosen["width"], chosen["height"], strict=True)
    return boxes_table([(image_id, name, 0, 0, width, height, np.nan) for image_id, name, width, height in cells])


def check_boxes(truth: CocoBoxes, marked: int, readers: ReaderSettings, *, split: str) -> None:
    """UserError with the reason if there is no box to score. marked: number of boxes by readers before the fusion."""
    if not truth.without_ignored().boxes.empty:
        return
    reason = "give a split that has some"
    if marked:
        reason = f"rule {readers.rule} keeps none of the {marked} that readers marked; change `readers`"
    raise UserError(f"split: no box of {', '.join(truth.findings)} in the {split} part; {reason}")


def image_sizes(dataset: Dataset) -> pd.DataFrame:
    """Columns of IMAGE_FIELDS and patient_id for every image, sizes from the files' headers."""
    rows = dataset.images[["image_id", "path", "region"]].to_numpy().tolist()
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda row: read_size_hw(dataset.root / row[1], region=row[2]), rows))
    table = [(*row, width, height) for row, (height, width) in zip(rows, sizes, strict=True)]
    images = pd.DataFrame(table, columns=IMAGE_FIELDS)
    return images.assign(patient_id=dataset.images["patient_id"].to_numpy())


def info(dataset: Dataset, split: str) -> dict[str, Any]:
    """What a COCO file says about where its images are."""
    return {"data_root": str(dataset.root), "dataset": dataset.name, "split": split, "synthetic": dataset.synthetic}


def findings_to_score(
    asked: Sequence[str] | None, classifier: Sequence[str], tune: Dataset, *, source: Path
) -> tuple[str, ...]:
    """The findings that are scored, in the classifier's order.

    Raises:
        UserError: an asked finding that the classifier does not know, or none with boxes on the tune split.
    """
    boxed = set(tune.boxes["finding"])
    if asked is not None:
        check_findings(asked, classifier, source=f"findings (classifier {source})")
        if missing := [name for name in asked if name not in boxed]:
            raise UserError(
                f"findings: the tune split has no boxes of {', '.join(missing)}, only of "
                f"{', '.join(sorted(boxed)) or 'nothing'}; leave them out, or give data with such boxes"
            )
        return tuple(name for name in classifier if name in asked)
    shared = tuple(name for name in classifier if name in boxed)
    if not shared:
        raise UserError(
            f"findings: the classifier {source} knows {', '.join(classifier)}; the tune split has boxes of "
            f"{', '.join(sorted(boxed)) or 'nothing'}; give data with boxes of the same findings"
        )
    return shared
