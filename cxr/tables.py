"""The common format of all data sets: three tables with fixed columns, and a list of exclusions.

A data set module turns a released folder into a `Dataset`. No other code knows the quirks of a release.

Rules that hold for every `Dataset`:

- `root` is the folder that the user gave, and `root / path` is the file (POSIX).
- `image_id` is unique. `labels` has the rows of `images` in the same order.
- Labels are those of the release: 1 positive, 0 negative, -1 uncertain, NaN not mentioned. Stage 1 applies policies
  such as "uncertain is positive". NOT_ASKED stands where the image's data set does not label the finding at all: it is
  masked everywhere, whatever the policies.
- Boxes are xyxy in continuous pixels of the decoded image, or of its half if `region` is a half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, StringConstraints

from cxr.config import Settings, UserError
from cxr.text_columns import store_texts_in_python

store_texts_in_python()

NOT_ASKED = -2.0
"""Label of a finding that the image's data set does not label (several data sets in one run)."""

IMAGE_COLUMNS = ["image_id", "path", "region", "patient_id", "study_id", "view", "sex", "age", "split", "set"]
"""str, str, "full" | "left" | "right_mirrored", str ("" unknown), str ("" unknown), "frontal" |
"lateral" | "", "F" | "M" | "", float years (NaN unknown), the data set's own split ("" none), the name of the image's
data set in a run of several ("" in a run of one)."""

BOX_COLUMNS = ["image_id", "finding", "x1", "y1", "x2", "y2", "reader"]
"""str, canonical finding, four float64 pixels, the reader's name ("" none)."""

MASK_COLUMN = "mask"
"""An additional last column of boxes if the data set has masks: the `cxr.masks.Mask` that the box encloses, in the size
of the decoded image, or None."""

NUMBER_COLUMNS = frozenset({"x1", "y1", "x2", "y2", "frame_h", "frame_w"})

SHOWN_PROBLEMS = 20
_SHOWN_CHARACTERS = 300

OnProblem = Literal["error", "exclude"]
SetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""Name of a data set; without a slash, which separates it from image and patient ids."""


@dataclass(frozen=True)
class Exclusion:
    """An excluded image, box or column, and the reason."""

    what: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """A loaded data set. See the docstring of this module for the rules and the column lists for the types."""

    name: str
    root: Path
    images: pd.DataFrame
    labels: pd.DataFrame
    boxes: pd.DataFrame
    excluded: tuple[Exclusion, ...] = ()
    synthetic: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    """Number of changes without exclusion (boxes clipped, ages unknown, ...), by description."""
    boxed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Several data sets: the findings of which each has boxes, by its name."""

    def __post_init__(self) -> None:
        assert list(self.images.columns) == IMAGE_COLUMNS, list(self.images.columns)
        assert list(self.boxes.columns) == box_columns(self.boxes), list(self.boxes.columns)
        assert self.images["image_id"].is_unique
        assert self.labels.index.tolist() == self.images["image_id"].tolist()
        assert self.boxes["image_id"].isin(self.labels.index).all()

    @property
    def findings(self) -> tuple[str, ...]:
        """The canonical findings that have a label column, in their order."""
        return tuple(str(name) for name in self.labels.columns)

    def select(self, image_ids: Iterable[str]) -> Dataset:
        """The same data set with only these images, in table order. KeyError on an unknown id."""
        wanted = set(image_ids)
        unknown = wanted - set(self.images["image_id"])
        if unknown:
            raise KeyError(f"{len(unknown)} unknown image ids, e.g. {min(unknown)!r}")
        keep = self.images["image_id"].isin(wanted)
        images = self.images[keep].reset_index(drop=True)
        boxes = self.boxes[self.boxes["image_id"].isin(wanted)].reset_index(drop=True)
        return replace(self, images=images, labels=self.labels[keep.to_numpy()], boxes=boxes)


class DataSettings(Settings):
    """The settings that all data sets have in common."""

    name: SetName | None = None
    """Name of the data set in tables and reports. Data sets of one name share their patients: a patient on whom a
    classifier was trained must not be in the test split of a data set of that name. None: the name of its kind."""
    root: Path
    """Folder of the released data set."""
    on_problem: OnProblem = "error"
    """error: stop and list all problems. exclude: exclude the images and boxes concerned, name and count them."""
    check_files: Literal["none", "exist", "header"] = "exist"
    """none: open no image unless its size is needed. exist: each listed image must exist, and boxes must fit into their
    image. header: the header of each image must be readable as well."""
    max_images: int | None = Field(default=None, gt=0)
    """Load at most this number of images, evenly spaced over the table, for a quick trial."""


