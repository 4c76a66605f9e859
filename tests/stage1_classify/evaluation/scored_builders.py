"""Splits with targets and probabilities that a test gives, over pictures that lie on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.imaging.pictures import Pictures
from cxr.imaging.settings import InputSettings
from cxr.tables import Dataset, empty_boxes, image_table
from stage1_classify.data.batches import Split
from stage1_classify.data.studies import make_cases
from stage1_classify.evaluation.predictions import Scored
from tests.builders import write_picture

FINDINGS = ["Edema", "Lung Lesion"]
NAN = float("nan")

Rows = Sequence[Sequence[float]]
Columns = Mapping[str, Sequence[object]]


def split_of(
    root: Path,
    targets: Rows,
    *,
    images: Columns | None = None,
    settings: InputSettings | None = None,
    max_views: int | None = None,
) -> Split:
    """A case each row of targets, of pictures of 40 x 60 that the network sees as 32 x 48.

    images: columns of the image table; without image_id they are p000, p001, ...
    """
    columns = dict(images or {})
    ids = [str(name) for name in columns.pop("image_id", [f"p{row:03d}" for row in range(len(targets))])]
    paths = [f"images/{row:03d}.png" for row in range(len(ids))]
    for path in paths:
        write_picture(root / path)
    facts = {name: pd.Series(list(values)) for name, values in columns.items()}
    table = image_table(image_id=pd.Series(ids, dtype=str), path=pd.Series(paths, dtype=str), **facts)
    labels = pd.DataFrame(0.0, index=pd.Index(ids, dtype=str), columns=FINDINGS)
    data = Dataset("tiny", root, table, labels, empty_boxes())
    pictures = Pictures(data, settings or InputSettings(size_hw=(32, 48), cache_dir=None))
    values = np.array(targets, dtype=np.float32).reshape(-1, len(FINDINGS))
    return Split(pictures, make_cases(data, max_views), values)


def scored(root: Path, targets: Rows, probabilities: Rows, *, images: Columns | None = None) -> Scored:
    """A split of images with these targets and probabilities, which are not calibrated."""
    values = np.array(probabilities, dtype=np.float64).reshape(-1, len(FINDINGS))
    return Scored(split_of(root, targets, images=images), values, values)
