"""Which views of a release to load."""

from typing import Literal

import numpy as np
import pandas as pd

from cxr.datasets.text_cells import Mask
from cxr.tables import Problems

WantedView = Literal["frontal", "all"]
"""frontal: no lateral or oblique views, and none whose view is unknown."""


def in_view(views: "pd.Series[str]", wanted: WantedView, problems: Problems) -> Mask:
    """(N,) True for the images of the wanted view; the others are counted."""
    if wanted == "all":
        return np.ones(len(views), dtype=bool)
    frontal = np.array(views == "frontal", dtype=bool)
    problems.count("images excluded by `view: frontal`", int((~frontal).sum()))
    return frontal
