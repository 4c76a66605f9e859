"""Codes of findings and of the places where they lie, for DICOM results. The table is explained in docs/dicom.md.

Sources of the codes:
    PS3.16   DICOM PS3.16 2024 (`pydicom.sr.codedict` has the same tables): SNOMED CT and DCM
    SNOMED   SNOMED CT, international edition; not in PS3.16
    RadLex   RadLex 4
A finding for which none of them has a code of the same meaning gets one of our own, in the private scheme `OWN_SCHEME`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cxr.labels.names import slug

OWN_SCHEME = "99RAYBOX"
OWN_SCHEME_NAME = "raybox codes for findings without a standard code"


class Code(NamedTuple):
    """A coded concept. value: at most 16 characters. scheme: of PS3.16, table 8-1. meaning: at most 64 characters."""

    value: str
    scheme: str
    meaning: str


class FindingCode(NamedTuple):
    """The code of a finding, and of the place where it lies; None where the finding may lie anywhere in the chest."""

    finding: Code
    site: Code | None


LUNG = Code("39607008", "SCT", "Lung")
HEART = Code("80891009", "SCT", "Heart")
PLEURA = Code("3120008", "SCT", "Pleural structure")
MEDIASTINUM = Code("72410000", "SCT", "Mediastinum")
AORTA = Code("15825003", "SCT", "Aorta")
PULMONARY_ARTERY = Code("81040000", "SCT", "Pulmonary artery")
RIB = Code("113197003", "SCT", "Rib")
CLAVICLE = Code("51299004", "SCT", "Clavicle")
DIAPHRAGM = Code("5798000", "SCT", "Diaphragm")

FINDING_CODES: Mapping[str, FindingCode] = {
    # PS3.16
    "Lung Opacity": FindingCode(Code("112001", "DCM", "Opacity"), LUNG),
    "Lung Lesion": FindingCode(Code("52988006", "SCT", "Lesion"), LUNG),
    "Edema": FindingCode(Code("19242006", "SCT", "Pulmonary edema"), LUNG),
    "Pneumothorax": FindingCode(Code("36118008", "SCT", "Pneumothorax"), PLEURA),
    "Pleural Effusion": FindingCode(Code("60046008", "SCT", "Pleural effusion"), PLEURA),
    "Calcification": FindingCode(Code("112063", "DCM", "Abnormal calcifications"), None),
    "Infiltration": FindingCode(Code("112121", "DCM", "Infiltrate"), LUNG),
    "Mass": FindingCode(Code("4147007", "SCT", "Mass"), LUNG),
    "Nodule": FindingCode(Code("27925004", "SCT", "Nodule"), LUNG),
    # SNOMED. PS3.16 lists 287272002 for cardiomegaly, but that is an enlarged septal foramen of the heart.
    "Cardiomegaly": FindingCode(Code("8186001", "SCT", "Cardiomegaly"), HEART),
    "Consolidation": FindingCode(Code("95436008", "SCT", "Lung consolidation"), LUNG),
    "Pneumonia": FindingCode(Code("233604007", "SCT", "Pneumonia"), LUNG),
    "Atelectasis": FindingCode(Code("46621007", "SCT", "Atelectasis"), LUNG),
    "Fracture": FindingCode(Code("125605004", "SCT", "Fracture of bone"), None),
    "Clavicle Fracture": FindingCode(Code("58150001", "SCT", "Fracture of clavicle"), CLAVICLE),
    "Rib Fracture": FindingCode(Code("33737001", "SCT", "Fracture of rib"), RIB),
    "Emphysema": FindingCode(Code("87433001", "SCT", "Pulmonary emphysema"), LUNG),
    "ILD": FindingCode(Code("233703007", "SCT", "Interstitial lung disease"), LUNG),
    "Pulmonary Fibrosis": FindingCode(Code("51615001", "SCT", "Fibrosis of lung"), LUNG),
    "COPD": FindingCode(Code("13645005", "SCT", "Chronic obstructive lung disease"), LUNG),
    "Lung Tumor": FindingCode(Code("126713003", "SCT", "Neoplasm of lung"), LUNG),
    "Tuberculosis": FindingCode(Code("154283005", "SCT", "Pulmonary tuberculosis"), LUNG),
    "Active Tuberculosis": FindingCode(Code("427099000", "SCT", "Active tuberculosis"), LUNG),
    "Obsolete Tuberculosis": FindingCode(Code("428697002", "SCT", "Inactive tuberculosis of lung"), LUNG),
    "Hernia": FindingCode(Code("39839004", "SCT", "Diaphragmatic hernia"), DIAPHRAGM),
    # RadLex
    "Pleural Thickening": FindingCode(Code("RID28509", "RADLEX", "thickening"), PLEURA),
    "Support Devices": FindingCode(Code("RID5429", "RADLEX", "implantable device"), None),
}
"""Findings that have a standard code. The others of `cxr.labels.findings.FINDINGS` are in `SITES_WITHOUT_CODE`."""

SITES_WITHOUT_CODE: Mapping[str, Code | None] = {
    "Enlarged Cardiomediastinum": MEDIASTINUM,
    "Pleural Other": PLEURA,
    "Aortic Enlargement": AORTA,
    "Enlarged PA": PULMONARY_ARTERY,
    "Lung Cavity": LUNG,
    "Lung Cyst": LUNG,
    "Mediastinal Shift": MEDIASTINUM,
    "Other Lesion": None,
    "Other Disease": None,
}
"""Findings that get a code of our own, and where they lie."""


OwnCodes = Mapping[str, FindingCode]
"""Codes that a label file gives; they come before those of this module."""

NO_CODES: OwnCodes = {}


def code_of(finding: str, own: OwnCodes = NO_CODES) -> FindingCode:
    """The code of a finding; one of our own if it has no standard code, also for findings of a user's table.

    Example:
        >>> code_of("Cardiomegaly").finding
        Code(value='8186001', scheme='SCT', meaning='Cardiomegaly')
        >>> code_of("Mediastinal Shift").finding
        Code(value='RB-15fa98ec113d', scheme='99RAYBOX', meaning='Mediastinal Shift')
    """
    known = own.get(finding) or FINDING_CODES.get(finding)
    if known is not None:
        return known
    digest = hashlib.sha256((slug(finding) or finding).encode()).hexdigest()[:12]
    return FindingCode(Code(f"RB-{digest}", OWN_SCHEME, finding[:64]), SITES_WITHOUT_CODE.get(finding))


def codes_of(findings: Iterable[str], own: OwnCodes = NO_CODES) -> dict[str, FindingCode]:
    """Finding -> its code."""
    return {finding: code_of(finding, own) for finding in findings}


def finding_of(value: str, scheme: str, codes: Mapping[str, FindingCode]) -> str | None:
    """The finding that has this code among `codes`; None if none has it."""
    by_code = {code.finding[:2]: finding for finding, code in codes.items()}
    return by_code.get((value, scheme))


def codes_of_json(codes: Mapping[str, Sequence[Sequence[str] | None]]) -> dict[str, FindingCode]:
    """Codes that were written as JSON, in which a code is a list."""
    return {
        name: FindingCode(Code(*finding or ()), None if site is None else Code(*site))
        for name, (finding, site) in codes.items()
    }
