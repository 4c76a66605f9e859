"""Phrases of patterns, the built-in tables, and the user's own findings."""

import logging
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.labels import FINDINGS, NO_FINDING, Terminology, load_terminology
from stage1_classify.reports.tables import FOLDER, LANGUAGES, finding_names, load_tables, phrases_of, remark_names


@pytest.mark.parametrize(
    ("pattern", "phrases"),
    [
        ("", [""]),
        ("heart size", ["heart size"]),
        ("absent(|e)", ["absent", "absente"]),
        ("(a|b) c (d|e)", ["a c d", "a c e", "b c d", "b c e"]),
        ("no (|new) mass", ["no mass", "no new mass"]),
    ],
)
def test_phrases_of_a_pattern(pattern: str, phrases: list[str]) -> None:
    assert list(phrases_of(pattern)) == phrases


@pytest.mark.parametrize("pattern", ["water|fluid", "(a|(b|c)) water", "(water", "water)", "(a|b)" * 10 + " water"])
def test_patterns_that_would_lose_phrases_are_refused(pattern: str) -> None:
    with pytest.raises(UserError) as caught:
        list(phrases_of(pattern))
    (problem,) = caught.value.problems
    assert repr(pattern) in problem


def test_all_phrases_of_a_long_pattern_are_there() -> None:
    assert len(list(phrases_of("(a|b|c|d|e|f|g) (a|b|c|d|e|f|g) (a|b|c|d|e|f|g)"))) == 343


def test_both_languages_speak_of_the_same_findings_and_remarks() -> None:
    tables = load_tables()
    names = [(list(table.findings), list(table.remarks), sorted(table.sections)) for table in tables.values()]
    assert names[0] == names[1]
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(LANGUAGES)


def test_all_findings_are_the_projects() -> None:
    assert set(finding_names(load_tables())) <= set(FINDINGS)


def own(folder: Path, text: str) -> Terminology:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return load_terminology(path)


def test_own_findings_and_synonyms_are_added(tmp_path: Path) -> None:
    text = "findings:\n  Bronchiectasis: {en: [bronchiectasis], fr: [bronchectasie]}\n  Edema: {en: [wet lungs]}\n"
    terms = own(tmp_path, text)
    tables = load_tables(terms)
    assert finding_names(tables, terms) == [*finding_names(load_tables()), "Bronchiectasis"]
    assert tables["en"].findings["Edema"].terms == [*load_tables()["en"].findings["Edema"].terms, "wet lungs"]
    assert tables["fr"].findings["Edema"] == load_tables()["fr"].findings["Edema"]
    assert tables["fr"].findings["Bronchiectasis"].terms == ["bronchectasie"]
    assert remark_names(tables) == remark_names(load_tables())


def test_findings_that_become_one_share_their_words(tmp_path: Path) -> None:
    terms = own(tmp_path, "findings:\n  Liquid: {synonyms: [Edema, Pleural Effusion], fr: [liquide]}\n")
    before, after = load_tables()["fr"].findings, load_tables(terms)["fr"].findings
    assert after["Liquid"].terms == [*before["Edema"].terms, *before["Pleural Effusion"].terms, "liquide"]
    assert after["Liquid"].subjects == [*before["Edema"].subjects, *before["Pleural Effusion"].subjects]
    assert not {"Edema", "Pleural Effusion"} & after.keys()


def test_own_phrases_of_a_finding_with_ratios_keep_the_ratios(tmp_path: Path) -> None:
    tables = load_tables(own(tmp_path, "findings:\n  Cardiomegaly: {en: [bovine heart]}\n"))
    words, before = tables["en"].findings["Cardiomegaly"], load_tables()["en"].findings["Cardiomegaly"]
    assert words == before.model_copy(update={"terms": [*before.terms, "bovine heart"]}) and before.ratios


def test_findings_without_words_have_no_column(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    terms = own(tmp_path, "built_in: false\nfindings:\n  Edema:\n  Air:\n  Wire: {en: [wire]}\n")
    with caplog.at_level(logging.WARNING, logger="raybox"):
        assert finding_names(load_tables(terms), terms) == [NO_FINDING, "Edema", "Wire"]
    assert "(en, fr): Air" in caplog.text
