"""The folder of corrections: the readings, the files that are made from them, and the images.

corrections.jsonl   one line per reading, appended; nothing is ever removed
corrections.json    COCO: the last reading of each reader and image, for stage 3 (labels.corrections)
labels.csv          labels of the images, for stage 1 (data set csv_table)
images/             the corrected images, if they are kept
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from pydantic import ValidationError

from cxr.config import UserError
from cxr.runs.run_folder import atomic_write_text
from stage3_detect.serving.corrections.files import (
    ByImage,
    Place,
    accepted_shares,
    all_findings,
    coco_document,
    label_table,
    last_readings,
)
from stage3_detect.serving.corrections.images import ImageKeeper, ImageSizes
from stage3_detect.serving.corrections.log import DiskFullError, RecordLog, read_records
from stage3_detect.serving.corrections.record import Reading, SavedReading, check_box_sides, check_findings_known
from stage3_detect.serving.interface import DecodedImage

log = logging.getLogger("raybox")

READINGS, BOXES, LABELS, IMAGES = "corrections.jsonl", "corrections.json", "labels.csv", "images"

MAX_HELD_BYTES = 256 << 20
"""Memory for the images that are being read."""


_PAUSE_FACTOR = 9
"""The pause after a writing, as a multiple of its time: with ten thousand images one takes seconds."""


@dataclass(frozen=True)
class Saved:
    """image_kept: whether the image is stored too; None where images are not kept."""

    id: str
    image_kept: bool | None


class CorrectionStore:
    """The folder while one service writes it. Its methods may be called from several threads.

    corrections.json and labels.csv are written by a thread of its own after each reading, so that saving takes the same
    time for the first and the thousandth reading. They are made from corrections.jsonl alone, again at each start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        findings: Sequence[str],
        parents: Mapping[str, Sequence[str]],
        keep_images: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        Args:
            findings, parents: of the served model; see `ModelFacts`. now: the clock.

        Raises:
            UserError: another service writes into the folder, or a line of corrections.jsonl is damaged.
            OSError: the folder cannot be written.
        """
        self.folder = folder
        self._findings, self._now = tuple(findings), now
        implied = {finding: tuple(parents.get(finding, ())) for finding in findings}
        self._model: dict[str, Any] = {"findings": self._findings, "parents": implied}
        self._log = RecordLog(folder / READINGS)
        for path in folder.glob(".*.partial"):  # of a process that was killed
            path.unlink()
        try:
            self._readings = parse_readings(self._log.records, folder / READINGS)
        except UserError:
            self._log.close()
            raise
        self._images = ImageKeeper(folder / IMAGES, max_bytes=MAX_HELD_BYTES)
        self._sizes = ImageSizes()
        self._sizes_wh = {reading.image_sha256: reading.size_wh for reading in self._readings}
        self._keeps_images = keep_images
        self._lock, self._files_lock, self._changed, self._ended = Lock(), Lock(), Event(), Event()
        self._changed.set()
        self._writer = Thread(target=self._write_after_changes, name="corrections", daemon=True)
        self._writer.start()

    @property
    def num_readings(self) -> int:
        """All readings, also those that a later one of the same reader replaces."""
        return len(self._readings)

    def keep(self, image: DecodedImage) -> None:
        """Remember the size of an image that is shown to a reader; with `keep_images` also hold its file, so that it
        can be stored with its correction."""
        self._sizes.remember(image)
        if self._keeps_images:
            self._images.hold(image.data, image.sha256)

    def save(self, reading: Reading) -> Saved:
        """Save a reading; when this returns it is on disk.

        Raises:
            UserError: a finding is unknown, a box has no area, or the image has another size.
            DiskFullError: the disk is full; nothing was saved.
            OSError: the disk failed.
        """
        check_findings_known(reading, self._findings)
        check_box_sides(reading)
        with self._lock:
            earlier_wh = self._sizes_wh.get(reading.image_sha256)
            self._sizes.check(reading, earlier_wh=earlier_wh)
            with self._image_of(reading.image_sha256) as kept:
                facts = {"id": f"{len(self._readings) + 1:06d}", "time": self._now().isoformat(timespec="seconds")}
                saved = SavedReading(**dict(reading), **facts, **self._model)
                self._log.append(saved.model_dump(mode="json"))
            self._readings.append(saved)
            self._sizes_wh[saved.image_sha256] = saved.size_wh
        if earlier_wh not in (None, saved.size_wh):
            log.warning("corrections: earlier readings of an image do not count: they give it another size")
        self._changed.set()
        return Saved(saved.id, kept)

    @contextlib.contextmanager
    def _image_of(self, sha256: str) -> Iterator[bool | None]:
        """Store an image, unless its reading cannot be saved. Yields as `Saved.image_kept`."""
        if not self._keeps_images:
            yield None
            return
        is_new = self._images.stored(sha256) is None
        kept = self._images.store(sha256)
        try:
            yield kept
        except (DiskFullError, OSError):
            if is_new:
                self._images.remove(sha256)
            raise

    def accepted_shares(self) -> dict[str, float | None]:
        """Finding -> share of the model's boxes that were accepted, over the last readings; see `correction_files`."""
        last = [reading for readings in self._last().values() for reading in readings]
        return accepted_shares(last, self._findings)

    def write_files(self) -> None:
        """Write corrections.json and labels.csv. Raises OSError, and then leaves the old files as they were."""
        with self._files_lock:
            images = self._last()
            findings = all_findings(images, self._findings)
            places = {image: self._place(image, readings[-1].name) for image, readings in images.items()}
            document = coco_document(images, findings, places, data_root=str(self.folder.resolve()))
            atomic_write_text(self.folder / BOXES, json.dumps(document, indent=1, allow_nan=False) + "\n", mode=0o600)
            atomic_write_text(self.folder / LABELS, label_table(images, findings, places), mode=0o600)

    def close(self) -> None:
        """Write the files and let other services use the folder."""
        self._ended.set()
        self._changed.set()
        self._writer.join()
        self._log.close()

    def _last(self) -> ByImage:
        with self._lock:
            readings = list(self._readings)
        return last_readings(readings)

    def _place(self, image: str, name: str) -> Place:
        stored = self._images.stored(image)
        return Place(name if stored is None else f"{IMAGES}/{stored.name}")

    def _write_after_changes(self) -> None:
        """Readings that are saved during one writing share the next. A pause leaves the processor to the images."""
        is_open = True
        while is_open:
            self._changed.wait()
            self._changed.clear()
            is_open = not self._ended.is_set()  # read before the writing, so that the last reading is never left out
            begin = time.monotonic()
            try:
                self.write_files()
            except OSError as error:
                log.warning(
                    "corrections: %s and %s cannot be written (%s); all readings are safe in %s",
                    BOXES,
                    LABELS,
                    error.strerror,
                    READINGS,
                )
            self._ended.wait(_PAUSE_FACTOR * (time.monotonic() - begin))


def open_readings(folder: Path) -> list[SavedReading]:
    """The readings of a folder, also while a service writes it.

    Raises:
        UserError: the folder has no corrections, or a line is damaged.
    """
    return parse_readings(read_records(folder / READINGS), folder / READINGS)


def parse_readings(records: Sequence[object], path: Path) -> list[SavedReading]:
    """Readings from records. UserError if one does not have the fields of `SavedReading`."""
    readings = []
    for number, record in enumerate(records, start=1):
        try:
            readings.append(SavedReading.model_validate(record))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(
                f"corrections: line {number} of {path} is no reading: {reason}; was it written by another version?"
            ) from None
    return readings
