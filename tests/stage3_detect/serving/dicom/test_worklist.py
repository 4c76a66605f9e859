"""Workitems of a worklist: done once, by one program, with their results; given up with a reason; resumed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.dicom_results.settings import ResultSettings
from stage3_detect.model.predictor import FoundBox
from stage3_detect.serving.dicom.examination import Examiner
from stage3_detect.serving.dicom.sender import StowSender
from stage3_detect.serving.dicom.worklist import CannotError, Worker, named_images
from stage3_detect.serving.dicom.worklist_client import Worklist, WorklistError
from stage3_detect.serving.interface import DecodedImage
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, SERIES, STUDY, dicom_bytes
from tests.stage3_detect.serving.dicom.small_node import FixedModel
from tests.stage3_detect.serving.dicom.ups_server import UpsServer, ups_server, workitem

ITEM = "1.2.826.0.1.3680043.8.498.77"
PLACE = (STUDY, SERIES, IMAGE)


@pytest.fixture
def pacs() -> Iterator[UpsServer]:
    with ups_server() as opened:
        opened.images[IMAGE] = dicom_bytes()
        yield opened


def worker(pacs: UpsServer, folder: Path, label: str | None = None) -> Worker:
    worklist = Worklist(pacs.url, timeout_s=10, max_file_bytes=2**24)
    examiner, sender = Examiner(FixedModel(), ResultSettings()), StowSender(pacs.url, timeout_s=10)
    return Worker(worklist, examiner, sender, folder / "claims", 2**24, label)


def claims(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "claims").iterdir())


def test_an_empty_worklist_is_left_alone(pacs: UpsServer, tmp_path: Path) -> None:
    assert worker(pacs, tmp_path).step() == 0
    assert pacs.asked == ["GET /workitems"]


def test_a_workitem_is_claimed_done_and_completed_with_references_to_its_results(
    pacs: UpsServer, tmp_path: Path
) -> None:
    pacs.images["1.2.3"] = b"no radiograph"
    pacs.add(workitem(ITEM, PLACE, (STUDY, SERIES, "1.2.3")))
    pacs.add(workitem(f"{ITEM}.1", PLACE, label="MAMMA"))
    (tmp_path / "claims" / ITEM).mkdir(parents=True)  # of a process that was killed before it claimed
    assert worker(pacs, tmp_path, "CHEST").step() == 1
    assert (pacs.state(ITEM), pacs.state(f"{ITEM}.1")) == ("COMPLETED", "SCHEDULED")
    assert [file.Modality for file in pacs.stored] == ["SR", "PR", "OT"]
    (step,) = pacs.items[ITEM].UnifiedProcedureStepPerformedProcedureSequence
    named = [group.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for group in step.OutputInformationSequence]
    assert named == [file.SOPInstanceUID for file in pacs.stored]
    first = step.OutputInformationSequence[0]
    where = f"{pacs.url}/studies/{STUDY}/series/{pacs.stored[0].SeriesInstanceUID}"
    assert first.WADORSRetrievalSequence[0].RetrieveURL == where
    assert step.PerformedWorkitemCodeSequence[0].CodeValue == "121726"
    assert pacs.percents == [0, 50, 100, 100]
    assert claims(tmp_path) == []
    assert worker(pacs, tmp_path, "CHEST").step() == 0


def test_of_two_workers_one_has_the_workitem(pacs: UpsServer, tmp_path: Path) -> None:
    pacs.add(workitem(ITEM, PLACE))

    def other(request: str) -> None:
        if request == f"PUT /workitems/{ITEM}/state":
            pacs.items[ITEM].ProcedureStepState = "IN PROGRESS"
            pacs.keys[ITEM] = "1.2.3.4"

    pacs.before = other
    assert worker(pacs, tmp_path).step() == 0
    assert pacs.stored == []
    assert claims(tmp_path) == []


@pytest.mark.parametrize(
    "when", ["POST /workitems", "GET /studies", f"GET /workitems/{ITEM}"], ids=["progress", "image", "claimed"]
)
def test_a_workitem_that_is_cancelled_meanwhile_gets_no_results(pacs: UpsServer, tmp_path: Path, when: str) -> None:
    pacs.add(workitem(ITEM, PLACE))

    def cancel(request: str) -> None:
        if request.startswith(when) and f"PUT /workitems/{ITEM}/state" in pacs.asked:
            pacs.items[ITEM].ProcedureStepState = "CANCELED"

    pacs.before = cancel
    assert worker(pacs, tmp_path).step() == 0
    assert (pacs.state(ITEM), pacs.stored, claims(tmp_path)) == ("CANCELED", [], [])


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([], "names no images"),
        ([(STUDY, SERIES, "1/../2")], "names no images"),
        ([PLACE], "none of 1 objects is a"),
        ([PLACE, (STUDY, SERIES, "1.2")], "an image cannot be read: status 404"),
    ],
)
def test_what_cannot_be_done_is_given_up_with_its_reason(
    pacs: UpsServer, tmp_path: Path, places: list[tuple[str, str, str]], reason: str
) -> None:
    pacs.images[IMAGE] = b"no radiograph"
    pacs.add(workitem(ITEM, *places))
    assert worker(pacs, tmp_path).step() == 0
    assert pacs.state(ITEM) == "CANCELED"
    (step,) = pacs.items[ITEM].ProcedureStepProgressInformationSequence
    assert reason in step.ReasonForCancellation
    assert (pacs.stored, claims(tmp_path)) == ([], [])


class BrokenModel(FixedModel):
    def detect(self, image: DecodedImage, point: str | None = None) -> list[FoundBox]:
        raise RuntimeError("the engine failed")


def test_a_workitem_on_which_the_model_fails_is_given_up_and_the_next_one_done(pacs: UpsServer, tmp_path: Path) -> None:
    pacs.add(workitem(ITEM, PLACE))
    broken = replace(worker(pacs, tmp_path), examiner=Examiner(BrokenModel(), ResultSettings()))
    assert broken.step() == 0
    assert (pacs.state(ITEM), pacs.stored, claims(tmp_path)) == ("CANCELED", [], [])
    pacs.add(workitem("not a UID", PLACE))
    pacs.add(workitem(f"{ITEM}.1", PLACE))
    assert worker(pacs, tmp_path).step() == 1
    assert (pacs.state("not a UID"), pacs.state(f"{ITEM}.1")) == ("SCHEDULED", "COMPLETED")


@pytest.mark.parametrize(("when", "nth"), [("GET /studies", 1), ("POST /studies", 2), ("PUT /workitems", 2)])
def test_a_worker_that_was_stopped_goes_on_and_sends_the_same_results(
    pacs: UpsServer, tmp_path: Path, when: str, nth: int
) -> None:
    """The connection breaks at some moment; another process finishes, and nothing is stored twice under other UIDs."""
    pacs.add(workitem(ITEM, PLACE))
    matching: list[str] = []

    def break_off(request: str) -> None:
        if request.startswith(when):
            matching.append(request)
            if len(matching) == nth:
                raise ConnectionAbortedError

    pacs.before = break_off
    with pytest.raises(Exception, match=r"^(RemoteDisconnected|ConnectionResetError)$"):
        worker(pacs, tmp_path).step()
    assert claims(tmp_path) == [ITEM]
    assert worker(pacs, tmp_path).step() == 1
    assert pacs.state(ITEM) == "COMPLETED"
    assert len({file.SOPInstanceUID for file in pacs.stored}) == 3


def test_a_url_that_is_none_and_a_server_that_is_away_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the URL of a DICOMweb service"):
        Worklist("pacs:8042", timeout_s=1, max_file_bytes=1)
    with pytest.raises(WorklistError, match="URLError"):
        Worklist("http://127.0.0.1:1/dicom-web", timeout_s=1, max_file_bytes=1).scheduled(None)


def test_answers_beyond_the_limit_and_without_sense_are_refused(pacs: UpsServer) -> None:
    small = Worklist(pacs.url, timeout_s=10, max_file_bytes=100)
    with pytest.raises(WorklistError, match="longer than 100 bytes"):
        small.image(*PLACE)
    pacs.answer = lambda *_: (200, "text/html", b"<html>")  # type: ignore[method-assign]
    with pytest.raises(WorklistError, match="no DICOM JSON"):
        small.scheduled(None)
    with pytest.raises(WorklistError, match="no multipart/related"):
        small.image(*PLACE)


def test_inputs_are_named_in_their_order() -> None:
    assert list(named_images(workitem(ITEM, PLACE, (STUDY, SERIES, "1.2")))) == [PLACE, (STUDY, SERIES, "1.2")]
    with pytest.raises(CannotError):
        list(named_images(workitem(ITEM)))
