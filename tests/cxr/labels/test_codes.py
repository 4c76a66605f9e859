"""Codes of findings: each finding has one, codes are unique, and they are those of the standard."""

import json

import pytest
from pydicom.sr.codedict import codes

from cxr.labels import FINDINGS, NO_FINDING
from cxr.labels.codes import (
    FINDING_CODES,
    OWN_SCHEME,
    SITES_WITHOUT_CODE,
    Code,
    FindingCode,
    code_of,
    codes_of,
    codes_of_json,
    finding_of,
)

# The multiplication and permutation tables of Verhoeff's check digit, which SNOMED CT uses.
_PERMUTE = [[int(digit) for digit in row] for row in ("0123456789", "1576283094")]
while len(_PERMUTE) < 8:
    _PERMUTE.append([_PERMUTE[-1][digit] for digit in _PERMUTE[1]])


def product(a: int, b: int) -> int:
    """In the dihedral group of order 10."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5


def has_right_check_digit(code: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(code)):
        total = product(total, _PERMUTE[place % 8][int(digit)])
    return total == 0


def all_codes() -> list[Code]:
    pairs = [code_of(finding) for finding in FINDINGS if finding != NO_FINDING]
    return [code for pair in pairs for code in pair if code is not None]


def test_every_finding_has_a_code_or_is_listed_as_having_none():
    listed = [*FINDING_CODES, *SITES_WITHOUT_CODE]
    assert sorted(listed) == sorted(set(FINDINGS) - {NO_FINDING})


def test_no_two_findings_share_a_code():
    found = [code_of(finding).finding[:2] for finding in FINDINGS]
    assert len(set(found)) == len(FINDINGS)


@pytest.mark.parametrize("code", sorted(set(all_codes())), ids=lambda code: f"{code.scheme}-{code.value}")
def test_codes_fit_their_attributes_and_have_the_right_check_digit(code: Code):
    assert 0 < len(code.value) <= 16
    assert 0 < len(code.meaning) <= 64
    assert code.scheme in ("SCT", "DCM", "RADLEX", OWN_SCHEME)
    assert code.scheme != "SCT" or has_right_check_digit(code.value)


def test_the_check_digit_finds_a_wrong_code():
    assert has_right_check_digit("8186001")
    assert not has_right_check_digit("8186002")


NOT_IN_PS3_16 = {
    *("Cardiomegaly", "Consolidation", "Pneumonia", "Atelectasis", "Fracture", "Clavicle Fracture", "Rib Fracture"),
    *("Emphysema", "ILD", "Pulmonary Fibrosis", "COPD", "Lung Tumor", "Tuberculosis", "Active Tuberculosis"),
    *("Obsolete Tuberculosis", "Hernia", "Pleural Thickening", "Support Devices"),
}


@pytest.mark.parametrize("finding", [name for name in FINDING_CODES if name not in NOT_IN_PS3_16])
def test_codes_of_ps3_16_have_its_meaning(finding: str):
    code = FINDING_CODES[finding].finding
    meanings = {known.meaning for known in getattr(codes, code.scheme).concepts.values() if known.value == code.value}
    assert code.meaning in meanings


@pytest.mark.parametrize("site", sorted({code.site for code in FINDING_CODES.values() if code.site}))
def test_sites_are_those_of_ps3_16(site: Code):
    assert site.meaning in {known.meaning for known in codes.SCT.concepts.values() if known.value == site.value}


def test_a_code_leads_back_to_the_finding():
    assert finding_of("8186001", "SCT", codes_of(["Edema", "Cardiomegaly"])) == "Cardiomegaly"
    assert finding_of("8186001", "SCT", codes_of(["Edema"])) is None
    own = code_of("Tortuous Aorta").finding
    assert own.scheme == OWN_SCHEME
    assert finding_of(own.value, own.scheme, codes_of(["Edema", "Tortuous Aorta"])) == "Tortuous Aorta"


def test_codes_of_a_label_file_come_first():
    codes = {"Edema": FindingCode(Code("7", "99HOME", "Wet lungs"), None)}
    assert code_of("Edema", codes).finding.value == "7"
    assert code_of("Mass", codes) == code_of("Mass")
    assert finding_of("7", "99HOME", codes_of(["Edema", "Mass"], codes)) == "Edema"


def test_codes_survive_json():
    codes = {"Edema": code_of("Edema"), "Mass": FindingCode(code_of("Mass").finding, None)}
    assert codes_of_json(json.loads(json.dumps(codes))) == codes
    assert codes_of_json({}) == {}
