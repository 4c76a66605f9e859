"""The DICOM node: the listener, the work on accepted images, and the sending of results, each in threads."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from cxr.config import UserError
from cxr.crashes import watch_folder
from stage3_detect.serving.dicom.events import SendLog, log_image
from stage3_detect.serving.dicom.examination import Arrival, Examiner, read_arrival
from stage3_detect.serving.dicom.listener import listen
from stage3_detect.serving.dicom.sender import NotSentError, RefusedError, open_sender
from stage3_detect.serving.dicom.settings import DicomSettings
from stage3_detect.serving.dicom.store import DicomQueue, FullError, Parcel, QueuedImage
from stage3_detect.serving.http.audit import Audit
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.logs import log_error, log_event
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.records import RecordFile
from stage3_detect.serving.settings import Limits

_IDLE_S = 30.0
"""Longest sleep without a notice, in case one is missed."""
_PAUSE_S = 0.5
"""First pause after a peer could not be reached; each further one is twice as long."""
_RELEASE_S = 2.0
"""How long a thread that sends waits for results before it looks at its association."""
_DAY_S, _CLEAN_UP_S = 24 * 3600, 3600
_POSTPONED_S = 60.0
"""Pause before a report that failed is tried again."""
_DECODED_AT_ONCE = 2
"""A flood of large images must not fill the memory."""
_HELD_IMAGES = 4
"""Decoded images that are kept between their arrival and their pictures."""


class DicomNode:
    """Runs until `close`."""

    def __init__(
        self,
        model: ServedModel,
        settings: DicomSettings,
        limits: Limits,
        audit: Audit | None = None,
        records: RecordFile | None = None,
    ) -> None:
        """Open the queue and the port, and continue with what an earlier process left.

        Raises:
            UserError: the folder or the port cannot be used.
        """
        self.settings, self._limits, self._audit = settings, limits, audit
        self._model_sha256 = model.facts.manifest_sha256
        self._examiner = Examiner(model, settings.results, records)
        self._held: OrderedDict[str, Arrival] = OrderedDict()
        self._held_lock = threading.Lock()
        self._decoding = threading.Semaphore(_DECODED_AT_ONCE)
        self._is_open = True
        self._cleaned_s = float(-_CLEAN_UP_S)
        self._postponed: dict[str, float] = {}
        self.queue = DicomQueue(settings.folder)
        self._end_watch = watch_folder(settings.folder)  # an image that crashes its decoder comes again and again
        try:
            self._server = listen(settings, self.accept, max_bytes=limits.max_file_bytes)
        except UserError:
            self._close_folder()
            raise
        self.port: int = self._server.server_address[1]
        work: list[Callable[[], None]] = [self._work]
        work += [lambda to=destination: self._send_to(to) for destination in settings.send_to]  # type: ignore[misc]
        self._threads = [threading.Thread(target=target, name="dicom", daemon=True) for target in work]
        for thread in self._threads:
            thread.start()

    def accept(self, data: bytes, sender: str) -> None:
        """Take responsibility for an image; it is on disk when this returns.

        Raises:
            UserError: it cannot have results. FullError: it cannot be stored.
        """
        with self._decoding:
            arrival = read_arrival(data, max_pixels=self._limits.max_pixels)
        source = arrival.source
        self._hold(arrival)
        study = str(source.header.StudyInstanceUID)
        is_new = self.queue.accept(source.uid, study, source.data_sha256, data)
        if self._audit is not None:
            try:
                self._audit.write(
                    key=sender, route="C-STORE", image_sha256=source.data_sha256, model_sha256=self._model_sha256,
                    num_boxes=0,
                )  # fmt: skip
            except Refusal:
                raise FullError("the audit trail cannot be written") from None
        num_waiting = self.queue.num_waiting()["images"]
        log_image(peer=sender, study=study, image=source.uid, is_new=is_new, num_waiting=num_waiting)

    def close(self) -> None:
        """Take no more images, finish the step at hand, and leave the rest to the next process."""
        self._is_open = False
        self._server.shutdown()
        self.queue.notify()
        for thread in self._threads:
            thread.join()
        self._close_folder()

    def _close_folder(self) -> None:
        self._end_watch()
        self.queue.close()

    def _work(self) -> None:
        while self._is_open:
            version = self.queue.version
            try:
                if not self._step():
                    _, wait_s = self.queue.due_studies(self.settings.quiet_s)
                    self.queue.wait(version, min(_IDLE_S, wait_s or _IDLE_S))
                    self._clean_up()
            except FullError:
                log_event("DICOM queue", level=logging.ERROR, error="the disk is full or failed")
                self.queue.wait(version, 1)
            except Exception as error:
                log_error(error, "DICOM work")
                self._sleep(1)

    def _clean_up(self) -> None:
        """Once an hour, forget old studies."""
        if time.monotonic() - self._cleaned_s > _CLEAN_UP_S:
            self._cleaned_s = time.monotonic()
            self.queue.forget(time.time() - self.settings.keep_days * _DAY_S)

    def _step(self) -> bool:
        """Do the next piece of work; False if there is none. Reports first, since somebody waits for them."""
        due, _ = self.queue.due_studies(self.settings.quiet_s)
        ready = [study for study in due if self._postponed.get(study, 0) < time.monotonic()]
        if ready:
            self._report(ready[0])
        elif (image := self.queue.next_unexamined()) is not None:
            self._examine(image)
        elif (image := self.queue.next_undrawn()) is not None:
            self._draw(image)
        else:
            return False
        return True

    def _examine(self, image: QueuedImage) -> None:
        """An image on which the model fails gets a result too, which says so."""
        try:
            examined = self._examiner.examine(self._arrival(image))
        except Exception as error:
            log_error(error, "DICOM examination")
            examined = self._examiner.failed(self.queue.data_of(image))
        self.queue.save_examination(image, examined)

    def _report(self, study: str) -> None:
        images = self.queue.images_of(study)
        try:
            report = self._examiner.report(images, self.queue.last_report(study))
        except Exception as error:  # the others must not wait for it
            log_error(error, "DICOM report")
            self._postponed[study] = time.monotonic() + _POSTPONED_S
            return
        self.queue.publish(study, images, report, self.settings.send_to)

    def _draw(self, image: QueuedImage) -> None:
        try:
            files = self._examiner.pictures(image, self._arrival(image).image, self.queue.last_report(image.study))
        except Exception as error:  # the report is there
            log_error(error, "DICOM pictures")
            files = []
        self.queue.save_pictures(image, files, self.settings.send_to)
        with self._held_lock:
            self._held.pop(image.sha256, None)

    def _send_to(self, destination: str) -> None:
        sender = open_sender(destination, own_ae=self.settings.ae, timeout_s=self.settings.network_timeout_s)
        lines = SendLog(destination)
        refused: dict[int, float] = {}  # parcel -> when it is offered again; the others do not wait for it
        pause_s = _PAUSE_S
        while self._is_open:
            version, now = self.queue.version, time.monotonic()
            parcel = self.queue.next_parcel(destination, [id for id, until in refused.items() if until > now])
            if parcel is None:
                sender.close_if_idle()
                self.queue.wait(version, _RELEASE_S)
                continue
            try:
                sender.send(parcel.data)
                is_delivered = self.queue.sent(parcel)
                lines.sent()
                if is_delivered and parcel.study:
                    lines.delivered(parcel.study)
                refused.pop(parcel.id, None)
                pause_s = _PAUSE_S
            except RefusedError as error:
                self._log_failure(lines, "result refused", error, parcel)
                refused[parcel.id] = time.monotonic() + self.settings.max_retry_s
            except (NotSentError, FullError) as error:
                self._log_failure(lines, "result not sent", error, parcel)
                sender.close()
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, self.settings.max_retry_s)
            except Exception as error:
                log_error(error, "DICOM sending")
                self._sleep(pause_s)
        sender.close()

    def _log_failure(self, lines: SendLog, what: str, error: Exception, parcel: Parcel) -> None:
        lines.failed(what, str(error), parcel, num_waiting=self.queue.num_unsent(parcel.destination))

    def _hold(self, arrival: Arrival) -> None:
        with self._held_lock:
            self._held[arrival.source.data_sha256] = arrival
            while len(self._held) > _HELD_IMAGES:
                self._held.popitem(last=False)

    def _arrival(self, image: QueuedImage) -> Arrival:
        """As it came, or read again from the queue."""
        with self._held_lock:
            held = self._held.get(image.sha256)
        return held or read_arrival(self.queue.data_of(image), max_pixels=self._limits.max_pixels)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._is_open and time.monotonic() < end:
            time.sleep(0.1)
