"""The DICOM node with peers from Debian's packages: dcmtk's storescu and storescp, and Orthanc with DICOMweb."""

import os
import subprocess
from pathlib import Path

import pydicom
import pytest

from stage3_detect.dicom_results.read_report import read_report
from stage3_detect.serving.interface import DecodedImage, ServedModel
from tests.benchmarks.dicom_kills import free_port, wait_for_port
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, dicom_bytes, pixels
from tests.stage3_detect.dicom_results.viewer_rules import ohif_edits, stone_shows
from tests.stage3_detect.serving.dicom.nodes import node
from tests.stage3_detect.serving.dicom.peers import DICOMWEB, orthanc, program, started, wait


def test_storescu_in_and_storescp_out(settled_model: ServedModel, tmp_path: Path):
    storescu, storescp = program("storescu"), program("storescp")
    (tmp_path / "one.dcm").write_bytes(dicom_bytes())
    (tmp_path / "got").mkdir()
    port = free_port()
    with started(storescp, "-aet", "PACS", "-od", tmp_path / "got", str(port)):
        wait_for_port(port)
        with node(settled_model, tmp_path / "queue", f"127.0.0.1:{port}:PACS") as opened:
            target = ["127.0.0.1", str(opened.port), tmp_path / "one.dcm"]
            subprocess.run([program("echoscu"), "-aec", "RAYBOX", *target[:2]], check=True)
            subprocess.run([storescu, "-aec", "RAYBOX", *target], check=True)
            wait(lambda: opened.queue.num_waiting() == {"images": 0, "results": 0})
    files = [pydicom.dcmread(path) for path in (tmp_path / "got").iterdir()]
    assert sorted(file.Modality for file in files) == ["OT", "PR", "SR"]


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_orthanc_sends_an_image_and_gets_the_same_boxes_back(way: str, settled_model: ServedModel, tmp_path: Path):
    if way == "STOW-RS" and not DICOMWEB.exists() and "RAYBOX_REQUIRE_DICOM_PEERS" not in os.environ:
        pytest.skip("Debian's orthanc-dicomweb is not installed")
    dicom_port, raybox_port = free_port(), free_port()
    with orthanc(tmp_path, dicom_port=dicom_port, raybox_port=raybox_port) as pacs:
        to = f"127.0.0.1:{dicom_port}:ORTHANC" if way == "C-STORE" else f"{pacs.url}/dicom-web"
        with node(settled_model, tmp_path / "queue", to, port=raybox_port) as opened:
            sent = pacs.call("/instances", dicom_bytes())
            pacs.call("/modalities/raybox/store", sent["ID"].encode())
            wait(lambda: len(pacs.call("/instances")) == 4 and opened.queue.num_waiting()["results"] == 0)
        assert len(pacs.call("/studies")) == 1
        assert len(pacs.call("/series")) == 4
        files = pacs.files()
    reports = [(data, read_report(data, "a report", settled_model.facts.findings)) for data in files]
    ((data, report),) = [(data, report) for data, report in reports if report is not None]
    expected = [box for box in settled_model.detect(DecodedImage("", b"", pixels())) if box.shown]
    assert len(report.boxes[IMAGE]) == len(expected) > 0
    for box, other in zip(report.boxes[IMAGE], expected, strict=True):
        assert box.finding == other.finding
        assert box.xyxy == pytest.approx(other.xyxy, abs=0.5)
    stored = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    assert len(ohif_edits(stored)) == len(stone_shows(stored)) == len(expected)
