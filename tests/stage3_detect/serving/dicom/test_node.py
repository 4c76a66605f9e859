"""The DICOM node with a real peer: each accepted image has exactly one result, whatever happens meanwhile."""

import signal
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from cxr.config import UserError
from stage3_detect.serving.dicom.examination import FAILED
from stage3_detect.serving.dicom.store import DicomQueue
from stage3_detect.serving.interface import ServedModel
from tests.crashing import DEADLY, crash_decoder, exit_code_of
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, STUDY, dicom_bytes, texts
from tests.stage3_detect.dicom_results.viewer_rules import evidence, ohif_edits, stone_shows
from tests.stage3_detect.serving.dicom.nodes import node, peer, store


def image(number: int, study: int = 1) -> bytes:
    return dicom_bytes(SOPInstanceUID=f"{IMAGE}.{study}.{number}", StudyInstanceUID=f"{STUDY}.{study}")


def reports(files: list[Dataset]) -> list[Dataset]:
    return [file for file in files if file.Modality == "SR"]


def test_an_echo_is_answered_and_an_empty_queue_sends_nothing(settled_model: ServedModel, tmp_path: Path):
    with peer() as pacs, node(settled_model, tmp_path, pacs.name) as opened:
        application = AE()
        application.add_requested_context("1.2.840.10008.1.1")
        association = application.associate("127.0.0.1", opened.port, ae_title="RAYBOX")
        assert association.send_c_echo().Status == 0
        association.release()
        assert opened.queue.num_waiting() == {"images": 0, "results": 0}
        assert pacs.files == []


def test_a_radiograph_comes_back_as_three_results(settled_model: ServedModel, tmp_path: Path):
    with peer() as pacs, node(settled_model, tmp_path, pacs.name) as opened:
        assert store(opened.port, image(1)) == [0]
        files = pacs.wait_for(3)
        assert [file.Modality for file in files] == ["SR", "PR", "OT"]
        assert {file.StudyInstanceUID for file in files} == {f"{STUDY}.1"}
        assert len(ohif_edits(files[0])) == len(stone_shows(files[0])) > 0
        assert store(opened.port, image(1)) == [0]  # sent again: no second result
        assert store(opened.port, image(1, study=2)) == [0]
        assert len(pacs.wait_for(6)) == 6
    queue = DicomQueue(tmp_path)
    assert queue.num_waiting() == {"images": 0, "results": 0}
    images = [*queue.images_of(f"{STUDY}.1"), *queue.images_of(f"{STUDY}.2")]
    assert [queue.data_of(image) for image in images] == [b"", b""]
    queue.close()


def test_a_study_is_reported_when_it_is_quiet_and_a_late_image_supersedes(settled_model: ServedModel, tmp_path: Path):
    with peer() as pacs, node(settled_model, tmp_path, pacs.name, quiet_s=1) as opened:
        assert store(opened.port, image(1), image(2)) == [0, 0]
        first = reports(pacs.wait_for(5))
        assert len(first) == 1
        assert evidence(first[0]) == {f"{IMAGE}.1.1", f"{IMAGE}.1.2"}
        store(opened.port, image(3))
        files = pacs.wait_for(8)
        assert sorted(file.Modality for file in files) == ["OT"] * 3 + ["PR"] * 3 + ["SR"] * 2
        newest = reports(files)[1]
        assert evidence(newest) == {f"{IMAGE}.1.{number}" for number in (1, 2, 3)}
        predecessor = newest.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert predecessor.ReferencedSOPInstanceUID == first[0].SOPInstanceUID
        kept = [box for box in stone_shows(newest) if box[0] != f"{IMAGE}.1.3"]
        assert kept == stone_shows(first[0])


