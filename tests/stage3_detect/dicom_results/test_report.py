"""The structured report: what it says, that viewers accept it, and that it is the same on every run."""

from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset

from stage3_detect.dicom_results.make import encoded
from stage3_detect.dicom_results.read_report import read_report
from stage3_detect.dicom_results.report import Occasion, structured_report
from stage3_detect.dicom_results.result import ImageResult, image_result
from stage3_detect.dicom_results.settings import ResultSettings
from tests.stage3_detect.dicom_results.dicom_builders import (
    ALGORITHM,
    BAD,
    FINDINGS,
    FOUND,
    GOOD,
    IMAGE,
    NOON,
    STUDY,
    WARNED,
    result,
    source,
    texts,
)
from tests.stage3_detect.dicom_results.viewer_rules import Refused, ohif_edits, ohif_shows, stone_shows

EXPECTED = [
    (30.25, 40.5, 130.75, 40.5, 130.75, 170.0, 30.25, 170.0, 30.25, 40.5),
    (150.0, 20.0, 260.0, 20.0, 260.0, 300.0, 150.0, 300.0, 150.0, 20.0),
    (250.5, 60.0, 380.0, 60.0, 380.0, 200.125, 250.5, 200.125, 250.5, 60.0),
]


def report(*results: ImageResult, sr_class: str = "comprehensive", occasion: Occasion = NOON) -> Dataset:
    """As a PACS gets it."""
    settings = ResultSettings.model_validate({"sr_class": sr_class})
    made = structured_report(results or (result(),), ALGORITHM, settings, occasion)
    return pydicom.dcmread(BytesIO(encoded(made)))


def test_without_a_box_the_report_says_so_and_viewers_accept_it():
    made = report(result(found=()))
    assert ohif_shows(made) == stone_shows(made) == ohif_edits(made) == []
    assert "No finding reaches the operating point" in texts(made)
    assert "Usable - Meets the quality control standard" in texts(made)


def test_on_an_unsuitable_image_the_algorithm_abstains_and_names_the_reason():
    made = report(result(quality=BAD))
    assert ohif_shows(made) == stone_shows(made) == []
    said = texts(made)
    assert {"Not analysed, the image is unsuitable", "Unusable - Quality renders image unusable"} <= set(said)
    assert BAD.reasons[0] in said
    assert "Lung consolidation" not in said


def test_with_a_warning_the_boxes_stay_and_the_reason_is_named():
    made = report(result(quality=WARNED))
    assert ohif_shows(made) == [(IMAGE, points) for points in EXPECTED]
    assert {"Usable - Does not meet the quality control standard", WARNED.reasons[0]} <= set(texts(made))


@pytest.mark.parametrize("sr_class", ["comprehensive", "comprehensive_3d"])
def test_ohif_shows_and_edits_the_boxes_at_their_place(sr_class: str):
    made = report(sr_class=sr_class)
    assert ohif_shows(made) == ohif_edits(made) == [(IMAGE, points) for points in EXPECTED]


def test_stone_shows_the_boxes_of_a_comprehensive_report_alone():
    assert stone_shows(report()) == [(IMAGE, points) for points in EXPECTED]
    with pytest.raises(Refused, match="SOP class"):
        stone_shows(report(sr_class="comprehensive_3d"))


def test_each_box_has_the_six_primitives_of_ihe_air_and_its_algorithm():
    group = next(item for item in report().ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010")
    items = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in group.ContentSequence[0].ContentSequence}
    code = items["Finding"].ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("95436008", "SCT")
    assert items["Finding Site"].ConceptCodeSequence[0].CodeMeaning == "Lung"
    assert items["Tracking Identifier"].TextValue.endswith(":Consolidation 1")
    assert items["Geometric purpose of region"].ConceptCodeSequence[0].CodeValue == "75958009"
    assert items["Certainty of Finding"].MeasuredValueSequence[0].NumericValue == 62
    assert items["Algorithm Name"].TextValue == "yolo26n detector of test"
    assert items["Algorithm Version"].TextValue == "0.1.0"
    about = f"manifest SHA-256 {'5a' * 32}; operating point half_fp; trained on computer-generated images"
    assert items["Algorithm Parameters"].TextValue == about


