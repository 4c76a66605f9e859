"""Reports: `report.json` for programs and a self-contained `report.html` for people, from the same blocks.

The page needs no network, no font and no script; pictures are embedded, so the one file can be mailed.
"""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from cxr.config import UserError
from cxr.runs.run_folder import atomic_write_text

FORMAT = 1
TEMPLATE = "report_template.html.j2"
MISSING = "–"

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; None and not-a-number show as a dash.

    Columns of numbers, also in texts such as "0.41 [0.35, 0.47]", are right-aligned. highlight: index of
    the row that stands out, e.g. the chosen method.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    highlight: int | None = None

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "a row has other cells than columns"


@dataclass(frozen=True)
class Figure:
    """A picture file (PNG or JPEG), its path relative to the report's folder, with / between folders."""

    title: str
    path: str
    note: str = ""


@dataclass(frozen=True)
class Text:
    """Prose; an empty line begins a new paragraph. Without a body it is the heading of what follows."""

    title: str
    body: str = ""


Block = Table | Figure | Text

_KINDS: dict[str, type[Table] | type[Figure] | type[Text]] = {
    "table": Table,
    "figure": Figure,
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


def write_report(folder: Path, *, title: str, lead: str, blocks: Sequence[Block], synthetic: bool) -> Path:
    """Write `report.json` and `report.html` into `folder` (made if missing); returns the page's path.

    lead: one or two sentences with the main result. synthetic: put a banner over the page which says
    that the figures come from phantom data. Raises UserError when a figure's file is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    views = [{"id": f"part{i}", **_view(block, folder)} for i, block in enumerate(blocks, start=1)]
    entries = [{"kind": _kind(block), **_plain(asdict(block))} for block in blocks]
    content = {"format": FORMAT, "title": title, "lead": lead, "synthetic": synthetic, "blocks": entries}
    atomic_write_text(folder / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    headings = [view for view in views if view["is_heading"]] or [view for view in views if view["title"]]
    html = _template().render(
        title=title, lead=_paragraphs(lead), synthetic=synthetic, blocks=views, contents=headings
    )
    page = folder / "report.html"
    atomic_write_text(page, html)
    return page


def read_report(folder: Path) -> Report | None:
    """The report of a run folder, None where there is none; UserError when it cannot be read."""
    path = folder / "report.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        blocks = tuple(_block(entry) for entry in content["blocks"])
        return Report(content["title"], content["lead"], blocks, bool(content["synthetic"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"report {path}: damaged ({error!r}); run the stage again") from None


def format_cell(cell: Cell) -> str:
    """Text of a cell: integers as they are, fractions with three decimals, from 100 on with one."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return MISSING
    if isinstance(cell, float):
        return f"{cell:.1f}" if abs(cell) >= 100 else f"{cell:.3f}"
    return str(cell)


def is_numeric_column(cells: Sequence[Cell]) -> bool:
    """True when a column holds only numbers, texts that begin with one, intervals and dashes."""
    texts = [format_cell(cell) for cell in cells]
    known = [text for text in texts if text not in (MISSING, "")]
    return any(texts) and all(re.match(r"[\[(]?[-+−]?\d*\.?\d", text) for text in known)


def _kind(block: Block) -> str:
    return next(name for name, kind in _KINDS.items() if isinstance(block, kind))


def _block(entry: Mapping[str, Any]) -> Block:
    fields = {name: value for name, value in entry.items() if name != "kind"}
    return _KINDS[entry["kind"]](**fields)


def _plain(value: Any) -> Any:
    """What JSON can hold: not-a-number becomes null, NumPy's numbers become Python's."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _view(block: Block, folder: Path) -> dict[str, Any]:
    """What the template needs of a block."""
    view: dict[str, Any] = {"kind": _kind(block), "title": block.title, "is_heading": False}
    if isinstance(block, Table):
        cells = list(zip(*block.rows, strict=True)) if block.rows else [()] * len(block.columns)
        numeric = [is_numeric_column(column) for column in cells]
        rows = [[format_cell(_plain(cell)) for cell in row] for row in block.rows]
        return view | {
            "columns": list(zip(block.columns, numeric, strict=True)),
            "rows": [list(zip(row, numeric, strict=True)) for row in rows],
            "highlight": block.highlight,
            "note": block.note,
        }
    if isinstance(block, Figure):
        return view | {"source": _embedded(folder / block.path), "note": block.note}
    return view | {"paragraphs": _paragraphs(block.body), "is_heading": not block.body.strip()}


def _paragraphs(body: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", body) if part.strip()]


def _embedded(path: Path) -> str:
    """The picture as a data URL."""
    if not path.is_file():
        raise UserError(f"report: no picture {path}; run the stage that draws it again")
    media = _MEDIA[path.suffix.lower()]
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE)
