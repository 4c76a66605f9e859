"""Coded concepts of the structured report, and content items made of them."""

from collections.abc import Sequence

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
)

from cxr.labels.codes import OWN_SCHEME, OWN_SCHEME_NAME, Code


def concept(code: Code) -> CodedConcept:
    """A code as an item of a code sequence."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def _dcm(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, "DCM", meaning)


REPORT = _dcm("126000", "Imaging Measurement Report")
LANGUAGE = _dcm("121049", "Language of Content Item and Descendants")
ENGLISH = CodedConcept("en", "RFC5646", "English")
PROCEDURE_REPORTED = _dcm("121058", "Procedure reported")
PLAIN_RADIOGRAPHY = CodedConcept("168537006", "SCT", "Plain radiography")
IMAGE_LIBRARY, LIBRARY_GROUP = _dcm("111028", "Image Library"), _dcm("126200", "Image Library Group")
MODALITY = _dcm("121139", "Modality")
ROWS, COLUMNS = _dcm("110910", "Pixel Data Rows"), _dcm("110911", "Pixel Data Columns")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
SOURCE = CodedConcept("260753009", "SCT", "Source")
ORIGINAL_SOURCE = _dcm("111040", "Original Source")
BOUNDED_BY = CodedConcept("75958009", "SCT", "Bounded by")
AREA, WIDTH = CodedConcept("42798000", "SCT", "Area"), CodedConcept("103355008", "SCT", "Width")
HEIGHT = _dcm("121207", "Height")
CERTAINTY = _dcm("111012", "Certainty of Finding")
SCORE = CodedConcept("score", OWN_SCHEME, "Score of the detector")
EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
QUALITY, QUALITY_ISSUE = _dcm("111050", "Quality Assessment"), _dcm("113010", "Quality Issue")
USABLE = _dcm("111237", "Usable - Meets the quality control standard")
DOUBTFUL = _dcm("111236", "Usable - Does not meet the quality control standard")
UNUSABLE = _dcm("111235", "Unusable - Quality renders image unusable")
COMMENT = _dcm("121106", "Comment")
NO_BOX = CodedConcept("no-box", OWN_SCHEME, "No finding reaches the operating point")
ABSTAINED = CodedConcept("abstained", OWN_SCHEME, "Not analysed, the image is unsuitable")

PIXELS = CodedConcept("{pixels}", "UCUM", "pixels")
MM, MM2 = CodedConcept("mm", "UCUM", "millimeter"), CodedConcept("mm2", "UCUM", "square millimeter")
PERCENT, UNITY = CodedConcept("%", "UCUM", "percent"), CodedConcept("1", "UCUM", "no units")

OWN_SCHEME_ITEM = CodingSchemeIdentificationItem(OWN_SCHEME, OWN_SCHEME_NAME, responsible_organization="raybox")

CONTAINS, MODIFIES = RelationshipTypeValues.CONTAINS, RelationshipTypeValues.HAS_CONCEPT_MOD
_ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT


def container(name: CodedConcept, items: Sequence[ContentItem]) -> ContainerContentItem:
    """A container that its parent contains."""
    item = ContainerContentItem(name, relationship_type=CONTAINS)
    item.ContentSequence = ContentSequence(items)
    return item


def text(name: CodedConcept, value: str) -> TextContentItem:
    """A text that its parent contains."""
    return TextContentItem(name, value, CONTAINS)


def code(name: CodedConcept, value: CodedConcept, relationship: RelationshipTypeValues = CONTAINS) -> CodeContentItem:
    """A coded value."""
    return CodeContentItem(name, value, relationship)


def acquisition_code(name: CodedConcept, value: CodedConcept) -> CodeContentItem:
    """A coded fact about an image of the image library."""
    return code(name, value, _ACQUISITION)


def acquisition_number(name: CodedConcept, value: float, unit: CodedConcept) -> NumContentItem:
    """A number about an image of the image library."""
    return NumContentItem(name, value, unit, relationship_type=_ACQUISITION)
