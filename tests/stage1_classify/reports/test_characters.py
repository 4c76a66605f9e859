"""Characters that nobody sees, and that must not change a label."""

import pytest

from stage1_classify.reports.characters import is_rtf, readable
from stage1_classify.reports.labeller import ReportLabeller


def test_no_text_stays_no_text() -> None:
    assert readable("") == ""


def test_what_people_write_stays_as_it_is() -> None:
    text = "Cœur\u00a0: normal…\r\n\tPas d’épanchement – “RAS”"
    assert readable(text) == text


@pytest.mark.parametrize(
    "sign", ["\u200b", "\ufeff", "\u200e", "\u202e", "\u00ad", "\u2060", "\x02", "\x1f", "\x7f", "\x81"]
)
def test_a_negation_is_read_behind_a_sign_that_nobody_sees(sign: str, label: ReportLabeller) -> None:
    assert label(readable(f"{sign}No effusion. Heart normal."), "en").labels()["Pleural Effusion"] == 0


def test_signs_of_windows_among_the_controls_are_read(label: ReportLabeller) -> None:
    assert readable("Pas d\x92épanchement, c\x9cur normal") == "Pas d’épanchement, cœur normal"
    assert label(readable("Pas d\x92épanchement."), "fr").labels()["Pleural Effusion"] == 0


@pytest.mark.parametrize(
    "text", ["The earlier radiograph showed an effusion.", "The comparison chest film had shown an effusion."]
)
def test_every_word_for_an_earlier_image_counts(text: str, label: ReportLabeller) -> None:
    assert "Pleural Effusion" not in label(text, "en").labels()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"INDICATION: cough.\nFINDINGS: No effusion.", "INDICATION: cough.\nFINDINGS: No effusion."),
        (r"No effusion.\r\nHeart normal.", "No effusion.\nHeart normal."),
        ("No&nbsp;effusion.<br/>Nodule &lt;5 mm &amp; scar.", "No\u00a0effusion.\nNodule <5 mm & scar."),
        ("<P class=x>Pas d&#39;&eacute;panchement</p>", "\nPas d'épanchement\n"),
        ("<b>No</b> effusion", " No  effusion"),
        ("Nodule <5 mm, SpO2 >90 %, A&E; R&D", "Nodule <5 mm, SpO2 >90 %, A&E; R&D"),
    ],
)
def test_what_an_export_writes_for_characters_is_read(text: str, expected: str) -> None:
    assert readable(text) == expected


def test_a_section_begins_after_a_line_break_that_is_written_out(label: ReportLabeller) -> None:
    labels = label(readable(r"INDICATION: effusion?\nFINDINGS: No effusion."), "en").labels()
    assert labels["Pleural Effusion"] == 0


def test_rtf_is_recognised() -> None:
    assert is_rtf(r"{\rtf1\ansi No effusion.}") and not is_rtf("") and not is_rtf("No effusion.")
