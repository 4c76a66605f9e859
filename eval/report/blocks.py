"""Blocks of a report, written as `report.json` for programs and as a self-contained `report.html` for people.

The page uses no network, no external font and no script. Pictures are embedded, so the one file can be mailed.

The order of a report: a row of pictures and one chart, then the verdict, then the tables.
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cxr.config import UserError
from cxr.own_json import Shape, first_problem, read_object
from cxr.runs.run_folder import atomic_write_text
from eval.report.columns import column_groups, is_numeric_column
from eval.report.format import Cell, format_cell, json_value
from eval.report.templating import page_environment

FORMAT = 1
TEMPLATE = "report.html.j2"
_ADVICE = "run the stage again"

Legend = Sequence[Sequence[str]]
"""Entries of a colour legend: pairs of a CSS colour ("#56b4e9") and what it stands for."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; None and not-a-number show as a dash.

    highlight: index of the row that stands out. collapsed: the page shows the title only and opens the table on a
    click. Columns that do not fit on the page follow in a second table, which opens on a click, too.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    highlight: int | None = None
    collapsed: bool = False

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "a row does not have one cell per column"


@dataclass(frozen=True)
class Figure:
    """A picture file (PNG or JPEG), its path relative to the report's folder, with / between folders."""

    title: str
    path: str
    note: str = ""
    collapsed: bool = False
    legend: Legend = field(default_factory=list)


@dataclass(frozen=True)
class PictureRows:
    """Picture files in rows under column names, such as radiograph, heat map and detections of the same image.

    rows: paths as in `Figure`, one per column, "" for none. captions: one text per row, or none at all.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    captions: Sequence[str] = field(default_factory=list)
    note: str = ""
    legend: Legend = field(default_factory=list)

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "a row does not have one cell per column"
        assert len(self.captions) in (0, len(self.rows)), "one caption per row"


@dataclass(frozen=True)
class Verdict:
    """The main result: the first paragraph is one sentence with its figures, further paragraphs are details."""

    title: str
    body: str


@dataclass(frozen=True)
class Text:
    """Prose; an empty line begins a new paragraph. Without a body it is the heading of what follows."""

    title: str
    body: str = ""


Block = Table | Figure | PictureRows | Verdict | Text

_KINDS: dict[str, type[Block]] = {
    "table": Table,
    "figure": Figure,
    "picture_rows": PictureRows,
    "verdict": Verdict,
    "text": Text,
}
_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Report:
    """The content of a `report.json`."""

    title: str
    lead: str
    blocks: tuple[Block, ...]
    synthetic: bool


class _ReportFile(Shape):
    format: int
    title: str
    lead: str
    synthetic: bool
    blocks: list[dict[str, Any]]


def write_report(folder: Path, *, title: str, lead: str, blocks: Sequence[Block], synthetic: bool) -> Path:
    """Write `report.json` and `report.html` into `folder` (made if missing); returns the page's path.

    lead: what the report is about. synthetic: show a banner which says that the figures come from phantom data. Raises
    UserError when a figure's file is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    views = [{"id": f"part{i}", **_view(block, folder)} for i, block in enumerate(blocks, start=1)]
    entries = [{"kind": _kind(block), **json_value(asdict(block))} for block in blocks]
    content = {"format": FORMAT, "title": title, "lead": lead, "synthetic": synthetic, "blocks": entries}
    atomic_write_text(folder / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    headings = [view for view in views if view["is_heading"]] or [view for view in views if view["title"]]
    html = (
        page_environment()
        .get_template(TEMPLATE)
        .render(title=title, lead=_paragraphs(lead), synthetic=synthetic, blocks=views, contents=headings)
    )
    page = folder / "report.html"
    atomic_write_text(page, html)
    return page


def read_report(folder: Path) -> Report | None:
    """The report of a run folder, None where there is none; UserError when it cannot be read."""
    path = folder / "report.json"
    if not path.is_file():
        return None
    content = read_object(path, shape=_ReportFile, advice=_ADVICE)
    blocks = tuple(_block(entry, where=f"{path}: block {number}") for number, entry in enumerate(content["blocks"]))
    return Report(content["title"], content["lead"], blocks, content["synthetic"])


def _block(entry: dict[str, Any], *, where: str) -> Block:
    kind = entry.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"{where}: kind: got {kind!r}, expected one of {', '.join(_KINDS)}; {_ADVICE}")
    try:
        return TypeAdapter(_KINDS[kind]).validate_python(entry)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}; {_ADVICE}") from None


def _kind(block: Block) -> str:
    return next(name for name, kind in _KINDS.items() if isinstance(block, kind))


def _view(block: Block, folder: Path) -> dict[str, Any]:
    """What the template needs of a block."""
    view: dict[str, Any] = {"note": "", "legend": [], "collapsed": False, "is_heading": False}
    view |= vars(block) | {"kind": _kind(block)}
    if isinstance(block, Table):
        return view | {"parts": _table_parts(block)}
    if isinstance(block, Figure):
        return view | {"source": _embedded(folder / block.path)}
    if isinstance(block, PictureRows):
        captions = block.captions or [""] * len(block.rows)
        rows = [[_embedded(folder / path) if path else "" for path in row] for row in block.rows]
        return view | {"rows": list(zip(captions, rows, strict=True))}
    return view | {"paragraphs": _paragraphs(block.body), "is_heading": not block.body.strip()}


def _table_parts(table: Table) -> list[dict[str, Any]]:
    """The table as one or more tables that fit on the page: (text, is number) per head and per cell."""
    rows = [[format_cell(json_value(cell)) for cell in row] for row in table.rows]
    numeric = [is_numeric_column([row[i] for row in rows]) for i in range(len(table.columns))]
    return [
        {
            "columns": [(table.columns[i], numeric[i]) for i in group],
            "rows": [[(row[i], numeric[i]) for i in group] for row in rows],
        }
        for group in column_groups(table.columns, rows)
    ]


def _paragraphs(body: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", body) if part.strip()]


def _embedded(path: Path) -> str:
    """The picture as a data URL."""
    if not path.is_file():
        raise UserError(f"report: no picture {path}; run the stage that makes it again")
    media = _MEDIA[path.suffix.lower()]
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
