"""The table of all data sets."""

from cxr.labels import BUILT_IN, FINDINGS, NO_FINDING, Terminology
from cxr.labels.findings import RELEASED_NAMES
from cxr.labels.sets import SETS, as_lines, sets_table


def cells(terms: Terminology, finding: str) -> dict[str, str]:
    header, *rows = sets_table(terms)
    (row,) = [row for row in rows if row[0] == finding]
    return {name: cell for name, cell in zip(header, row, strict=True) if cell}


def test_no_row_is_no_line() -> None:
    assert as_lines([]) == []
    assert as_lines([["a", "bc"], ["def", ""]]) == ["a    bc", "def"]


def test_every_finding_has_a_row_and_every_set_a_source() -> None:
    assert [row[0] for row in sets_table(BUILT_IN)[1:]] == list(FINDINGS)
    assert all(one.source and one.absence for one in SETS)
    assert {name for one in SETS for name in one.names} >= set(RELEASED_NAMES)
    assert {finding for one in SETS for finding in one.names.values()} == set(FINDINGS)
    assert all(one.boxed <= set(one.names.values()) - {NO_FINDING} for one in SETS)


def test_absent_is_not_the_same_as_not_asked() -> None:
    assert cells(BUILT_IN, "Pneumonia") == {
        "finding": "Pneumonia",
        "parents": "Consolidation > Lung Opacity",
        "other names": "PNEUMONIA",
        **dict.fromkeys(("chexpert", "mimic"), "+-?."),
        **dict.fromkeys(("padchest", "openi", "vindr", "kermany"), "+-"),
        **dict.fromkeys(("nih", "rsna"), "+-b"),
    }


def test_own_names_have_what_became_them() -> None:
    own = Terminology(
        ("Air", "Liquid", "Wire", "Pneumothorax"),
        {"Pneumothorax": "Air"},
        {"Edema": "Liquid", "Pleural Effusion": "Liquid"},
    )
    assert cells(own, "Wire") == {"finding": "Wire"}
    liquid = cells(own, "Liquid")
    assert liquid["other names"] == "Edema, Pleural Effusion"
    assert [liquid[name] for name in ("chexpert", "vindr", "nih", "openi")] == ["+-?.", "+-b", "+-b", "+-"]
    air = cells(own, "Air")
    assert [air[name] for name in ("chexpert", "vindr", "nih", "siim")] == ["+?.", "+b", "+b", "+b"]
    assert "kermany" not in air
