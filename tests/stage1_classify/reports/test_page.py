"""The page: links to sentences that are there, escaped text, a bounded number of sentences from the whole table."""

import re
from collections.abc import Sequence
from pathlib import Path

from stage1_classify.reports.labeller import ReportLabeller
from stage1_classify.reports.outputs import Counts
from stage1_classify.reports.page import MAX_SENTENCES, write_page
from stage1_classify.reports.records import Record, record_of
from stage1_classify.reports.report_table import Report


def page(folder: Path, label: ReportLabeller, texts: Sequence[str]) -> str:
    records: list[Record] = []
    counts = Counts()
    for number, text in enumerate(texts):
        records.append(record_of(Report(f"r{number}", text, "en"), label(text, "en")))
        counts.add(records[-1])
    write_page(folder, records, counts, findings=["Edema", "Pneumothorax"], remarks=["cut_off_bases"], source="<i>.csv")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_every_link_has_its_sentences(tmp_path: Path, label: ReportLabeller) -> None:
    html = page(tmp_path, label, ["Edema. No pneumothorax.", "Possible edema.", "History of pneumothorax."])
    links = set(re.findall(r'href="#([^"]+)"', html))
    assert links <= set(re.findall(r'id="([^"]+)"', html))
    assert {"edema-present", "edema-uncertain", "pneumothorax-absent", "pneumothorax-ignored"} <= links
    assert "edema-absent" not in links


def test_finding_and_cue_are_marked_and_text_is_escaped(tmp_path: Path, label: ReportLabeller) -> None:
    html = page(tmp_path, label, ["No edema <b>today</b>."])
    assert '<mark class="cue">No</mark> <mark class="finding">edema</mark> &lt;b&gt;today&lt;/b&gt;.' in html
    assert "&lt;i&gt;.csv" in html


def test_sentences_come_from_the_whole_table_and_once_each(tmp_path: Path, label: ReportLabeller) -> None:
    html = page(tmp_path, label, [f"Edema of {number} lines." for number in range(5 * MAX_SENTENCES)])
    shown = [int(number) for number in re.findall(r"</mark> of (\d+) lines", html)]
    assert len(shown) == MAX_SENTENCES
    assert shown == sorted(set(shown))
    assert shown[0] < 5
    assert shown[-1] > 5 * (MAX_SENTENCES - 2)
    html = page(tmp_path, label, ["Edema."] * 9)
    assert html.count("</mark>.") == 1
    assert re.search(r"9\s+sentences, 1 of them shown", html)


def test_a_sentence_that_names_a_finding_twice_counts_once(tmp_path: Path, label: ReportLabeller) -> None:
    html = page(tmp_path, label, ["No edema, no pulmonary edema."])
    assert re.search(r"Edema negative: 1\s+sentence</h3>", html)
