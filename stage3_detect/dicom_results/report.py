"""The structured report (TID 1500) on the images of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    ObserverContext,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from stage3_detect.dicom_results import concepts
from stage3_detect.dicom_results.groups import box_group, image_group, quality_concept
from stage3_detect.dicom_results.result import (
    MANUFACTURER,
    NOT_FOR_DIAGNOSIS,
    Algorithm,
    ImageResult,
    Predecessor,
    instance_uid,
    series_uid,
)
from stage3_detect.dicom_results.settings import ResultSettings
from stage3_detect.dicom_results.uids import derived_uid

SR_SERIES, PR_SERIES, SC_SERIES = 9901, 9902, 9903
"""Series numbers, after those of any modality."""

_CLASSES = {"comprehensive": ComprehensiveSR, "comprehensive_3d": Comprehensive3DSR}
_MODALITIES = {"CR": "Computed Radiography", "DX": "Digital Radiography", "OT": "Other Modality"}


@dataclass(frozen=True)
class Occasion:
    """When a result is made, and which report it replaces."""

    time: datetime
    replaces: Predecessor | None = None

    @property
    def instance_number(self) -> int:
        """In the series of reports."""
        return 1 if self.replaces is None else self.replaces.instance_number + 1


def structured_report(
    results: Sequence[ImageResult], algorithm: Algorithm, settings: ResultSettings, occasion: Occasion
) -> Dataset:
    """A Comprehensive SR, or Comprehensive 3D SR, on images of one study.

    The image library lists all images. Each box is a group of measurements; an image without boxes has one that says
    why. The verdict on the quality of each image follows.

    Args:
        results: at least one, all of one study.
    """
    first = results[0].source
    replaced = occasion.replaces
    uid = instance_uid("report", results, algorithm, settings.sr_class, replaced.sop_instance_uid if replaced else "")
    root = _root(results, algorithm)
    report: Dataset = _CLASSES[settings.sr_class](
        evidence=[result.source.header for result in results],
        content=_without_content(root),
        series_instance_uid=series_uid("reports", first),
        series_number=SR_SERIES,
        sop_instance_uid=uid,
        instance_number=occasion.instance_number,
        is_complete=True,
        is_final=False,
        previous_versions=[_reference(replaced, first.header.StudyInstanceUID)] if replaced else None,
        series_description=f"{MANUFACTURER} report",
        coding_schemes=[concepts.OWN_SCHEME_ITEM],
        **equipment(algorithm),
        **times(occasion.time),
    )
    report.ContentSequence = root.ContentSequence
    return report


def equipment(algorithm: Algorithm) -> dict[str, Any]:
    """The module of enhanced general equipment."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": algorithm.name[:64],
        "software_versions": algorithm.version[:64],
        "device_serial_number": algorithm.manifest_sha256[:16],
    }


def times(time: datetime) -> dict[str, Any]:
    """Date and time of the content."""
    return {"content_date": time.date(), "content_time": time.time()}


def _reference(replaced: Predecessor, study_uid: str) -> Dataset:
    """What highdicom needs of an earlier report."""
    document = Dataset()
    document.SOPClassUID, document.SOPInstanceUID = replaced.sop_class_uid, replaced.sop_instance_uid
    document.StudyInstanceUID, document.SeriesInstanceUID = study_uid, replaced.series_instance_uid
    return document


def _root(results: Sequence[ImageResult], algorithm: Algorithm) -> ContainerContentItem:
    root = ContainerContentItem(concepts.REPORT, template_id="1500")
    observer = DeviceObserverIdentifyingAttributes(
        derived_uid("device", algorithm.manifest_sha256), MANUFACTURER, MANUFACTURER, algorithm.name[:64]
    )
    groups: list[ContentItem] = []
    for result in results:
        for box in result.boxes:
            groups += box_group(box, result.source, algorithm)
        groups += [] if result.boxes else image_group(result, algorithm)
    items = [
        concepts.code(concepts.LANGUAGE, concepts.ENGLISH, concepts.MODIFIES),
        *ObserverContext(codes.DCM.Device, observer),
        concepts.code(concepts.PROCEDURE_REPORTED, concepts.PLAIN_RADIOGRAPHY, concepts.MODIFIES),
        _library(results),
        concepts.container(concepts.IMAGING_MEASUREMENTS, groups),
        concepts.container(concepts.EVALUATIONS, _evaluations(results)),
    ]
    root.ContentSequence = ContentSequence(items)
    return root


def _without_content(root: ContainerContentItem) -> ContainerContentItem:
    """The root alone. highdicom copies and searches the whole tree, which takes as long as to build it."""
    alone = ContainerContentItem(concepts.REPORT, template_id="1500")
    alone.ContentSequence = ContentSequence([root.ContentSequence[0]])
    return alone


def _library(results: Sequence[ImageResult]) -> ContainerContentItem:
    """TID 1600. Written here because highdicom requires spacing and orientation, which many radiographs lack."""
    entries = [_entry(result) for result in results]
    return concepts.container(concepts.IMAGE_LIBRARY, [concepts.container(concepts.LIBRARY_GROUP, entries)])


def _entry(result: ImageResult) -> ImageContentItem:
    header = result.source.header
    image = ImageContentItem(
        concepts.SOURCE, header.SOPClassUID, result.source.uid, relationship_type=concepts.CONTAINS
    )
    height, width = result.source.size_hw
    modality = result.source.modality
    image.ContentSequence = ContentSequence(
        [
            concepts.acquisition_code(concepts.MODALITY, CodedConcept(modality, "DCM", _MODALITIES[modality])),
            concepts.acquisition_number(concepts.ROWS, height, concepts.PIXELS),
            concepts.acquisition_number(concepts.COLUMNS, width, concepts.PIXELS),
        ]
    )
    return image


def _evaluations(results: Sequence[ImageResult]) -> list[ContentItem]:
    """The verdict on each image, in the order of the library, with the reasons."""
    items: list[ContentItem] = [concepts.text(concepts.COMMENT, NOT_FOR_DIAGNOSIS)]
    for number, result in enumerate(results, start=1):
        quality = result.quality
        items.append(concepts.code(concepts.QUALITY, quality_concept(quality)))
        where = f"Image {number} of the library: " if len(results) > 1 else ""
        items += [concepts.text(concepts.QUALITY_ISSUE, where + reason) for reason in quality.reasons]
    return items
