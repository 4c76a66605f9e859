"""Log lines of the DICOM network: each event leaves one, with the peer and without a patient."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

from stage3_detect.serving.dicom.events import SendLog, uid_text
from stage3_detect.serving.dicom.store import Parcel
from stage3_detect.serving.interface import ServedModel
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, STUDY, dicom_bytes
from tests.stage3_detect.serving.dicom.nodes import node, peer, store

NOWHERE = "127.0.0.1:9:PACS"
MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"
PARCEL = Parcel(1, NOWHERE, "1.2.3", "1.2.4", b"")


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("raybox.serving"), "propagate", True)  # other tests set up the service's logs
    caplog.set_level(logging.INFO, logger="raybox.serving")


def lines(caplog: pytest.LogCaptureFixture, what: str) -> list[dict[str, Any]]:
    """The lines about an event, without their time, which each has."""
    found = [json.loads(record.getMessage()) for record in caplog.records if record.name == "raybox.serving"]
    assert all(line.pop("time") for line in found)
    return [line for line in found if line["what"] == what]


@pytest.mark.parametrize("text", ["", "Zzyzx^Anna", "1.2.3 Zzyzx", 65 * "1"])
def test_only_a_uid_is_written_as_one(text: str):
    assert uid_text(text) == "not a UID"
    assert uid_text("1.2.840.3") == "1.2.840.3"


def test_a_study_is_followed_from_its_images_to_its_delivery(
    settled_model: ServedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = dicom_bytes(SOPInstanceUID=f"{IMAGE}.1", StudyInstanceUID=STUDY, PatientName="Zzyzx^Anna")
    with peer() as pacs, node(settled_model, tmp_path, pacs.name) as opened:
        assert store(opened.port, data, data) == [0, 0]
        pacs.wait_for(3)
        while opened.queue.num_waiting()["results"]:
            opened.queue.wait(opened.queue.version, 1)
    common = {"level": "info", "peer": "MODALITY", "study": STUDY, "image": f"{IMAGE}.1", "waiting": 1}
    assert lines(caplog, "image accepted") == [{"what": "image accepted", **common}]
    assert len(lines(caplog, "image known already")) == 1
    delivered = {"level": "info", "what": "study delivered", "peer": pacs.name, "study": STUDY}
    assert lines(caplog, "study delivered") == [delivered]
    assert "Zzyzx" not in caplog.text


def test_what_is_refused_leaves_a_line(settled_model: ServedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with node(settled_model, tmp_path, NOWHERE, peers=("MODALITY",)) as opened:
        assert store(opened.port, called="OTHER") == []
        assert store(opened.port, calling="STRANGER") == []
        assert store(opened.port, dicom_bytes(PhotometricInterpretation="RGB")) == [0xC000]
        application = AE(ae_title="MODALITY")
        application.add_requested_context("1.2.840.10008.1.1")
        application.add_requested_context(MAMMOGRAPHY)
        application.associate("127.0.0.1", opened.port, ae_title="RAYBOX").release()
    rejected = [(line["peer"], line["called"], line["reason"]) for line in lines(caplog, "association rejected")]
    assert [names[:2] for names in rejected] == [("MODALITY", "OTHER"), ("STRANGER", "RAYBOX")]
    assert "RAYBOX" in rejected[0][2] and "--dicom-peers" in rejected[1][2]
    assert lines(caplog, "image refused") == [
        {"level": "warning", "what": "image refused", "peer": "MODALITY", "status": "0xc000"}
    ]
    (classes,) = lines(caplog, "SOP classes not taken")
    assert (classes["peer"], classes["number"]) == ("MODALITY", 1)
    assert classes["first"] == ["Digital Mammography X-Ray Image Storage - For Presentation"]


def test_a_peer_that_stays_down_gets_fewer_and_fewer_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    log = SendLog("http://user:secret@pacs:8042/dicom-web")
    for second in range(100):
        monkeypatch.setattr("stage3_detect.serving.dicom.events.time.monotonic", lambda now=second: 1000.0 + now)
        log.failed("result not sent", "no association", PARCEL, num_waiting=3)
    found = lines(caplog, "result not sent")
    assert [line["failures"] for line in found] == [1, 11, 31, 71]
    assert [line["next_line_s"] for line in found] == [10, 20, 40, 80]
    facts = ("level", "reason", "peer", "study", "waiting")
    assert [found[0][name] for name in facts] == [
        "warning", "no association", "http://pacs:8042/dicom-web", "1.2.3", 3,
    ]  # fmt: skip
    log.sent()
    log.failed("result refused", "status 0xa700", PARCEL, num_waiting=1)
    assert lines(caplog, "result refused")[0]["failures"] == 1
