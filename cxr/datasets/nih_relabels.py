"""Google's labels of NIH ChestX-ray14 images: four findings by three radiologists each, after discussion.

Source: Majkowska et al. 2020, doi:10.1148/radiol.2019191293. Released as ``four_findings_expert_labels`` with
``test_labels.csv`` (1,962 images) and ``validation_labels.csv`` (2,412 images): NIH's columns, and Fracture,
Pneumothorax, Airspace opacity and Nodule or mass, which are YES, NO or HEDGE (uncertain). A column "Set Id", which
copies of both tables in one have, is ignored.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.datasets.inside_root import inside
from cxr.datasets.keyed_rows import keyed_rows, row_names
from cxr.datasets.text_cells import Mask, merge_columns
from cxr.datasets.text_files import read_text_table
from cxr.labels.release_names import GOOGLE_NAMES
from cxr.tables import Problems

VALUES = {"YES": 1.0, "NO": 0.0, "HEDGE": -1.0}

BAD_VALUE = "label other than YES, NO and HEDGE"
TWICE = "image with two rows in the tables of `relabels`"
NO_IMAGE = "image of `relabels` that is not in the label table"


def read_relabels(
    root: Path, tables: Sequence[Path], names: "pd.Series[str]", problems: Problems
) -> tuple[pd.DataFrame, Mask]:
    """The labels of the four findings for each image of NIH's table.

    Args:
        tables: paths, relative to `root` and below it, or absolute.
        names: (N,) file names of the images.

    Returns:
        (N, 4) labels: 1, 0, -1, or NaN for an image that the tables lack; and an (N,) mask of the images that they have
        with sound labels.
    """
    required = ["Image Index", *GOOGLE_NAMES]
    paths = [inside(root, path, key="data.relabels") for path in tables]
    read = [read_text_table(path, required=required)[required] for path in paths]
    where = [name for path, part in zip(paths, read, strict=True) for name in row_names(path, part)]
    table = pd.concat(read, ignore_index=True)
    image = table["Image Index"]
    text = table[list(GOOGLE_NAMES)].apply(lambda column: column.str.strip())
    values = text.apply(lambda column: column.map(VALUES)).astype(np.float64)
    for name in GOOGLE_NAMES:
        bad = values[name].isna()
        problems.add_all((image + f", column {name!r}, value " + table[name])[bad], BAD_VALUE)
    differing = keyed_rows(values, image, problems, where=where).contradicts(image)
    problems.add_all(image[image.duplicated() & ~differing], TWICE)
    problems.add_all(image[~image.isin(names)], NO_IMAGE)
    sound = ~image.duplicated() & ~differing & values.notna().all(axis=1)
    own = values[sound].set_axis(image[sound]).reindex(names).set_axis(names.index)
    return merge_columns(own, GOOGLE_NAMES), own.notna().all(axis=1).to_numpy()