def test_an_image_that_crashed_its_decoder_is_refused_by_the_next_process(
    settled_model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    deadly = dicom_bytes(SOPInstanceUID=f"{IMAGE}.9.1", PatientComments=DEADLY.decode())

    def receive() -> None:
        with node(settled_model, tmp_path, "127.0.0.1:1:PACS") as opened:
            store(opened.port, deadly)

    with monkeypatch.context() as patch:
        crash_decoder(patch)
        assert exit_code_of(receive) == -signal.SIGSEGV
    assert b"MODALITY" not in (tmp_path / ".crash_0.txt").read_bytes()
    with peer() as pacs, node(settled_model, tmp_path, pacs.name) as opened:
        refused, accepted = store(opened.port, deadly, image(1))
        assert refused == 0xC000 and accepted == 0
        assert len(pacs.wait_for(3)) == 3
    (tmp_path / ".crash_0.txt").unlink()
    with node(settled_model, tmp_path, "127.0.0.1:1:PACS") as opened:
        assert store(opened.port, deadly) == [0]
    assert not list(tmp_path.glob(".crash*"))


def test_a_peer_that_is_down_gets_the_same_results_later(settled_model: ServedModel, tmp_path: Path):
    with peer() as pacs:
        name, port = pacs.name, pacs.port
    with node(settled_model, tmp_path, name) as opened:
        assert store(opened.port, image(1)) == [0]
        while opened.queue.num_waiting() != {"images": 0, "results": 3}:
            opened.queue.wait(opened.queue.version, 1)
    queue = DicomQueue(tmp_path)
    parcel = queue.next_parcel(name)
    queue.close()
    assert parcel is not None
    with peer(port) as pacs:
        pacs.status = 0xA700  # full
        with node(settled_model, tmp_path, name, max_retry_s=0.5):
            time.sleep(0.3)
            pacs.status = 0
            files = {str(file.Modality): file for file in pacs.wait_for(3)}
    assert set(files) == {"SR", "PR", "OT"}
    assert files["SR"].SOPInstanceUID == parcel.uid


def test_an_image_left_by_a_killed_process_is_worked_on(settled_model: ServedModel, tmp_path: Path):
    queue = DicomQueue(tmp_path)
    data = image(1)
    assert queue.accept(f"{IMAGE}.1.1", f"{STUDY}.1", "0" * 64, data)
    assert not queue.accept(f"{IMAGE}.1.1", f"{STUDY}.1", "0" * 64, data)
    queue.close()
    with peer() as pacs, node(settled_model, tmp_path, pacs.name):
        assert [file.Modality for file in pacs.wait_for(3)] == ["SR", "PR", "OT"]


def test_an_image_on_which_the_model_fails_has_a_result_that_says_so(
    settled_model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise ValueError("of a kind that nobody expected")

    monkeypatch.setattr(settled_model, "detect", fail)
    with peer() as pacs, node(settled_model, tmp_path, pacs.name) as opened:
        assert store(opened.port, image(1)) == [0]
        report, state, capture = pacs.wait_for(3)
    assert FAILED in texts(report)
    assert (stone_shows(report), state.Modality, capture.Modality) == ([], "PR", "OT")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"StudyInstanceUID": None}, 0xC000),
        ({"PixelData": b"\0" * 20}, 0xC000),
        ({"PhotometricInterpretation": "RGB"}, 0xC000),
    ],
)
def test_an_image_that_cannot_have_results_is_refused(
    settled_model: ServedModel, tmp_path: Path, changes: dict[str, object], status: int
):
    with node(settled_model, tmp_path, "127.0.0.1:9:PACS") as opened:
        assert store(opened.port, dicom_bytes(**changes), image(1)) == [status, 0]
        assert opened.queue.num_waiting()["images"] == 1


def test_strangers_are_rejected(settled_model: ServedModel, tmp_path: Path):
    with node(settled_model, tmp_path, "127.0.0.1:9:PACS", peers=("MODALITY",)) as opened:
        assert store(opened.port, image(1), called="OTHER") == []
        assert store(opened.port, image(1), calling="STRANGER") == []
        assert store(opened.port, image(1)) == [0]


def test_a_very_long_image_is_cut_off(settled_model: ServedModel, tmp_path: Path):
    with node(settled_model, tmp_path, "127.0.0.1:9:PACS", limits={"max_file_bytes": 100_000}) as opened:
        assert store(opened.port, image(1)) != [0]
        assert opened.queue.num_waiting() == {"images": 0, "results": 0}


def test_a_full_disk_refuses_the_image_and_stores_nothing(settled_model: ServedModel, tmp_path: Path):
    with node(settled_model, tmp_path, "127.0.0.1:9:PACS") as opened:
        pages = opened.queue._database.execute("PRAGMA page_count").fetchone()[0]
        opened.queue._database.execute(f"PRAGMA max_page_count = {pages + 2}")
        assert store(opened.port, image(1)) == [0xA700]
        assert opened.queue.num_waiting() == {"images": 0, "results": 0}
        opened.queue._database.execute("PRAGMA max_page_count = 1000000")
        assert store(opened.port, image(1)) == [0]


def test_a_folder_or_port_in_use_is_an_error(settled_model: ServedModel, tmp_path: Path):
    with node(settled_model, tmp_path / "a", "127.0.0.1:9:PACS") as opened:
        with pytest.raises(UserError, match="no other service uses"), node(settled_model, tmp_path / "a", "h:9:P"):
            pass
        other = node(settled_model, tmp_path / "b", "h:9:P", port=opened.port)
        with pytest.raises(UserError, match="give another port"), other:
            pass
