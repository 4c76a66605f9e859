"""Label files: new findings, renamed ones, other trees; and what contradicts itself is refused."""

import logging
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.labels import BUILT_IN, FINDINGS, NO_FINDING, PARENTS, Terminology, load_terminology
from cxr.labels.codes import Code, code_of
from cxr.labels.findings import RELEASED_NAMES


def terms(folder: Path, text: str) -> Terminology:
    path = folder / "labels.yaml"
    path.write_text(text, encoding="utf-8")
    return load_terminology(path)


def test_without_a_file_or_with_an_empty_one_nothing_changes(tmp_path: Path) -> None:
    assert load_terminology(None) is BUILT_IN
    assert terms(tmp_path, "findings: {}\n") == Terminology(FINDINGS, PARENTS, BUILT_IN.synonyms, {}, BUILT_IN_PHRASES)
    assert BUILT_IN.synonyms["Nodule/Mass"] == "Lung Lesion"
    assert set(RELEASED_NAMES.values()) <= set(FINDINGS)


BUILT_IN_PHRASES: dict[str, dict[str, list[str]]] = {"en": {}, "fr": {}}


def test_new_findings_come_last_and_change_the_tree(tmp_path: Path) -> None:
    own = terms(tmp_path, "findings:\n  Air:\n  Pneumothorax: {parent: Air}\n  Edema: {parent: null}\n")
    assert own.findings == (*FINDINGS, "Air")
    assert own.parents == {**{c: p for c, p in PARENTS.items() if c != "Edema"}, "Pneumothorax": "Air"}


def test_a_finding_gets_another_name_and_keeps_the_rest(tmp_path: Path) -> None:
    own = terms(tmp_path, "findings:\n  Pneumonie: {synonyms: [Pneumonia, PNP]}\n")
    assert own.findings == tuple("Pneumonie" if name == "Pneumonia" else name for name in FINDINGS)
    assert own.parents["Pneumonie"] == "Consolidation"
    assert code_of("Pneumonie", own.codes) == code_of("Pneumonia")
    assert [own.synonyms[name] for name in ("Pneumonia", "PNEUMONIA", "PNP")] == ["Pneumonie"] * 3


def test_a_synonym_may_be_the_own_name_in_another_case(tmp_path: Path) -> None:
    own = terms(tmp_path, "findings:\n  Pneumonie: {synonyms: [Pneumonia, pneumonia, pneumonie]}\n")
    assert own.synonyms["pneumonia"] == own.synonyms["pneumonie"] == "Pneumonie"


def test_several_findings_become_one_without_parent_and_code(tmp_path: Path) -> None:
    own = terms(tmp_path, "findings:\n  Liquid: {synonyms: [Edema, Pleural Effusion]}\n")
    assert "Liquid" not in own.parents
    assert own.codes == {}
    assert own.findings.index("Liquid") == FINDINGS.index("Edema")
    assert len(own.findings) == len(FINDINGS) - 1
    assert own.synonyms["Effusion"] == own.synonyms["Edema"] == "Liquid"


def test_a_finding_that_ships_takes_another_one_over(tmp_path: Path) -> None:
    own = terms(tmp_path, "findings:\n  Lung Lesion: {synonyms: [Mass]}\n")
    assert own.parents == {child: parent for child, parent in PARENTS.items() if child != "Mass"}
    assert own.codes == {}


def test_only_own_findings(tmp_path: Path) -> None:
    own = terms(tmp_path, "built_in: false\nfindings:\n  Air:\n  Pneumothorax: {parent: Air}\n")
    assert own.findings == (NO_FINDING, "Air", "Pneumothorax")
    assert own.parents == {"Pneumothorax": "Air"}
    assert own.names_in(["Pneumothorax", "Edema", "Wire"], source="x") == {
        "Pneumothorax": "Pneumothorax",
        "Wire": "Wire",
    }


