"""Phrases of patterns, the tables that ship, and the user's own findings."""

import logging
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.labels import FINDINGS
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


def test_both_languages_speak_of_the_same_findings_and_remarks() -> None:
    tables = load_tables()
    names = [(list(table.findings), list(table.remarks), sorted(table.sections)) for table in tables.values()]
    assert names[0] == names[1]
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(LANGUAGES)


def test_all_findings_are_the_projects() -> None:
    assert set(finding_names(load_tables())) <= set(FINDINGS)


def own(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_own_findings_and_synonyms_are_added(tmp_path: Path) -> None:
    text = "findings:\n  Bronchiectasis: {en: [bronchiectasis], fr: [bronchectasie]}\n  Edema: {en: [wet lungs]}\n"
    tables = load_tables(own(tmp_path, text))
    assert finding_names(tables) == [*finding_names(load_tables()), "Bronchiectasis"]
    assert tables["en"].findings["Edema"].terms == [*load_tables()["en"].findings["Edema"].terms, "wet lungs"]
    assert tables["fr"].findings["Edema"] == load_tables()["fr"].findings["Edema"]
    assert tables["fr"].findings["Bronchiectasis"].terms == ["bronchectasie"]
    assert remark_names(tables) == remark_names(load_tables())


def test_a_name_that_looks_misspelt_is_warned_of_and_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="raybox"):
        tables = load_tables(own(tmp_path, "findings:\n  Pleural Efusion: {en: [water]}\n"))
    assert "'Pleural Effusion'" in caplog.text
    assert "Pleural Efusion" in finding_names(tables)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- Edema\n",
        "findings: {Edema: [wet]}\n",
        "findings: {Edema: {de: [nass]}}\n",
        "findings: {Edema: {en: ['']}}\n",
        "findings: {Edema: {en: []}}\n",
        "findings: {'': {en: [wet]}}\n",
        "finding: {Edema: {en: [wet]}}\n",
    ],
)
def test_a_broken_file_is_the_users_mistake(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"own\.yaml"):
        load_tables(own(tmp_path, text))
