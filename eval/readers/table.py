"""CSV tables of readers' boxes: who read which image, and which boxes each reader marked.

The headers of VinBigData's train.csv (Kaggle), of VinDr-CXR's annotations_train.csv (PhysioNet), and image, reader,
finding, x1, y1, x2, y2 are recognised. In a row without coordinates the reader read the image and marked no box: "No
finding", or a finding of the whole image, which has no boxes in the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools
from cxr.boxes import CORNERS
from cxr.config import UserError
from cxr.datasets.text_cells import numbers
from cxr.datasets.text_files import read_text_table
from cxr.labels import nearest
from cxr.wording import counted

KNOWN_HEADERS: Mapping[str, tuple[str, ...]] = {
    "image": ("image_id", "image", "image_name", "filename", "file_name"),
    "reader": ("rad_id", "reader", "reader_id", "radiologist", "annotator"),
    "finding": ("class_name", "finding", "label", "class"),
    "x1": ("x_min", "x1", "xmin"),
    "y1": ("y_min", "y1", "ymin"),
    "x2": ("x_max", "x2", "xmax"),
    "y2": ("y_max", "y2", "ymax"),
}
"""Field -> recognised headers in order of preference; case does not matter."""

NO_FINDING_NAMES = frozenset({"", "no finding", "no_finding", "nofinding", "normal"})
SHOWN_ROWS = 10


@dataclass(frozen=True)
class ReaderTable:
    """The content of a table.

    boxes: columns image_id, finding (the table's own name), x1, y1, x2, y2 (pixels), reader. readings: columns
    image_id, reader, one row per image and reader, also without a box. num_rows: all rows. num_no_finding,
    num_whole_image: rows without a box that say "no finding", or name a finding of the whole image.
    """

    boxes: pd.DataFrame
    readings: pd.DataFrame
    num_rows: int
    num_no_finding: int
    num_whole_image: int

    @property
    def image_ids(self) -> list[str]:
        """In the order of the table."""
        return [str(name) for name in self.readings["image_id"].unique()]

    @property
    def findings(self) -> list[str]:
        """The classes with boxes, by name."""
        return sorted(set(self.boxes["finding"]))


def read_reader_table(path: Path, columns: Sequence[str] = (), *, encoding: str = "utf-8") -> ReaderTable:
    """Read a table.

    columns: "FIELD=HEADER" each, for headers that are not recognised; fields are those of `KNOWN_HEADERS`.
    encoding: of the table, as Python calls it.

    Raises:
        UserError: no such file or not a CSV; a missing or unknown column; rows without image or reader, with an invalid
            box, or without a box although their class has boxes; one name in two spellings.
    """
    if not path.is_file():
        raise UserError(f"readers: no table {path}; give a CSV file with one row per box and reader")
    cells = read_text_table(path, encoding=encoding, encoding_key="--encoding ")
    headers = _headers(cells, columns, source=path)
    cells = pd.DataFrame({field: cells[header].str.strip() for field, header in headers.items()})
    if cells.empty:
        raise UserError(f"readers: {path} has no rows below its header; give a table with one row per box")
    corners = np.stack([numbers(cells[name]) for name in CORNERS], axis=1)
    is_blank = (cells[CORNERS] == "").all(axis=1).to_numpy()
    says_none = is_blank & cells["finding"].str.lower().isin(NO_FINDING_NAMES).to_numpy()
    _refuse_bad_rows(cells, corners, is_blank=is_blank, source=path)
    _refuse_names_alike(cells, source=path)
    cells = cells.rename(columns={"image": "image_id"})
    boxes = cells[["image_id", "finding"]].assign(**dict(zip(CORNERS, corners.T, strict=True)))
    return ReaderTable(
        boxes=boxes.assign(reader=cells["reader"])[~is_blank].reset_index(drop=True),
        readings=cells[["image_id", "reader"]].drop_duplicates().reset_index(drop=True),
        num_rows=len(cells),
        num_no_finding=int(says_none.sum()),
        num_whole_image=int((is_blank & ~says_none).sum()),
    )


def _headers(table: pd.DataFrame, columns: Sequence[str], *, source: Path) -> dict[str, str]:
    """Field -> header in this table."""
    there = [str(name) for name in table.columns]
    given = _given_headers(columns, there, source=source)
    by_lower = {name.strip().lower(): name for name in reversed(there)}
    found = dict(given)
    for field, names in KNOWN_HEADERS.items():
        known = [by_lower[name] for name in names if name in by_lower]
        if field not in found and known:
            found[field] = known[0]
    missing = [field for field in KNOWN_HEADERS if field not in found]
    if missing:
        consensus = " (a consensus has no readers, so no agreement)" if missing == ["reader"] else ""
        raise UserError(
            f"readers: {source} has no recognised column for {', '.join(missing)}{consensus}; it has "
            f"{', '.join(there)}; name them: --columns {' '.join(f'{name}=HEADER' for name in missing)}"
        )
    return {field: found[field] for field in KNOWN_HEADERS}


def _given_headers(columns: Sequence[str], there: Sequence[str], *, source: Path) -> dict[str, str]:
    given: dict[str, str] = {}
    problems = []
    for text in columns:
        field, _, header = text.partition("=")
        if field not in KNOWN_HEADERS or not header:
            expected = ", ".join(KNOWN_HEADERS)
            problems.append(f"--columns {text}: expected FIELD=HEADER with a field of {expected}")
        elif header not in there:
            hint = f"{nearest(header, there)}; it has {', '.join(there)}"
            problems.append(f"--columns {text}: {source} has no column {header!r}{hint}")
        elif field in given:
            problems.append(f"--columns {text}: {field} is given twice; name one column")
        given[field] = header
    if problems:
        raise UserError(problems)
    return given


def _refuse_bad_rows(cells: pd.DataFrame, corners: npt.NDArray[np.float64], *, is_blank: Bools, source: Path) -> None:
    is_number = np.isfinite(corners).all(axis=1)
    is_upright = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    is_nothing = cells["finding"].str.lower().isin(NO_FINDING_NAMES).to_numpy()
    has_boxes = cells["finding"].isin(cells.loc[~is_blank, "finding"]).to_numpy()
    kinds: dict[str, Bools] = {
        "without an image": (cells["image"] == "").to_numpy(),
        "without a reader": (cells["reader"] == "").to_numpy(),
        "whose box is not four numbers": ~is_blank & ~is_number,
        "whose box is inverted or empty (x2 <= x1 or y2 <= y1)": ~is_blank & is_number & ~is_upright,
        "with a box but without a finding": ~is_blank & is_nothing,
        "without a box, of a class that has boxes in other rows": is_blank & has_boxes & ~is_nothing,
    }
    problems = [_problem(what, np.flatnonzero(bad), source) for what, bad in kinds.items() if bad.any()]
    if problems:
        raise UserError(problems)


def _refuse_names_alike(cells: pd.DataFrame, *, source: Path) -> None:
    """UserError for a reader or a class in two spellings, which would count as two."""
    problems = []
    for field in ("reader", "finding"):
        names = pd.Series(sorted(set(cells[field])), dtype=object)
        names = names[~names.str.lower().isin(NO_FINDING_NAMES)]
        for alike in names.groupby(names.str.casefold()).agg(list):
            if len(alike) > 1:
                named = " and ".join(map(repr, alike))
                problems.append(f"readers: {source}: {field} {named} differ only in case; use one spelling")
    if problems:
        raise UserError(problems)


def _problem(what: str, rows: npt.NDArray[np.intp], source: Path) -> str:
    shown = ", ".join(str(row + 2) for row in rows[:SHOWN_ROWS].tolist())
    more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    where = f"{counted(len(rows), 'row')} {what}: row {shown}{more} (the header is row 1)"
    return f"readers: {source}: {where}; correct or remove them"