def test_codes_and_phrases(tmp_path: Path) -> None:
    code = "{value: '7', scheme: 99HOME, meaning: Wire in the chest}"
    own = terms(
        tmp_path, f"findings:\n  Wire: {{code: {code}, en: [wire], fr: ['fil(|s)']}}\n  Edema: {{site: {code}}}\n"
    )
    expected = Code("7", "99HOME", "Wire in the chest")
    assert own.codes["Wire"] == (expected, None)
    assert own.codes["Edema"] == (code_of("Edema").finding, expected)
    assert own.phrases == {"en": {"Wire": ["wire"]}, "fr": {"Wire": ["fil(|s)"]}}


REFUSED = {
    "parent": ("  Wire: {parent: Pneumothorx}\n", "parent 'Pneumothorx' .*nearest: 'Pneumothorax'"),
    "cycle": ("  A: {parent: B}\n  B: {parent: A}\n", "A > B > A"),
    "synonym of two": ("  A: {synonyms: [x]}\n  B: {synonyms: [x]}\n", "'x' is a synonym of 2"),
    "finding and synonym": ("  A: {synonyms: [B]}\n  B:\n", "'B' is a finding and a synonym"),
    "nearly a finding": ("  A: {synonyms: [pneumothorax]}\n", "give 'Pneumothorax' or another name"),
    "nearly another synonym": ("  A: {synonyms: [wet]}\n  B: {synonyms: [Wet]}\n", "'Wet', a synonym of 'B'"),
    "column": ("  patient_id:\n", "column of this name"),
    "column of calls": ("  A:\n  A call:\n", "column of this name"),
    "formula": ("  =1+1:\n", "a spreadsheet would run"),
    "name of a data set": ("  Effusion:\n", "'Effusion' is how a data set calls 'Pleural Effusion'"),
    "synonym of a data set": ("  A: {synonyms: [Nodule/Mass]}\n", "calls 'Lung Lesion'"),
    "no finding": ("  Normal: {synonyms: [No Finding]}\n", "neither renamed nor in the tree"),
    "no finding in the tree": ("  No Finding: {parent: Edema}\n", "neither renamed nor in the tree"),
    "same figures": ("  a-b:\n  a b:\n", "the same in the names of figures"),
    "reserved": ("  Mean:\n", "another name than mean"),
    "blank": ("  '': {en: [wet]}\n", "1 to 64 characters"),
    "bar": ("  a|b:\n", "without |"),
    "space": ("  ' a':\n", "no space around"),
    "blank phrase": ("  A: {en: ['']}\n", "findings.A.en.0"),
    "language": ("  A: {de: [nass]}\n", "unknown key"),
    "list": ("  A: [wet]\n", "findings.A"),
    "code of another": (
        "  A: {code: {value: '8186001', scheme: SCT, meaning: a}}\n",
        "'A' and 'Cardiomegaly' have the code",
    ),
    "long code": ("  A: {code: {value: '12345678901234567', scheme: SCT, meaning: a}}\n", "findings.A.code.value"),
}


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="label_file: no file"):
        load_terminology(tmp_path / "labels.yaml")


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_is_refused(tmp_path: Path, case: str) -> None:
    text, problem = REFUSED[case]
    with pytest.raises(UserError, match=problem):
        terms(tmp_path, f"findings:\n{text}")


def test_a_new_finding_that_resembles_a_known_one_is_taken_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="raybox"):
        own = terms(tmp_path, "findings:\n  Pleural Efusion:\n  Pneumonie: {synonyms: [Pneumonia]}\n")
    assert "Pleural Efusion" in own.findings
    assert "'Pleural Effusion'" in caplog.text
    assert "Pneumonie" not in caplog.text


def test_names_of_data_are_found_new_or_misspelt() -> None:
    assert BUILT_IN.names_in([], source="x") == {}
    assert BUILT_IN.names_in(["Effusion", "Wire"], source="x") == {"Effusion": "Pleural Effusion", "Wire": "Wire"}
    with pytest.raises(UserError) as error:
        BUILT_IN.names_in(["Cardiomegalie", "wire", "Wire"], source="images.csv")
    first, second = error.value.problems
    assert "'Cardiomegalie' is probably 'Cardiomegaly'" in first
    assert "'Wire' and 'wire'" in second
