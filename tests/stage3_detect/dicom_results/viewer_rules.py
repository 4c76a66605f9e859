"""The rules by which two viewers accept a structured report, written from their source.

OHIF: `extensions/cornerstone-dicom-sr/src/getSopClassHandlerModule.ts`, and the adapters of cornerstone3D
(`packages/adapters/src/adapters/Cornerstone3D/{MeasurementReport,RectangleROI}.ts`).
Stone: `OrthancStone/Sources/Toolbox/DicomStructuredReport.cpp`.
"""

from pydicom.dataset import Dataset

OHIF_CLASSES = {f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34)}
STONE_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"
RECTANGLE = "Cornerstone3DTools@^0.1.0:RectangleROI"

Rectangle = tuple[str, tuple[float, ...]]
"""SOP instance UID of the image, and the coordinates of the region."""


class Refused(Exception):  # noqa: N818 - what the viewer does
    """The viewer does not show the report; the message says why."""


def named(items: list[Dataset], value: str) -> list[Dataset]:
    """Items whose name has this code; a viewer fails on an item without a name."""
    if any("ConceptNameCodeSequence" not in item for item in items):
        raise Refused("an item has no name")
    return [item for item in items if item.ConceptNameCodeSequence[0].get("CodeValue") == value]


def only(items: list[Dataset], what: str) -> Dataset:
    if not items:
        raise Refused(f"no {what}")
    return items[0]


def ohif_shows(report: Dataset) -> list[Rectangle]:
    """The regions that OHIF draws."""
    if report.SOPClassUID not in OHIF_CLASSES:
        raise Refused("SOP class")
    if report.ConceptNameCodeSequence[0].CodeValue != "126000":
        raise Refused("title")
    root = list(report.ContentSequence)
    library = only(named(root, "111028"), "image library")
    group = only(named(list(library.ContentSequence), "126200"), "group of the image library")
    listed = {ref.ReferencedSOPInstanceUID for item in group.ContentSequence for ref in item.ReferencedSOPSequence}
    measurements = only(named(root, "126010"), "imaging measurements")
    shown, identities = [], set()
    for group in named(list(measurements.get("ContentSequence", [])), "125007"):
        items = list(group.ContentSequence)
        identity = only(named(items, "112040"), "tracking unique identifier").UID
        only(named(items, "112039"), "tracking identifier")
        if identity in identities:
            raise Refused("two groups with one identity are merged")
        identities.add(identity)
        for region in (item for item in items if item.ValueType == "SCOORD"):
            if region.RelationshipType not in ("INFERRED FROM", "CONTAINS"):
                raise Refused("relationship of a region")
            image = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            if image not in listed:
                raise Refused("a region on an image that is not listed")
            shown.append((image, tuple(region.GraphicData)))
    return shown


def ohif_edits(report: Dataset) -> list[Rectangle]:
    """The regions that OHIF loads as rectangles that a reader can move, also in versions before October 2025."""
    if report.ContentTemplateSequence[0].TemplateIdentifier != "1500":
        raise Refused("template")
    measurements = only([i for i in report.ContentSequence if meaning(i) == "Imaging Measurements"], "measurements")
    loaded = []
    for group in (item for item in measurements.ContentSequence if meaning(item) == "Measurement Group"):
        items = list(group.ContentSequence)
        text = only([item for item in items if meaning(item) == "Tracking Identifier"], "tracking identifier").TextValue
        if not text.startswith(RECTANGLE):
            continue
        number = only([item for item in items if item.ValueType == "NUM"], "number in a group")
        below = [item for item in number.get("ContentSequence", []) if item.ValueType == "SCOORD"]
        region = only(below, "region below the first number")
        if region.GraphicType != "POLYLINE" or len(region.GraphicData) not in (8, 10):
            raise Refused("a region that is no rectangle")
        image = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        loaded.append((image, tuple(region.GraphicData)))
    return loaded


def stone_shows(report: Dataset) -> list[Rectangle]:
    """The regions that the Stone viewer draws."""
    if report.Modality != "SR" or report.SOPClassUID != STONE_CLASS:
        raise Refused("SOP class")
    if not is_dcm(report, "126000") or template(report) != "1500":
        raise Refused("title or template")
    known = evidence(report)
    shown = []
    for item in report.ContentSequence:
        if not (item.RelationshipType == "CONTAINS" and item.ValueType == "CONTAINER" and is_dcm(item, "126010")):
            continue
        if "ContentSequence" not in item:
            raise Refused("imaging measurements without a group")
        for group in item.ContentSequence:
            if is_dcm(group, "125007") and template(group) == "1410":
                shown += stone_regions(group, known)
    return shown


def evidence(report: Dataset) -> set[str]:
    found: set[str] = set()
    for study in report.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for image in series.ReferencedSOPSequence:
                if image.ReferencedSOPInstanceUID in found:
                    raise Refused("an image is listed twice in the evidence")
                found.add(image.ReferencedSOPInstanceUID)
    return found


def stone_regions(group: Dataset, known: set[str]) -> list[Rectangle]:
    found = []
    for region in group.ContentSequence:
        if not (region.RelationshipType == "CONTAINS" and region.ValueType == "SCOORD" and is_dcm(region, "111030")):
            continue
        for source in region.ContentSequence:
            if source.RelationshipType == "SELECTED FROM" and source.ValueType == "IMAGE" and is_dcm(source, "111040"):
                (reference,) = source.ReferencedSOPSequence
                if reference.ReferencedSOPInstanceUID not in known:
                    raise Refused("a region on an image that is not in the evidence")
                if region.GraphicType == "POLYLINE":
                    found.append((reference.ReferencedSOPInstanceUID, tuple(region.GraphicData)))
    return found


def meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def is_dcm(item: Dataset, value: str) -> bool:
    """Stone fails on an item without a name, and on a name with a long code."""
    (name,) = item.ConceptNameCodeSequence
    return (name.CodingSchemeDesignator, name.CodeValue) == ("DCM", value)


def template(item: Dataset) -> str:
    """Stone fails on a group without a template."""
    (entry,) = item.ContentTemplateSequence
    return str(entry.TemplateIdentifier) if entry.MappingResource == "DCMR" else ""
