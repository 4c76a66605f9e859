"""`POST /v1/dicom-results` of a service that runs in this process."""

import zipfile
from collections.abc import Iterator
from io import BytesIO

import pydicom
import pytest

from stage3_detect.dicom_results.make import PICTURE, PRESENTATION, REPORT
from stage3_detect.serving.interface import ServedModel
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, STUDY, dicom_bytes, texts
from tests.stage3_detect.dicom_results.viewer_rules import ohif_shows, stone_shows
from tests.stage3_detect.serving.services import Service, png, running


@pytest.fixture(scope="module")
def service(settled_model: ServedModel) -> Iterator[Service]:
    with running(settled_model) as started:
        yield started


def results(service: Service, data: bytes, **query: str) -> dict[str, pydicom.Dataset]:
    with service.client() as client:
        answer = client.post("/v1/dicom-results", params=query, files={"file": ("one.dcm", data)})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        return {name: pydicom.dcmread(BytesIO(archive.read(name))) for name in archive.namelist()}


def shown_boxes(service: Service, data: bytes) -> list[list[float]]:
    with service.client() as client:
        image = client.post("/v1/detections", files=[("files", ("one.dcm", data))]).json()["images"][0]
    return [box["box_xyxy"] for box in image["detections"] if box["shown"]]


def test_the_boxes_of_the_report_are_those_of_the_detections(service: Service):
    files = results(service, dicom_bytes())
    assert list(files) == [REPORT, PRESENTATION, PICTURE]
    expected = shown_boxes(service, dicom_bytes())
    drawn = [[*points[:2], *points[4:6]] for image, points in ohif_shows(files[REPORT]) if image == IMAGE]
    assert len(drawn) == len(expected) > 0
    for box, other in zip(drawn, expected, strict=True):
        assert box == pytest.approx(other, abs=0.01)
    assert {file.StudyInstanceUID for file in files.values()} == {STUDY}


def test_the_report_names_the_model_that_is_served(service: Service):
    facts = service.context.model.facts
    said = " ".join(texts(results(service, dicom_bytes())[REPORT]))
    assert f"manifest SHA-256 {facts.manifest_sha256}; operating point {facts.default_point}" in said


def test_the_query_chooses_the_class_of_the_report_and_the_pixels_of_the_picture(service: Service):
    files = results(service, dicom_bytes(), sr_class="comprehensive_3d", capture="grey")
    assert files[REPORT].SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert files[PICTURE].BitsStored == 12
    assert stone_shows(results(service, dicom_bytes())[REPORT])


@pytest.mark.parametrize(
    ("data", "query", "word"),
    [
        (png(), {}, "not DICOM"),
        (b"nothing", {}, "damaged"),
        (dicom_bytes(StudyInstanceUID=None), {}, "StudyInstanceUID"),
        (dicom_bytes(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), {}, "MR Image Storage"),
        (dicom_bytes(), {"sr_class": "basic"}, "sr_class"),
        (dicom_bytes(), {"point": "none"}, "operating point"),
    ],
)
def test_what_cannot_have_results_is_refused_with_the_reason(
    service: Service, data: bytes, query: dict[str, str], word: str
):
    with service.client() as client:
        answer = client.post("/v1/dicom-results", params=query, files={"file": ("Müller.dcm", data)})
    assert answer.status_code == 422
    assert word in answer.json()["error"]
    assert "Müller" not in answer.json()["error"]


def test_without_the_package_there_is_no_such_route(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stage3_detect.serving.http.dicom.find_spec", lambda _: None)
    with service.client() as client:
        answer = client.post("/v1/dicom-results", files={"file": ("one.dcm", dicom_bytes())})
    assert (answer.status_code, "extra 'dicom'" in answer.json()["error"]) == (404, True)
