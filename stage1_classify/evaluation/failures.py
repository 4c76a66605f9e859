"""The most confident errors of a classifier, to look at one by one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.runs.run_folder import atomic_write_text
from cxr.spreadsheet_cells import inert
from eval.report.blocks import Block, Figure, Table, Text
from eval.report.pictures import Rgb, grid, save_png
from eval.report.radiographs import radiograph_of, short_ids
from stage1_classify.evaluation.predictions import Scored

COLUMNS = ("number", "finding", "kind", "probability", "threshold", "target", "image_id")

FILE = "failures.csv"

SHOWN = 2
"""Tiles per kind and finding; ``failures.csv`` holds more."""

_TILE_PX = 260


@dataclass(frozen=True)
class Failure:
    """A case on the wrong side of the threshold. case: its row in the split. target: 1 missed, 0 false alarm."""

    image_id: str
    finding: str
    probability: float
    target: int
    threshold: float
    case: int

    @property
    def kind(self) -> str:
        return "false negative" if self.target else "false positive"


def worst_failures(
    scored: Scored, thresholds: Floats, findings: Sequence[str], *, per_finding: int = 4
) -> list[Failure]:
    """The failures furthest from the threshold, finding by finding, false positives first.

    Up to `per_finding` per kind; the first of the split on ties. Cases with an unknown label and findings without a
    threshold (NaN) have no failures.

    Args:
        thresholds: (K,) a case is positive at the threshold of the finding or above.
    """
    failures = []
    ids = scored.split.cases.first.images["image_id"].tolist()
    for k, finding in enumerate(findings):
        probabilities, targets = scored.probabilities[:, k], scored.split.targets[:, k]
        called = probabilities >= thresholds[k]
        distance = np.abs(probabilities - thresholds[k])
        for target, wrong in ((0, called), (1, ~called & ~np.isnan(thresholds[k]))):
            rows = np.flatnonzero((targets == target) & wrong)
            worst = rows[np.argsort(-distance[rows], kind="stable")][:per_finding]
            failures += [
                Failure(ids[row], finding, float(probabilities[row]), target, float(thresholds[k]), int(row))
                for row in worst.tolist()
            ]
    return failures


def failure_table(failures: Sequence[Failure]) -> pd.DataFrame:
    """One row per failure, numbered from 1 as in the gallery, with full image ids."""
    rows = [{**asdict(item), "kind": item.kind, "number": n} for n, item in enumerate(failures, start=1)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def failure_blocks(scored: Scored, failures: Sequence[Failure], run_dir: Path) -> list[Block]:
    """Write ``failures.csv`` (all failures) and the gallery (the first few per kind); returns their report blocks."""
    failures = shown_first(failures)
    table = failure_table(failures)
    atomic_write_text(run_dir / FILE, table.map(inert).to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    if not failures:
        body = "None. Every case with a known label is on the right side of the threshold."
        return [Text("Most confident failures", body)]
    save_png(run_dir / "pictures" / "failures.png", failure_gallery(scored, failures))
    numbers = [number for number, _ in _shown(failures)]
    rows = table[table["number"].isin(numbers)].to_numpy(dtype=object).tolist()
    note = "Number, finding, kind of failure, probability against the threshold, and the end of the image id."
    return [
        Figure("Most confident failures", "pictures/failures.png", note),
        Table("The failures above", list(COLUMNS), rows, f"{FILE} holds {len(failures)}, with these numbers."),
    ]


def failure_gallery(scored: Scored, failures: Sequence[Failure]) -> Rgb:
    """One row of tiles per finding: its worst false positives, then its worst false negatives, as in the files."""
    chosen = _shown(failures)
    ids = [item.image_id for _, item in chosen]
    names = dict(zip(ids, short_ids(ids), strict=True))
    tiles: list[Rgb] = []
    captions: list[str] = []
    for finding in dict.fromkeys(item.finding for _, item in chosen):
        own = [(number, item) for number, item in chosen if item.finding == finding]
        tiles += [radiograph_of(scored.split.cases.first, item.case, _TILE_PX) for _, item in own]
        captions += [_caption(number, item, names[item.image_id]) for number, item in own]
        gap = -len(tiles) % (2 * SHOWN)  # so that the next finding begins a row
        tiles += [np.full((_TILE_PX, _TILE_PX, 3), 255, dtype=np.uint8)] * gap
        captions += [""] * gap
    return grid(tiles, captions, columns=2 * SHOWN, tile_px=_TILE_PX)


def shown_first(failures: Sequence[Failure]) -> list[Failure]:
    """The failures of the gallery before all others, so that their numbers have no gaps."""
    shown = [item for _, item in _shown(failures)]
    return [*shown, *(item for item in failures if item not in shown)]


def _shown(failures: Sequence[Failure]) -> list[tuple[int, Failure]]:
    """The first few per finding and kind, with their numbers."""
    chosen: list[tuple[int, Failure]] = []
    seen: Counter[tuple[str, str]] = Counter()
    for number, item in enumerate(failures, start=1):
        seen[item.finding, item.kind] += 1
        if seen[item.finding, item.kind] <= SHOWN:
            chosen.append((number, item))
    return chosen


def _caption(number: int, item: Failure, name: str) -> str:
    sign = "<" if item.target else "≥"
    numbers = [f"{value:.3f}".removeprefix("0") for value in (item.probability, item.threshold)]
    # Spaces at which no line is broken, so that the decision stays in one piece.
    decision = f"{item.kind}: {numbers[0]} {sign} {numbers[1]}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{number}. {item.finding} {decision} {name}"
