"""Reports by hand: sections, marks, No Finding, languages; and the half of the sentences that the cues were made on."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_classify.reports.labeller import ReportLabeller
from stage1_classify.reports.matching import MAX_TOKENS
from stage1_classify.reports.outputs import MARKS
from stage1_classify.reports.score import answers_of, read_examples, score
from stage1_classify.reports.score_tables import mistakes_of
from stage1_classify.reports.tables import LANGUAGES, finding_names, load_tables, remark_names

HERE = Path(__file__).parent
HALVES = [HERE / "sentences_development.csv", HERE / "sentences_held_out.csv"]


def labels(label: ReportLabeller, text: str) -> dict[str, int]:
    return label(text).labels()


@pytest.mark.parametrize("text", ["", " ", "\n\n", "12.5", "xyzzy"])
def test_a_report_in_no_language_says_nothing(label: ReportLabeller, text: str) -> None:
    found = label(text)
    assert (found.language, found.labels(), found.places(), found.remarks) == (None, {}, {}, frozenset())


def test_the_language_is_detected_or_given(label: ReportLabeller) -> None:
    assert label("The heart is enlarged.").language == "en"
    assert label("Le cœur est augmenté de volume.").language == "fr"
    assert label("Pneumothorax.").language is None
    assert label("Pneumothorax.", "fr").labels() == {"Pneumothorax": 1}


def test_the_strongest_verdict_counts(label: ReportLabeller) -> None:
    assert labels(label, "No effusion. Possible effusion.") == {"Pleural Effusion": -1}
    assert labels(label, "Possible effusion. No effusion on the right. Left effusion.") == {"Pleural Effusion": 1}


def test_no_finding_needs_a_denial_and_no_affirmation(label: ReportLabeller) -> None:
    assert labels(label, "No pneumothorax.") == {"Pneumothorax": 0, "No Finding": 1}
    assert labels(label, "Pacemaker. No pneumothorax.")["No Finding"] == 1
    assert "No Finding" not in labels(label, "No pneumothorax. Possible pneumonia.")
    assert "No Finding" not in labels(label, "Normal chest radiograph. Small left effusion.")
    assert "No Finding" not in labels(label, "No pneumothorax. Otherwise unchanged.")
    assert labels(label, "The trachea is seen. Unchanged.") == {}


REPORT = """CLINICAL HISTORY: cough, rule out pneumonia.
Known left effusion.

COMPARISON: radiograph of 3 May with a right pneumothorax.

FINDINGS: Large left effusion.
The lung bases are cut off.

IMPRESSION: Left effusion. No pneumothorax.
"""


def test_sections(label: ReportLabeller) -> None:
    found = label(REPORT)
    assert found.labels() == {"Pleural Effusion": 1, "Pneumothorax": 0}
    assert found.places() == {"Pleural Effusion": [("L", "")]}
    assert found.remarks == {"cut_off_bases", "compared"}
    ignored = [(one.mention.finding, one.mention.reason) for one in found.evidence if one.mention.verdict == "ignored"]
    assert ignored == [("Pneumonia", "indication"), ("Pleural Effusion", "indication"), ("Pneumothorax", "prior")]


def test_evidence_tells_where_the_words_are(label: ReportLabeller) -> None:
    text = "Heart normal. There is no evidence of a  Pneumothorax today."
    one = label(text).evidence[-1]
    assert text[slice(*one.sentence)] == "There is no evidence of a  Pneumothorax today."
    assert (one.mention.finding, one.mention.verdict, one.mention.reason) == ("Pneumothorax", "absent", "negation")
    assert text[one.mention.begin : one.mention.stop] == "Pneumothorax"
    assert one.mention.cue is not None
    assert text[slice(*one.mention.cue)] == "no evidence"


def test_a_text_without_a_full_stop_is_read_in_parts_that_lose_no_finding(label: ReportLabeller) -> None:
    found = label("small left effusion, " * 1000, "en")
    assert len(found.evidence) == 1000 and found.labels() == {"Pleural Effusion": 1}
    assert len({one.sentence for one in found.evidence}) == -(-4 * 1000 // MAX_TOKENS)
    assert [one.mention.begin for one in found.evidence] == [21 * number + 11 for number in range(1000)]


def test_lines_that_wrap_are_one_sentence(label: ReportLabeller) -> None:
    assert labels(label, "There is no\nevidence of pleural\neffusion.")["Pleural Effusion"] == 0
    assert labels(label, "There is no pneumothorax\nLeft effusion")["Pleural Effusion"] == 1


def test_the_full_stop_of_an_abbreviation_ends_no_sentence(label: ReportLabeller) -> None:
    assert labels(label, "Left atelectasis vs. pneumonia.") == {"Atelectasis": -1, "Pneumonia": -1}


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "No left effusion, ", "Pas d'épanchement "]))
def test_any_text_can_be_labelled(label: ReportLabeller, noise: str, start: str) -> None:
    for text in (start + noise, noise + start):
        for language in LANGUAGES:
            for one in label(text, language).evidence:
                begin, stop = one.sentence
                assert 0 <= begin <= one.mention.begin < one.mention.stop <= stop <= len(text)


def test_the_sentences_cover_every_kind_in_both_languages() -> None:
    rows = [row for path in HALVES for row in csv.DictReader(path.open(encoding="utf-8"))]
    assert len({row["text"] for row in rows}) == len(rows) >= 300
    kinds = [{(row["language"], row["kind"]) for row in csv.DictReader(path.open(encoding="utf-8"))} for path in HALVES]
    assert kinds[0] == kinds[1]
    assert len(kinds[0]) == 2 * 13


def test_sentences_that_the_cues_were_made_on(label: ReportLabeller) -> None:
    tables = load_tables()
    findings, remarks = finding_names(tables), [*remark_names(tables), *MARKS]
    answers = answers_of(read_examples(HALVES[0], findings=findings, remarks=remarks), label, findings=findings)
    assert list(mistakes_of(answers)) == []
    assert score(answers, task="mention").found > 200
