"""Our reports in the real OHIF viewer, and OHIF's reports read back. Run by `make test-viewers`, not by `make test`.

RAYBOX_OHIF names the folder of OHIF's npm package `@ohif/app`, unpacked. OHIF runs in Chromium; its study comes from
Debian's Orthanc with the DICOMweb plugin.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from cxr.coco import read_coco
from cxr.imaging.files import read_image
from cxr.phantom.cases import SCREENING, render_frontal, sample_findings, sample_patient
from cxr.phantom.dicom import DicomFacts, write_dicom
from cxr.phantom.write import Job
from stage3_detect.dicom_results.make import REPORT, make_results
from stage3_detect.dicom_results.result import image_result
from stage3_detect.dicom_results.settings import ResultSettings
from stage3_detect.dicom_results.source import read_source
from stage3_detect.labels.edited_reports import Call, save_readings
from stage3_detect.model.predictor import Box, FoundBox
from stage3_detect.serving.corrections.store import open_readings
from tests.benchmarks.dicom_kills import free_port
from tests.stage3_detect.dicom_results.dicom_builders import ALGORITHM, GOOD, NOON
from tests.stage3_detect.serving.chain_builders import make_bundle
from tests.stage3_detect.serving.dicom.peers import orthanc
from tests.stage3_detect.serving.page.browsing import browsing
from tests.viewers.ohif_session import MOVED_BY_PX, Session, read_in_ohif
from tests.viewers.ohif_site import ohif_site

FINDINGS = ("Nodule/Mass", "Pleural Effusion")
WINDOW = {"width": 1400, "height": 1000}


class Hospital:
    """A phantom radiograph in `folder`/images, and what a reader did with our report on it in OHIF."""

    def __init__(self, folder: Path, sr_class: str) -> None:
        self.folder = folder
        (folder / "images").mkdir()
        path = folder / "images" / "chest.dcm"
        found, image_hw = _radiograph(path)
        self.boxes: list[Box] = [box.xyxy for box in found]
        data = path.read_bytes()
        result = image_result(read_source(data, "the image"), found, GOOD)
        algorithm = replace(ALGORITHM, findings=FINDINGS)
        settings = ResultSettings.model_validate({"sr_class": sr_class})
        results = make_results(result, read_image(path), algorithm, settings, NOON)
        study = str(result.source.header.StudyInstanceUID)
        self.ours, files = results[REPORT], [data, *results.values()]
        with (
            orthanc(folder, dicom_port=free_port()) as pacs,
            ohif_site(Path(os.environ["RAYBOX_OHIF"]) / "dist", pacs.url) as site,
            browsing() as browser,
        ):
            for file in files:
                pacs.call("/instances", file)
            page = browser.new_page(viewport=WINDOW)
            url = f"{site}/viewer?StudyInstanceUIDs={study}"
            self.session: Session = read_in_ohif(page, url, boxes=self.boxes, image_hw=image_hw, shots=folder)
            new = [file for file in pacs.files() if file not in files]
        (self.stored,) = new


def _radiograph(path: Path) -> tuple[list[FoundBox], tuple[int, int]]:
    """Write a phantom with a nodule and two effusions; returns their true boxes, and height and width."""
    rng = Job(path, "vindr_test", 7, 0, 0.0, 0.0).rng()
    patient = sample_patient(rng)
    case = render_frontal(patient, sample_findings(rng, normal_share=0.0) - {"Support Devices"}, SCREENING, rng=rng)
    facts = DicomFacts("chest", "F", patient.age, inverted=True, low=300, high=3300, pixel_spacing_mm=0.6)
    write_dicom(path, case.picture, facts)
    names = {"Lung Lesion": "Nodule/Mass", "Pleural Effusion": "Pleural Effusion"}
    boxes = sorted((names[name], xyxy) for name, xyxy in case.boxes if name in names)
    found = [FoundBox(name, xyxy, 0.8 - 0.1 * i, 0.7 - 0.1 * i, True) for i, (name, xyxy) in enumerate(boxes)]
    return found, (case.picture.shape[0], case.picture.shape[1])


@pytest.fixture(scope="module", params=["comprehensive", "comprehensive_3d"])
def hospital(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    yield Hospital(tmp_path_factory.mktemp(request.param), request.param)


def moved(box: Box) -> Box:
    return box[0], box[1], box[2] + MOVED_BY_PX[0], box[3] + MOVED_BY_PX[1]


def test_the_report_is_drawn_at_its_boxes(hospital: Hospital):
    for box in hospital.boxes:
        assert min(hospital.session.opened.outlined(box)) > 0.7  # dashed
        for shift in (-12, 12):
            elsewhere = (box[0] + shift, box[1] + shift, box[2] + shift, box[3] + shift)
            assert max(hospital.session.opened.outlined(elsewhere)) < 0.5


def test_the_boxes_can_be_edited_and_name_finding_and_site(hospital: Hospital):
    for box in hospital.boxes:
        assert min(hospital.session.loaded.outlined(box)) > 0.95
    words = ("Nodule/Mass", "Pleural effusion", "Pleural structure")
    listed = [line for line in hospital.session.listed if line in words]
    assert listed == ["Nodule/Mass", "Pleural effusion", "Pleural structure", "Pleural effusion", "Pleural structure"]


def test_changes_are_drawn(hospital: Hospital):
    first, second, third = hospital.boxes
    screen = hospital.session.edited
    assert min(screen.outlined(first)) > 0.95
    assert min(screen.outlined(moved(second))) > 0.95
    assert max(screen.outlined(third)) < 0.3


def test_the_report_that_ohif_stored_is_read_back_as_corrections(hospital: Hospital, tmp_path: Path):
    stored = pydicom.dcmread(BytesIO(hospital.stored))
    assert stored.Manufacturer != "raybox"
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "ours.dcm").write_bytes(hospital.ours)
    (tmp_path / "reports" / "ohif.dcm").write_bytes(hospital.stored)
    bundle = make_bundle(tmp_path / "chain")
    save_readings(
        Call((tmp_path / "reports",), hospital.folder / "images", bundle, tmp_path / "out", reader="r1", complete=True)
    )

    (reading,) = open_readings(tmp_path / "out")
    assert [(box.action, box.finding) for box in reading.boxes] == [
        ("accepted", "Nodule/Mass"),
        ("moved", "Pleural Effusion"),
        ("rejected", "Pleural Effusion"),
    ]
    first, second, third = hospital.boxes
    assert reading.boxes[0].box_xyxy == pytest.approx(first, abs=0.01)
    assert reading.boxes[1].box_xyxy == pytest.approx(moved(second), abs=1)
    assert reading.boxes[2].box_xyxy == pytest.approx(third, abs=0.01)
    coco = read_coco(tmp_path / "out" / "corrections.json")
    assert coco.boxes[["finding", "reader"]].values.tolist() == [["Nodule/Mass", "r1"], ["Pleural Effusion", "r1"]]