@pytest.mark.parametrize(
    ("changes", "width", "unit"),
    [
        ({}, 100.5, "{pixels}"),
        ({"PixelSpacing": [0.2, 0.1]}, 100.5, "{pixels}"),  # may be that of the detector
        ({"ImagerPixelSpacing": [0.2, 0.1]}, 100.5, "{pixels}"),
        ({"PixelSpacing": [0, 0], "PixelSpacingCalibrationType": "GEOMETRY"}, 100.5, "{pixels}"),
        ({"PixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "GEOMETRY"}, 10.05, "mm"),
    ],
)
def test_lengths_are_in_pixels_unless_the_spacing_is_calibrated(changes: dict, width: float, unit: str):
    made = report(result(**changes))
    group = next(item for item in made.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010")
    items = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in group.ContentSequence[0].ContentSequence}
    value = items["Width"].MeasuredValueSequence[0]
    assert (float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue) == (width, unit)


def test_all_uids_are_the_same_on_a_second_run_and_others_for_another_result():
    first, second = report(), report()
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert texts(first) == texts(second)
    others = [report(result(found=FOUND[:2])), report(sr_class="comprehensive_3d"), report(result(quality=BAD))]
    assert len({first.SOPInstanceUID, *(other.SOPInstanceUID for other in others)}) == 4
    assert {other.SeriesInstanceUID for other in others} == {first.SeriesInstanceUID}


def test_a_revision_names_its_predecessor_and_keeps_the_identity_of_the_same_boxes():
    old = read_report(encoded(report()), "old", FINDINGS)
    assert old is not None
    moved = [type(box)(box.finding, tuple(v + 3 for v in box.xyxy), 0.3, 0.2, True) for box in reversed(FOUND)]
    image = image_result(source(), moved, GOOD, earlier=old.boxes[IMAGE])
    assert [(box.label, box.finding) for box in image.boxes] == [
        ("Pleural Effusion 1", "Pleural Effusion"),
        ("Consolidation 2", "Consolidation"),
        ("Mediastinal Shift 1", "Mediastinal Shift"),
        ("Consolidation 1", "Consolidation"),
    ]
    kept = {box.label: box.uid for box in old.boxes[IMAGE]}
    assert {box.label: box.uid for box in image.boxes if box.label in kept} == kept
    new = report(image, occasion=Occasion(NOON.time, old.as_predecessor()))
    document = new.PredecessorDocumentsSequence[0]
    assert document.StudyInstanceUID == STUDY
    assert (
        document.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.sop_instance_uid
    )
    assert (new.InstanceNumber, new.SeriesInstanceUID) == (2, old.series_instance_uid)


def test_one_report_holds_the_images_of_a_study():
    other = result(found=FOUND[:1], SOPInstanceUID=f"{IMAGE}.9")
    made = report(result(), other, result(quality=BAD, SOPInstanceUID=f"{IMAGE}.10"))
    assert [image for image, _ in ohif_shows(made)] == [IMAGE] * 3 + [f"{IMAGE}.9"]
    assert stone_shows(made) == ohif_shows(made)
    evidence = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in evidence] == [IMAGE, f"{IMAGE}.9", f"{IMAGE}.10"]
    assert f"Image 3 of the library: {BAD.reasons[0]}" in texts(made)


def test_the_boxes_come_back_within_half_a_pixel():
    large = 40_000.0  # coordinates are 32-bit floats
    found = [type(box)(box.finding, (box.xyxy[0], 0.3, large, large / 3), 0.5, None, True) for box in FOUND]
    made = report(image_result(source(Rows=20_000, Columns=50_000), found, GOOD))
    read = read_report(encoded(made), "report", FINDINGS)
    assert read is not None and read.is_own and read.reader == ""
    for box, expected in zip(read.boxes[IMAGE], found, strict=True):
        assert box.finding == expected.finding
        assert box.xyxy == pytest.approx((*expected.xyxy[:3], large / 3), abs=0.01)
        assert (box.score, box.confidence) == (0.5, None)
