"""STOW-RS into a service with a DICOM node."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stage3_detect.serving.interface import ServedModel
from tests.stage3_detect.dicom_results.dicom_builders import DX, IMAGE, dicom_bytes
from tests.stage3_detect.serving.dicom.nodes import node, peer
from tests.stage3_detect.serving.services import Service, running

KIND = 'multipart/related; type="application/dicom"; boundary=b0und'


def body(*parts: bytes) -> bytes:
    head = b"--b0und\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + part + b"\r\n" for part in parts) + b"--b0und--\r\n"


def stow(service: Service, content: bytes, kind: str = KIND) -> httpx.Response:
    with service.client() as client:
        return client.post("/dicom-web/studies", content=content, headers={"Content-Type": kind})


@pytest.fixture(scope="module")
def plain(settled_model: ServedModel) -> Iterator[Service]:
    """A service without a DICOM network."""
    with running(settled_model) as started:
        yield started


def test_images_are_stored_and_their_results_are_sent(settled_model: ServedModel, tmp_path: Path):
    with peer() as pacs, node(settled_model, tmp_path, pacs.name) as opened:
        with running(settled_model, dicom=opened) as service:
            bad = dicom_bytes(SOPInstanceUID=f"{IMAGE}.7", StudyInstanceUID=None)
            answer = stow(service, body(dicom_bytes(), bad))
            assert (answer.status_code, answer.headers["content-type"]) == (202, "application/dicom+json")
            stored, failed = (answer.json()[tag]["Value"] for tag in ("00081199", "00081198"))
            assert [item["00081155"]["Value"] for item in stored] == [[IMAGE]]
            assert [item["00081150"]["Value"] for item in stored] == [[DX]]
            assert [item["00081197"]["Value"] for item in failed] == [[0xC000]]
            assert stow(service, body(b"nothing")).status_code == 409
            assert stow(service, body(dicom_bytes())).status_code == 200
            assert stow(service, body()).status_code == 400
            assert stow(service, body(dicom_bytes()), "application/dicom").status_code == 415
        assert [file.Modality for file in pacs.wait_for(3)] == ["SR", "PR", "OT"]


def test_without_a_network_there_is_no_such_service(plain: Service):
    assert stow(plain, body(dicom_bytes())).status_code == 404
