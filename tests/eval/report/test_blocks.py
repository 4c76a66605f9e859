"""eval.report.blocks and eval.report.text_tables: content, alignment, escaping, nothing from outside."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cxr.config import UserError
from eval.report.blocks import Block, Figure, PictureRows, Table, Text, Verdict, read_report, write_report
from eval.report.pictures import save_png
from eval.report.text_tables import print_tables

NAN = float("nan")


def page(folder: Path, *blocks: Block, synthetic: bool = False) -> str:
    return write_report(folder, title="A <b>", lead="Lead & more", blocks=blocks, synthetic=synthetic).read_text()


def test_no_blocks(tmp_path: Path) -> None:
    html = page(tmp_path / "new")
    assert "<h1>A &lt;b&gt;</h1>" in html
    assert "Lead &amp; more" in html
    assert json.loads((tmp_path / "new" / "report.json").read_text())["blocks"] == []


def test_table_without_rows_says_so(tmp_path: Path) -> None:
    assert "Nothing to show." in page(tmp_path, Table("T", ["a", "b"], []))


def test_banner_only_when_synthetic(tmp_path: Path) -> None:
    assert "Synthetic phantom data" in page(tmp_path, synthetic=True)
    assert "Synthetic phantom data" not in page(tmp_path)


def test_cells_are_aligned_formatted_and_escaped(tmp_path: Path) -> None:
    html = page(tmp_path, Table("T", ["name", "AP"], [["<i>x</i>", 0.41249], ["y", None]], highlight=1))
    assert "<td>&lt;i&gt;x&lt;/i&gt;</td>" in html
    assert '<td class="number">0.412</td>' in html
    assert '<tr class="pick"><td>y</td><td class="number">–</td></tr>' in html


def test_everything_a_writer_gives_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    save_png(tmp_path / "p.png", np.zeros((2, 3, 3), dtype=np.uint8))
    blocks = (Table(evil, [evil], [[evil]], evil), Figure(evil, "p.png", evil), Text(evil, evil))
    html = write_report(tmp_path, title=evil, lead=evil, blocks=blocks, synthetic=True).read_text()
    assert "<script" not in html


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    save_png(tmp_path / "pictures" / "p.png", np.zeros((2, 3, 3), dtype=np.uint8))
    html = page(tmp_path, Figure("Curves", "pictures/p.png", "Of training."))
    assert 'src="data:image/png;base64,' in html
    assert 'alt="Curves"' in html
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)


def test_missing_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no picture .*gone\.png"):
        page(tmp_path, Figure("F", "gone.png"))
    assert not (tmp_path / "report.json").exists()


def test_empty_line_begins_a_paragraph(tmp_path: Path) -> None:
    html = page(tmp_path, Text("T", "one\nline\n\ntwo"))
    assert "<p>one\nline</p>" in html
    assert "<p>two</p>" in html


def test_text_without_body_is_a_heading(tmp_path: Path) -> None:
    assert 'class="heading"' in page(tmp_path, Text("Pictures"))


def test_report_is_read_back(tmp_path: Path) -> None:
    save_png(tmp_path / "p.png", np.zeros((2, 3, 3), dtype=np.uint8))
    table = Table("T", ["a", "b"], [["x", 1], ["y", np.float64(0.25)], ["z", NAN]], "note", highlight=1)
    blocks = (table, Figure("F", "p.png", "n"), Text("H", "body"))
    write_report(tmp_path, title="A", lead="L", blocks=blocks, synthetic=True)
    report = read_report(tmp_path)
    assert report is not None
    assert (report.title, report.lead, report.synthetic) == ("A", "L", True)
    assert report.blocks[0] == Table("T", ["a", "b"], [["x", 1], ["y", 0.25], ["z", None]], "note", highlight=1)
    assert report.blocks[1:] == blocks[1:]


def test_folder_without_report_and_damaged_report(tmp_path: Path) -> None:
    assert read_report(tmp_path) is None
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UserError, match=r"report\.json"):
        read_report(tmp_path)


def test_collapsed_table_is_behind_a_disclosure_element(tmp_path: Path) -> None:
    html = page(tmp_path, Table("Open", ["a"], [[1]]), Table("Shut", ["a"], [[1]], collapsed=True))
    assert "<summary><h2>Open</h2></summary>" not in html
    assert "<details><summary><h2>Shut</h2></summary>" in html


def test_columns_that_do_not_fit_follow_behind_a_disclosure_element(tmp_path: Path) -> None:
    names = ["name", *(f"c{index}" for index in range(40))]
    html = page(tmp_path, Table("Wide", names, [["row", *[0.5] * 40]], highlight=0))
    first, further = html.split('<details class="more">')
    assert first.count('<td class="number">0.500</td>') + further.count('<td class="number">0.500</td>') == 40
    assert further.count('<tr class="pick"><td>row</td>') == further.count("<table>") > 0


def test_picture_rows_have_heads_captions_and_a_legend(tmp_path: Path) -> None:
    save_png(tmp_path / "p.png", np.zeros((2, 3, 3), dtype=np.uint8))
    rows = PictureRows("Way", ["radiograph", "map"], [["p.png", ""]], ["Image 1"], legend=[["#ff0000", "truth"]])
    html = page(tmp_path, rows)
    assert html.count("<img") == 1
    assert '<div class="head">map</div>' in html
    assert '<p class="caption">Image 1</p>' in html
    assert 'style="background: #ff0000"></span>truth' in html
    report = read_report(tmp_path)
    assert report is not None
    assert report.blocks == (rows,)


def test_verdict_is_marked(tmp_path: Path) -> None:
    assert 'class="verdict"' in page(tmp_path, Verdict("Result", "One sentence.\n\nDetails."))


def printed(*tables: Table) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_tables(tables, console=console)
    return console.file.getvalue()


def test_nothing_to_print() -> None:
    assert printed().strip() == ""


def test_tables_are_printed_as_one_with_their_notes_once() -> None:
    first = Table("First", ["name", "AP40"], [["[x]", 0.5]], "a note")
    second = Table("Second", ["name", "a", "b"], [["y", 1, None]], "a note")
    text = printed(first, second)
    assert text.count("a note") == 1
    assert text.count("┌") == 1
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert lines == [["First", "AP40", ""], ["[x]", "0.500", ""], ["Second", "a", "b"], ["y", "1", "–"]]
