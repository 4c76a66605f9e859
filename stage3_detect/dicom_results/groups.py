"""Measurement groups of the structured report: one for each box (TID 1410), and one for an image without (TID 1501)."""

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ContentSequence,
    CoordinatesForMeasurement,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)

from cxr.arrays import Floats
from cxr.labels.codes import code_of
from stage3_detect.dicom_results import concepts
from stage3_detect.dicom_results.result import EDITABLE_PREFIX, MANUFACTURER, Algorithm, ImageResult, TrackedBox
from stage3_detect.dicom_results.source import SourceImage
from stage3_detect.dicom_results.uids import derived_uid
from stage3_detect.image_quality.verdict import Quality


def polyline_of(box: TrackedBox) -> Floats:
    """(5, 2) corners as column and row, clockwise from the top left, closed.

    In SR the upper left corner of the upper left pixel is (0, 0), as in our boxes (PS3.3, C.18.6.1.2).
    """
    x1, y1, x2, y2 = box.xyxy
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]], dtype=np.float64)


def box_group(box: TrackedBox, source: SourceImage, algorithm: Algorithm) -> ContentSequence:
    """One box: identity, coded finding and site, region, size, certainty and score."""
    code = code_of(box.finding, algorithm.codes)
    region = ImageRegion(GraphicTypeValues.POLYLINE, polyline_of(box), _source_of(source))
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(box.uid, f"{EDITABLE_PREFIX}:{box.label}"),
        referenced_region=region,
        finding_type=concepts.concept(code.finding),
        algorithm_id=identification(algorithm),
        finding_sites=None if code.site is None else [FindingSite(concepts.concept(code.site))],
        measurements=_measurements(box, source),
        geometric_purpose=concepts.BOUNDED_BY,
    )
    _add_region_to_area(group, box, source)
    return group


def image_group(result: ImageResult, algorithm: Algorithm) -> ContentSequence:
    """An image without a box: that it shows none, or that the algorithm abstained. Viewers cannot read a report
    without any group."""
    source = result.source
    verdict = concepts.ABSTAINED if result.quality.abstains else concepts.NO_BOX
    image = SourceImageForMeasurementGroup(source.header.SOPClassUID, source.uid)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derived_uid("tracking", source.uid), "Image"),
        finding_type=verdict,
        algorithm_id=identification(algorithm),
        qualitative_evaluations=[QualitativeEvaluation(concepts.QUALITY, quality_concept(result.quality))],
        source_images=[image],
    )


def quality_concept(quality: Quality) -> CodedConcept:
    """The verdict as a code of CID 7004; an image on which the algorithm does not abstain is usable."""
    if quality.abstains:
        return concepts.UNUSABLE
    return concepts.USABLE if quality.ok else concepts.DOUBTFUL


def identification(algorithm: Algorithm) -> AlgorithmIdentification:
    """TID 4019. The hash identifies the model's files."""
    trained = "; trained on computer-generated images" if algorithm.synthetic else ""
    about = f"manifest SHA-256 {algorithm.manifest_sha256}; operating point {algorithm.point}{trained}"
    return AlgorithmIdentification(algorithm.name, algorithm.version, [about], manufacturer=MANUFACTURER)


def _source_of(source: SourceImage) -> SourceImageForRegion:
    """The image of a region. highdicom names it "Source"; the Stone viewer shows regions of an "Original Source"
    only."""
    item = SourceImageForRegion(source.header.SOPClassUID, source.uid)
    item.ConceptNameCodeSequence = [concepts.ORIGINAL_SOURCE]
    return item


def _measurements(box: TrackedBox, source: SourceImage) -> list[Measurement]:
    """Area first, then width, height, certainty if the model is calibrated, and score."""
    x1, y1, x2, y2 = box.xyxy
    row_mm, column_mm = source.spacing_mm or (1.0, 1.0)
    length, square = (concepts.PIXELS, concepts.PIXELS) if source.spacing_mm is None else (concepts.MM, concepts.MM2)
    width, height = (x2 - x1) * column_mm, (y2 - y1) * row_mm
    found = [
        Measurement(concepts.AREA, round(width * height, 1), square),
        Measurement(concepts.WIDTH, round(width, 2), length),
        Measurement(concepts.HEIGHT, round(height, 2), length),
    ]
    if box.confidence is not None:
        found.append(Measurement(concepts.CERTAINTY, round(100 * box.confidence, 2), concepts.PERCENT))
    return [*found, Measurement(concepts.SCORE, round(box.score, 6), concepts.UNITY)]


def _add_region_to_area(group: ContentSequence, box: TrackedBox, source: SourceImage) -> None:
    """Give the area, the first number, the region that it was measured on.

    OHIF up to 2025 reads the region to edit from there. highdicom does not write it, as TID 1410 has it in the group;
    the template is extensible.
    """
    area = next(item for item in group[0].ContentSequence if item.ValueType == "NUM")
    region = CoordinatesForMeasurement(GraphicTypeValues.POLYLINE, polyline_of(box), _source_of(source))
    area.ContentSequence = ContentSequence([region])
