"""Tables of a report as text: on the terminal as one, a section each, so that columns line up; and as Markdown."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from eval.report.blocks import Table, read_report
from eval.report.format import format_cell

PIPE_WIDTH = 150
"""Columns of text where the output is a file or a pipe, which have none of their own."""


def markdown(table: Table) -> str:
    """A heading and a table in GitHub's Markdown."""
    lines = [f"## {table.title}", "", _line(table.columns), _line(["---"] * len(table.columns))]
    lines += [_line([format_cell(cell) for cell in row]) for row in table.rows]
    lines += ["", table.note] if table.note else []
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def print_tables(tables: Sequence[Table], *, console: Console | None = None) -> None:
    """Print all tables as one; each begins with a bold line of its title and column names."""
    console = console or Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    num_columns = max((len(table.columns) for table in tables), default=0)
    rich = RichTable(show_header=False)
    for index in range(num_columns):
        rich.add_column(justify="right" if index else "left", overflow="fold")
    for table in tables:
        padding = [""] * (num_columns - len(table.columns))
        rich.add_row(escape(table.title), *map(escape, table.columns[1:]), *padding, style="bold")
        for index, row in enumerate(table.rows):
            cells = [escape(format_cell(cell)) for cell in row]
            mark = "bold green" if index == table.highlight else ""
            rich.add_row(*cells, *padding, style=mark, end_section=index == len(table.rows) - 1)
    console.print(rich)
    for note in dict.fromkeys(table.note for table in tables if table.note):
        console.print(escape(note), style="dim")


def print_run(folder: Path, *, remark: str = "") -> None:
    """The main table of a finished run, the first one of its report, where the report is, and as last line the
    remark."""
    report = read_report(folder)
    tables = [block for block in report.blocks if isinstance(block, Table)] if report else []
    print_tables(tables[:1])
    sys.stdout.write(f"finished: {folder}  (report: {folder / 'report.html'})\n")
    if remark:
        sys.stdout.write(f"{remark}\n")
