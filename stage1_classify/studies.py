"""Cases: what one row of targets stands for, an image or a study of several views."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr.datasets.tables import Dataset

Views = tuple[tuple[int, ...], ...]
"""Of each case the rows of its images in `Dataset.images`, frontal ones first."""


@dataclass(frozen=True)
class Cases:
    """views: rows of the images of each case. first: the data set of the cases' first views, in the cases' order, so
    its `images` and `labels` have one row a case."""

    views: Views
    first: Dataset

    def __len__(self) -> int:
        return len(self.views)


def make_cases(data: Dataset, max_views: int | None) -> Cases:
    """Group the images of `data` into cases (see ViewSettings)."""
    assert max_views is None, "studies: not yet"
    return Cases(tuple((row,) for row in range(len(data.images))), data)


def sum_views(logits: npt.NDArray[np.float32], views: Views) -> npt.NDArray[np.float32]:
    """Logits of images (N, K) to logits of cases (len(views), K): the sum over each case's views."""
    rows = [logits[list(images)].sum(axis=0) for images in views]
    return np.stack(rows) if rows else logits[:0]
