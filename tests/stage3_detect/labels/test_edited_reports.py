"""Reports that readers edited in a viewer become readings, and COCO boxes with reader ids."""

from copy import deepcopy
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cxr.coco import read_coco
from cxr.config import UserError
from stage3_detect.dicom_results.make import encoded
from stage3_detect.dicom_results.report import structured_report
from stage3_detect.dicom_results.result import image_result
from stage3_detect.dicom_results.settings import ResultSettings
from stage3_detect.labels.edited_reports import Call, reader_id, save_readings
from stage3_detect.model.predictor import FoundBox
from stage3_detect.serving.corrections.store import open_readings
from tests.stage3_detect.dicom_results.dicom_builders import ALGORITHM, GOOD, IMAGE, NOON, dicom_bytes, source

FOUND = tuple(
    FoundBox(finding, xyxy, score, None, True)
    for finding, xyxy, score in (
        ("Nodule/Mass", (30.0, 40.0, 130.0, 170.0), 0.8),
        ("Pleural Effusion", (150.0, 200.0, 260.0, 300.0), 0.5),
        ("Nodule/Mass", (250.0, 60.0, 380.0, 200.0), 0.4),
    )
)
"""Findings of the detector in the tests' bundle."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The hospital's images, and the report that the readers saw."""
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "one.dcm").write_bytes(dicom_bytes())
    (tmp_path / "reports").mkdir()
    save(tmp_path / "reports" / "own.dcm", own_report())
    return tmp_path


def own_report() -> Dataset:
    made = structured_report([image_result(source(), FOUND, GOOD)], ALGORITHM, ResultSettings(), NOON)
    return pydicom.dcmread(BytesIO(encoded(made)))


def save(path: Path, report: Dataset) -> None:
    report.save_as(path, enforce_file_format=True)


def edited(person: str = "Meier^Anna") -> Dataset:
    """As a viewer saves it: another instance by a person, in which only the regions below the numbers remain."""
    report = own_report()
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    report.Manufacturer = "Viewer"
    observer = Dataset()
    observer.ValueType, observer.RelationshipType, observer.PersonName = "PNAME", "HAS OBS CONTEXT", person
    observer.ConceptNameCodeSequence = Sequence([code("121008", "DCM", "Person Observer Name")])
    report.ContentSequence.append(observer)
    for group in groups(report):
        items = group.ContentSequence
        group.ContentSequence = Sequence([item for item in items if item.ValueType != "SCOORD"])
        named(group, "112040").UID = f"1.2.3.{len(items)}.{id(group) % 1000}"  # viewers give new ones
    return report


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def measurements(report: Dataset) -> Dataset:
    return named(report, "126010")


def groups(report: Dataset) -> list[Dataset]:
    return list(measurements(report).ContentSequence)


def named(item: Dataset, value: str) -> Dataset:
    return next(i for i in item.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == value)


def region(group: Dataset) -> Dataset:
    return next(item for item in group.ContentSequence if item.ValueType == "NUM").ContentSequence[0]


def run(folder: Path, bundle: Path, **changes: object) -> str:
    given = Call((folder / "reports",), folder / "images", bundle, folder / "corrections")
    return save_readings(Call(**{**given.__dict__, **changes}))  # type: ignore[arg-type]


def test_without_an_edited_report_there_is_nothing_to_read(folder: Path, bundle: Path):
    with pytest.raises(UserError, match="none of 1 structured reports was edited"):
        run(folder, bundle)


