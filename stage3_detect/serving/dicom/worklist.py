"""Work from a worklist (UPS-RS): claim a workitem, read its images by WADO-RS, store results by STOW-RS, complete it.

A claimed workitem has a folder until it is completed, with the key of the claim and, once they are made, its results.
So a process that was killed resumes, and sends the results that it had made instead of new ones.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cxr.config import UserError
from cxr.runs.run_folder import atomic_write_text
from stage3_detect.serving.dicom.examination import FAILED, Examiner, read_arrival
from stage3_detect.serving.dicom.sender import NotSentError, RefusedError, Sender
from stage3_detect.serving.dicom.store import QueuedImage
from stage3_detect.serving.dicom.worklist_client import AnswerError, NotOursError, Worklist, WorklistError
from stage3_detect.serving.http.logs import log_error

log = logging.getLogger("raybox.serving")

_KEY, _MADE = "transaction.txt", "made.txt"


class CannotError(Exception):
    """The workitem cannot be done; the message is given to the worklist as the reason."""


@dataclass(frozen=True)
class Worker:
    """Does workitems one after the other. folder: of the claims. label: of the worklist; None for all."""

    worklist: Worklist
    examiner: Examiner
    sender: Sender
    folder: Path
    max_pixels: int
    label: str | None = None

    def step(self) -> int:
        """Do the workitems that were claimed earlier, then those that are scheduled; returns how many were completed.

        Raises:
            WorklistError, NotSentError: a server cannot be reached. The next call resumes.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        claimed = [path.name for path in sorted(self.folder.iterdir()) if (path / _KEY).is_file()]
        done = sum(self._do(uid) for uid in claimed)
        for item in self.worklist.scheduled(self.label):
            uid = str(item.get("SOPInstanceUID", ""))
            if pydicom.uid.UID(uid).is_valid:  # it names a folder
                done += self._claim(uid) and self._do(uid)
            else:
                log.warning('{"level": "warning", "what": "workitem without a valid UID"}')
        return done

    def _claim(self, uid: str) -> bool:
        """False if another program was faster."""
        key = generate_uid()
        (self.folder / uid).mkdir(mode=0o700, exist_ok=True)  # a killed process may have left it empty
        atomic_write_text(self.folder / uid / _KEY, key)
        try:
            self.worklist.set_state(uid, "IN PROGRESS", key)
        except NotOursError:
            self._forget(uid)
            return False
        return True

    def _do(self, uid: str) -> bool:
        """Do a claimed workitem; False if it was given up or taken away."""
        begun = datetime.now()
        key = (self.folder / uid / _KEY).read_text(encoding="utf-8")
        try:
            item = self.worklist.workitem(uid)
            if (state := str(item.get("ProcedureStepState", ""))) != "IN PROGRESS":
                raise NotOursError(f"its state is {state or 'missing'}")
            files = self._results(uid, item, key)
            self.worklist.update(uid, progress(100), key)  # refused if it was cancelled or has another owner
            for data in files:
                self.sender.send(data)
            self.worklist.update(uid, performed(item, files, begun, self.worklist.url), key)
            self.worklist.set_state(uid, "COMPLETED", key)
        except NotOursError as error:
            log.warning('{"level": "warning", "what": "workitem taken away", "reason": "%s"}', error)
            self._forget(uid)
            return False
        except (CannotError, RefusedError) as error:
            self._give_up(uid, key, str(error))
            return False
        except (WorklistError, NotSentError):
            raise
        except Exception as error:  # the others must not wait for it
            log_error(error, "workitem")
            self._give_up(uid, key, FAILED)
            return False
        self._forget(uid)
        return True

    def _results(self, uid: str, item: Dataset, key: str) -> list[bytes]:
        """The result files, made now or by an earlier process."""
        folder = self.folder / uid
        if not (folder / _MADE).is_file():
            for number, data in enumerate(self._make(uid, item, key)):
                (folder / f"{number}.dcm").write_bytes(data)
            atomic_write_text(folder / _MADE, "")
        return [path.read_bytes() for path in sorted(folder.glob("*.dcm"), key=lambda path: int(path.stem))]

    def _make(self, uid: str, item: Dataset, key: str) -> list[bytes]:
        named = list(named_images(item))
        images: list[tuple[QueuedImage, bytes]] = []
        for number, place in enumerate(named):
            self.worklist.update(uid, progress(100 * number / len(named)), key)
            try:
                data = self.worklist.image(*place)
                arrival = read_arrival(data, max_pixels=self.max_pixels)
            except UserError:
                continue  # a study holds other objects too
            except (NotOursError, AnswerError) as error:
                raise CannotError(f"an image cannot be read: {error}") from None
            source, examined = arrival.source, self.examiner.examine(arrival)
            study = str(source.header.StudyInstanceUID)
            images.append((QueuedImage(source.uid, study, source.data_sha256, examined, False, False), data))
        if not images:
            raise CannotError(f"none of {len(named)} objects is a radiograph that can be read")
        _, report = self.examiner.report([image for image, _ in images], b"")
        files = [report]
        for image, data in images:
            pixels = read_arrival(data, max_pixels=self.max_pixels).image
            files += [content for _, content in self.examiner.pictures(image, pixels, report)]
        return files

    def _give_up(self, uid: str, key: str, reason: str) -> None:
        log.warning('{"level": "warning", "what": "workitem given up", "reason": "%s"}', reason)
        self.worklist.update(uid, discontinued(reason), key)
        self.worklist.set_state(uid, "CANCELED", key)
        self._forget(uid)

    def _forget(self, uid: str) -> None:
        shutil.rmtree(self.folder / uid)


