"""The leaderboard: scored boxes of several methods on one ground truth, and how they differ.

All entries are scored on the same images, by the same measures and in the same bootstrap resamples, so that
differences are paired. Stage 2 compares CAM methods, stage 3 compares detectors.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, Literal, TypeVar

import pandas as pd

from cxr.coco import CocoBoxes
from cxr.metrics import ReadMetrics
from cxr.runs.run_folder import atomic_write_text
from eval.leaderboard.names import AP40, HUMAN, ap40_key, or_lowest, shown_name
from eval.leaderboard.tables import Rows
from eval.report.format import json_value
from eval.stats.bootstrap import Counts, Estimate
from eval.stats.measures import Bootstrapped, Measure, bootstrap, bootstrap_figures, difference
from eval.stats.paired import Comparison, compare_paired

Kind = Literal["method", "prior", "detector"]
FileCell = str | float | bool | None
MEAN = "mean"
TIMING = ("ms_per_image", "peak_mib")


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of a leaderboard.

    name: as in `metrics.json`. kind: what made the boxes. A prior uses neither map nor image.
    detections: scored boxes of the test images. measures: values and resamples by name, e.g. "ap40".
    """

    name: str
    kind: Kind
    detections: CocoBoxes
    measures: Mapping[str, Bootstrapped]

    @property
    def ap40(self) -> Bootstrapped:
        return self.measures[AP40]

    @property
    def is_prior(self) -> bool:
        return self.kind == "prior"

    @property
    def figures(self) -> dict[str, float]:
        """``<measure>/<name>`` and ``<measure>/<name>/<finding>`` with the ends of their intervals."""
        figures: dict[str, float] = {}
        for measure, scored in self.measures.items():
            figures |= bootstrap_figures(f"{measure}/{self.name}", scored)
        return figures

    def method_of(self, finding: str | None) -> str:  # noqa: ARG002 - subclasses use it
        """The CAM method of a finding, or of all findings (None); "" where there is none or where they differ."""
        return ""

    def details(self, finding: str | None) -> dict[str, FileCell]:  # noqa: ARG002 - subclasses use it
        """Further columns of `leaderboard.csv` for a finding, or for the mean (None)."""
        return {}


AnyEntry = TypeVar("AnyEntry", bound=Entry)


@dataclass(frozen=True, eq=False)
class Leaderboard(Generic[AnyEntry]):
    """Entries on one ground truth, and the main entry, which is compared with each of the others.

    truth: images and true boxes of the test split. main: the chosen CAM method, or the detector.
    human: AP40 of single readers against the others on the same resamples, where test images have several readers.
    more: further figures by name, such as the human ceiling of the tune split. teacher: CAM method of the CAM teacher.
    """

    truth: CocoBoxes
    entries: tuple[AnyEntry, ...]
    main: AnyEntry
    human: Bootstrapped | None = None
    more: ReadMetrics = field(default_factory=dict)
    teacher: str | None = None

    @property
    def ranked(self) -> list[AnyEntry]:
        """By falling AP40 on the test split; entries without a value come last."""
        return sorted(self.entries, key=lambda entry: -or_lowest(entry.ap40.mean))

    def entry(self, name: str) -> AnyEntry:
        """KeyError for an unknown name."""
        return {entry.name: entry for entry in self.entries}[name]

    @cached_property
    def compared(self) -> Mapping[str, Comparison]:
        """The main entry against each other one; p-values are corrected (Holm) for all of them together."""
        others = {entry.name: entry.ap40 for entry in self.entries if entry is not self.main}
        return {one.name: one for one in compare_paired(self.main.ap40, others)}

    @property
    def against_human(self) -> Estimate | None:
        """The main entry minus the human ceiling, paired; None where that is not of the same resamples."""
        return None if self.human is None else difference(self.main.ap40, self.human)

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Flat figures of all entries, for `metrics.json`."""
        figures: dict[str, float | None] = {}
        for entry in self.entries:
            figures |= entry.figures
        if self.human is not None:
            figures |= bootstrap_figures(f"{AP40}/{HUMAN}", self.human)
        return figures | dict(self.more)

    @property
    def num_true(self) -> dict[str, int]:
        """Finding -> number of true boxes on the test split, without ignore regions."""
        count = self.truth.without_ignored().boxes["finding"].value_counts()
        return {finding: int(count.get(finding, 0)) for finding in self.truth.findings}

    def rows(self, timing: ReadMetrics | None = None) -> Rows:
        """For tables: the entries by falling AP40, the human ceiling last. timing: e.g. ``ms_per_image/<name>``."""
        figures = {**self.metrics, **(timing or {})}
        names = [entry.name for entry in self.ranked]
        names += [HUMAN] if figures.get(ap40_key(figures, HUMAN)) is not None else []
        chosen = self.main.name if self.main.kind == "method" else None
        shown = {
            name: shown_name(name, figures, teacher=self.teacher) + " (chosen)" * (name == chosen) for name in names
        }
        return Rows(shown, figures, self.main.name)


def bootstrapped(measures: Iterable[Measure], counts: Counts) -> dict[str, Bootstrapped]:
    """Name -> values and resamples of each measure. counts: (R, I) of `eval.stats.bootstrap.resample_counts`."""
    return {measure.name: bootstrap(measure, counts) for measure in measures}


def leaderboard_rows(board: Leaderboard[AnyEntry], timing: ReadMetrics) -> list[dict[str, FileCell]]:
    """One row for the mean and one per finding of each entry; entries by falling AP40 on the test split, human last.

    Columns: entry, finding ("mean" for the mean), method (CAM method of the finding; "" for a prior), chosen (True for
    the main entry), the entry's `details`, each measure with ``_low`` and ``_high``, and `TIMING` in the mean's row.
    """
    rows: list[dict[str, FileCell]] = []
    for entry in board.ranked:
        for finding in (None, *board.truth.findings):
            row = _start(entry.name, finding, entry.method_of(finding), entry is board.main)
            row |= entry.details(finding)
            for measure, scored in entry.measures.items():
                row |= _cells(measure, scored, finding)
            if finding is None:
                row |= {name: timing.get(f"{name}/{entry.name}") for name in TIMING}
            rows.append(row)
    if board.human is not None:
        for finding in (None, *board.truth.findings):
            rows.append(_start(HUMAN, finding, "", False) | _cells(AP40, board.human, finding))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: json_value(row.get(name)) for name in columns} for row in rows]


def _start(name: str, finding: str | None, method: str, chosen: bool) -> dict[str, FileCell]:
    return {"entry": name, "finding": finding or MEAN, "method": method, "chosen": chosen}


def _cells(measure: str, scored: Bootstrapped, finding: str | None) -> dict[str, FileCell]:
    one = scored.estimate(finding)
    ends = {f"{measure}_low": one.low, f"{measure}_high": one.high} if len(scored.samples) else {}
    return {measure: one.value, **ends}


def write_leaderboard(run_dir: Path, board: Leaderboard[AnyEntry], timing: ReadMetrics) -> dict[str, Path]:
    """Write `leaderboard.csv` and `leaderboard.json`; returns output name -> path, for the run's manifest."""
    rows = leaderboard_rows(board, timing)
    paths = {"leaderboard_csv": run_dir / "leaderboard.csv", "leaderboard_json": run_dir / "leaderboard.json"}
    atomic_write_text(paths["leaderboard_csv"], pd.DataFrame(rows).to_csv(index=False))
    content = {"split": "test", "chosen_on": "tune", "best": board.main.name, "rows": rows}
    atomic_write_text(paths["leaderboard_json"], json.dumps(content, indent=1, allow_nan=False) + "\n")
    return paths