def test_each_change_in_the_viewer_is_an_action(folder: Path, bundle: Path):
    report = edited()
    accepted, moved, gone = groups(report)
    region(accepted).GraphicData = [value + 0.25 for value in region(accepted).GraphicData]
    region(moved).GraphicData = [160, 205, 270, 205, 270, 310, 160, 310]  # some viewers leave the line open
    drawn = deepcopy(accepted)
    region(drawn).GraphicData = [5, 6, 25, 6, 25, 36, 5, 36, 5, 6]
    named(drawn, "121071").ConceptCodeSequence = Sequence(
        [code("CORNERSTONEFREETEXT", "CORNERSTONEJS", "nodule/mass 2")]
    )
    measurements(report).ContentSequence = Sequence([accepted, moved, drawn])
    del gone
    save(folder / "reports" / "edited.dcm", report)
    assert "1 new readings" in run(folder, bundle)

    (reading,) = open_readings(folder / "corrections")
    assert (reading.reader, reading.name, reading.width_px, reading.height_px) == ("Meier-Anna", "a/one.dcm", 400, 320)
    assert [(box.action, box.finding, box.box_xyxy) for box in reading.boxes] == [
        ("accepted", "Nodule/Mass", (30.0, 40.0, 130.0, 170.0)),
        ("moved", "Pleural Effusion", (160.0, 205.0, 270.0, 310.0)),
        ("drawn", "Nodule/Mass", (5.0, 6.0, 25.0, 36.0)),
        ("rejected", "Nodule/Mass", (250.0, 60.0, 380.0, 200.0)),
    ]
    assert reading.boxes[1].original_box_xyxy == (150.0, 200.0, 260.0, 300.0)
    coco = read_coco(folder / "corrections" / "corrections.json")
    assert coco.boxes[["finding", "reader"]].values.tolist() == [
        ["Nodule/Mass", "Meier-Anna"],
        ["Pleural Effusion", "Meier-Anna"],
        ["Nodule/Mass", "Meier-Anna"],
    ]
    assert "0 new readings, 1 were there already" in run(folder, bundle)


def test_another_finding_of_a_box_is_a_relabelling(folder: Path, bundle: Path):
    report = edited()
    named(groups(report)[0], "121071").ConceptCodeSequence = Sequence([code("60046008", "SCT", "Pleural effusion")])
    save(folder / "reports" / "edited.dcm", report)
    run(folder, bundle, complete=True)
    (reading,) = open_readings(folder / "corrections")
    first = reading.boxes[0]
    assert (first.action, first.finding, first.original_finding) == ("relabelled", "Pleural Effusion", "Nodule/Mass")
    assert reading.complete


def test_without_raybox_s_report_all_boxes_are_drawn(folder: Path, bundle: Path):
    (folder / "reports" / "own.dcm").unlink()
    save(folder / "reports" / "edited.dcm", edited("unknown^unknown"))
    run(folder, bundle, reader="r7")
    (reading,) = open_readings(folder / "corrections")
    assert (reading.reader, {box.action for box in reading.boxes}) == ("r7", {"drawn"})


def test_problems_are_named(folder: Path, bundle: Path):
    report = edited("unknown")
    save(folder / "reports" / "edited.dcm", report)
    with pytest.raises(UserError, match="give --reader ID"):
        run(folder, bundle)
    region(groups(report)[0]).GraphicType = "POINT"
    save(folder / "reports" / "edited.dcm", report)
    with pytest.raises(UserError, match="1 regions are no boxes"):
        run(folder, bundle, reader="r1")
    named(groups(report)[0], "121071").ConceptCodeSequence = Sequence([code("1", "99X", "Pleural effusions")])
    region(groups(report)[0]).GraphicType = "POLYLINE"
    save(folder / "reports" / "edited.dcm", report)
    with pytest.raises(UserError, match=r"'Pleural effusions' .* \(nearest: 'Pleural Effusion'\)"):
        run(folder, bundle, reader="r1")
    (folder / "images" / "a" / "one.dcm").write_bytes(dicom_bytes(SOPInstanceUID="1.2.9"))
    save(folder / "reports" / "edited.dcm", edited())
    with pytest.raises(UserError, match=f"SOP instance UID {IMAGE}"):
        run(folder, bundle)
    assert not (folder / "corrections").exists()


@pytest.mark.parametrize(("name", "reader"), [("Meier^Anna", "Meier-Anna"), (" Ö^Jo.", "Jo"), ("x" * 40, "x" * 32)])
def test_reader_ids_are_short_and_plain(name: str, reader: str):
    assert reader_id(name, Path("a.dcm")) == reader