def named_images(item: Dataset) -> Iterator[tuple[str, str, str]]:
    """Study, series and instance UID of each object that a workitem names as its input.

    Raises:
        CannotError: it names none.
    """
    found = [
        (str(group.StudyInstanceUID), str(group.SeriesInstanceUID), str(one.ReferencedSOPInstanceUID))
        for group in item.get("InputInformationSequence", [])
        if "StudyInstanceUID" in group and "SeriesInstanceUID" in group
        for one in group.get("ReferencedSOPSequence", [])
    ]
    if not found or not all(pydicom.uid.UID(uid).is_valid for place in found for uid in place):
        raise CannotError("the workitem names no images as its input")
    yield from found


def progress(percent: float) -> Dataset:
    """A change that says how far the work is."""
    step = Dataset()
    step.ProcedureStepProgress = round(percent)
    return _with_progress(step)


def discontinued(reason: str) -> Dataset:
    """A change that says why the work was abandoned."""
    step = Dataset()
    step.ProcedureStepCancellationDateTime = _time(datetime.now())
    step.ReasonForCancellation = reason
    return _with_progress(step)


def performed(item: Dataset, files: Sequence[bytes], begun: datetime, url: str) -> Dataset:
    """A change that says what was done, when, and which results were stored at the DICOMweb service `url`."""
    step = Dataset()
    step.PerformedStationNameCodeSequence = [_code("RAYBOX", "99RAYBOX", "raybox")]
    step.PerformedProcedureStepStartDateTime = _time(begun)
    step.PerformedProcedureStepEndDateTime = _time(datetime.now())
    step.PerformedWorkitemCodeSequence = list(item.get("ScheduledWorkitemCodeSequence", []))
    step.OutputInformationSequence = [_reference(data, url) for data in files]
    change = progress(100)
    change.UnifiedProcedureStepPerformedProcedureSequence = [step]
    return change


def _reference(data: bytes, url: str) -> Dataset:
    result = pydicom.dcmread(BytesIO(data), specific_tags=["StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
    one, retrieval, group = Dataset(), Dataset(), Dataset()
    one.ReferencedSOPClassUID = result.SOPClassUID
    one.ReferencedSOPInstanceUID = result.file_meta.MediaStorageSOPInstanceUID
    retrieval.RetrieveURL = f"{url}/studies/{result.StudyInstanceUID}/series/{result.SeriesInstanceUID}"
    group.TypeOfInstances = "DICOM"
    group.StudyInstanceUID, group.SeriesInstanceUID = result.StudyInstanceUID, result.SeriesInstanceUID
    group.ReferencedSOPSequence, group.WADORSRetrievalSequence = [one], [retrieval]
    return group


def _with_progress(step: Dataset) -> Dataset:
    change = Dataset()
    change.ProcedureStepProgressInformationSequence = [step]
    return change


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _time(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S")