class Problems:
    """Collects what is wrong with a data set, then raises or reports all of it at once."""

    def __init__(self, on_problem: OnProblem, *, source: str) -> None:
        self.on_problem = on_problem
        self.source = source
        self.counts: Counter[str] = Counter()
        self._found: list[Exclusion] = []
        self._excluded: list[Exclusion] = []
        self._summaries: dict[str, list[str]] = {}

    def add(self, what: str, reason: str) -> None:
        """A defect: an error or an exclusion, as the user chose."""
        self._found.append(Exclusion(_one_line(what), reason))

    def add_all(self, whats: Iterable[str], reason: str) -> None:
        """`add` for many things with one reason."""
        self._found.extend(Exclusion(_one_line(what), reason) for what in whats)

    def sum_up(self, reason: str, lines: Sequence[str]) -> None:
        """Lines that say all about the defects of a reason; an error has them instead of one line per defect."""
        if lines:
            self._summaries.setdefault(reason, []).extend(map(_one_line, lines))

    @property
    def summaries(self) -> list[str]:
        """The lines of `sum_up`, each with the name of the source."""
        return [f"{self.source}: {line}" for lines in self._summaries.values() for line in lines]

    def exclude(self, what: str, reason: str) -> None:
        """An exclusion by a rule of the data set or by a setting: never an error, but named and counted."""
        self._excluded.append(Exclusion(_one_line(what), reason))

    def count(self, what: str, num: int = 1) -> None:
        """Count changes without exclusion, for instance clipped boxes. Zero is not recorded."""
        if num:
            self.counts[what] += int(num)

    def finish(self) -> tuple[Exclusion, ...]:
        """All exclusions. Raises a UserError that lists all defects if there are any and `on_problem` is "error"."""
        if self._found and self.on_problem == "error":
            raise UserError(self._lines())
        return tuple(self._found + self._excluded)

    def _lines(self) -> list[str]:
        single = [one for one in self._found if one.reason not in self._summaries]
        shown = single[:SHOWN_PROBLEMS]
        lines = self.summaries + [f"{self.source}: {p.what}: {p.reason}" for p in shown]
        if len(single) > len(shown):
            lines.append(f"{self.source}: and {len(single) - len(shown)} more")
        tally = ", ".join(f"{num} x {reason}" for reason, num in count_reasons(self._found).items())
        lines.append(
            f"{self.source}: {len(self._found)} problems ({tally}); repair the data, or set "
            "`on_problem: exclude` to exclude and count them"
        )
        return lines


def _one_line(what: str) -> str:
    """What stands in a table as part of one line: short, with escapes for line breaks and what else does not print."""
    if what.isprintable() and 0 < len(what) <= _SHOWN_CHARACTERS:
        return what
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in what[:_SHOWN_CHARACTERS])
    return f"{shown}..." if len(what) > _SHOWN_CHARACTERS else shown or "''"


def count_reasons(excluded: Iterable[Exclusion]) -> dict[str, int]:
    """Number of exclusions per reason, the most frequent first."""
    return dict(Counter(item.reason for item in excluded).most_common())


def empty_boxes() -> pd.DataFrame:
    """A box table without rows, with the right columns and types."""
    return box_table(pd.DataFrame(columns=BOX_COLUMNS))


def box_columns(boxes: pd.DataFrame) -> list[str]:
    """The columns that a table of boxes keeps: BOX_COLUMNS, and MASK_COLUMN if the table has it."""
    return [*BOX_COLUMNS, MASK_COLUMN] if MASK_COLUMN in boxes.columns else BOX_COLUMNS


def box_table(table: pd.DataFrame) -> pd.DataFrame:
    """The box columns of `table` (and the frame's, if any) with their types; `reader` is "" where missing."""
    filled = table if "reader" in table else table.assign(reader="")
    names = box_columns(filled) + [name for name in ("frame_h", "frame_w") if name in filled.columns]
    types = {name: np.float64 if name in NUMBER_COLUMNS else str for name in names if name != MASK_COLUMN}
    return filled[names].astype(types).reset_index(drop=True)


def image_table(**columns: pd.Series | list[str] | str | float) -> pd.DataFrame:
    """An image table from the columns that the source has; the others get their "unknown" value."""
    unknown: dict[str, str | float] = {"region": "full", "age": float("nan")}
    table = pd.DataFrame(dict(columns))
    for name in IMAGE_COLUMNS:
        if name not in table:
            table[name] = unknown.get(name, "")
    types = {name: np.float64 if name == "age" else str for name in IMAGE_COLUMNS}
    return table[IMAGE_COLUMNS].astype(types).reset_index(drop=True)
