"""Images whose size, shape or exposure is far from that of the others."""

import numpy as np
import pandas as pd

from eval.report.blocks import Table
from eval.report.format import Cell, in_format

FENCE = 3.0
"""Interquartile ranges beyond the quartiles: Tukey's "far out" values (Exploratory Data Analysis, 1977)."""

MEASURES = {
    "height": ("height in pixels", 5.0),
    "width": ("width in pixels", 5.0),
    "aspect": ("width over height", 0.01),
    "range": ("share of the grey levels in use", 0.05),
    "mean": ("mean grey level", 0.02),
    "contrast": ("standard deviation of the grey levels", 0.02),
    "black": ("share of black pixels", 0.02),
    "white": ("share of white pixels", 0.02),
}
"""What is compared (see `image_facts.COLUMNS`) -> in words, and the least interquartile range that is counted with, so
that small differences between nearly equal images are not far out."""

COLUMNS = ("image_id", "measure", "value", "distance")


def with_aspect(facts: pd.DataFrame) -> pd.DataFrame:
    """The facts of images with all columns of `MEASURES`."""
    return facts.assign(aspect=facts["width"] / facts["height"])


def unusual_images(facts: pd.DataFrame) -> pd.DataFrame:
    """`COLUMNS` of each image beyond a fence, the furthest first: the measure in which it is furthest out, and the
    distance from the nearer quartile in interquartile ranges."""
    values = with_aspect(facts)[list(MEASURES)].to_numpy(np.float64)
    if not len(values):
        return pd.DataFrame(columns=list(COLUMNS))
    low, high = np.percentile(values, [25, 75], axis=0)
    scale = np.maximum(high - low, [least for _, least in MEASURES.values()])
    distance = np.maximum(np.maximum(low - values, values - high), 0) / scale
    worst, rows = distance.argmax(axis=1), np.arange(len(values))
    table = pd.DataFrame(
        {
            "image_id": facts.index,
            "measure": [list(MEASURES)[column] for column in worst],
            "value": values[rows, worst],
            "distance": distance[rows, worst],
        }
    )
    return table[table["distance"] > FENCE].sort_values("distance", ascending=False, kind="stable", ignore_index=True)


def measure_table(facts: pd.DataFrame) -> Table:
    """The range of each measure over all images."""
    values = with_aspect(facts)
    rows: list[list[Cell]] = []
    for name, (words, _) in MEASURES.items():
        spec = ".0f" if name in ("height", "width") else ".3f"
        own = values[name].to_numpy(np.float64)
        ends = np.percentile(own, [0, 25, 50, 75, 100]).tolist() if len(own) else [None] * 5
        rows.append([words, *(in_format(end, spec) for end in ends)])
    note = "Grey levels are those that a network sees: each image is stretched from its darkest to its brightest pixel."
    return Table(
        "Sizes and exposure", ["", "lowest", "lower quartile", "median", "upper quartile", "highest"], rows, note
    )
