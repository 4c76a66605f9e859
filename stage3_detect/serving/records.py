"""Records of the images that the service has seen, for `eval/run.py drift`: quality, statistics and scores."""

import json
import logging
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cxr.config import UserError
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import FoundBox
from stage3_detect.serving.interface import ModelFacts
from stage3_detect.serving.settings import ServiceSettings

log = logging.getLogger("raybox.serving")


class RecordFile:
    """Appends a JSON line for each image. A line holds no pixels, no name, and nothing else of the patient.

    The file is opened for each line, so it may be moved away at any time. A line that cannot be written is logged and
    lost; the image is answered.
    """

    def __init__(self, path: Path, findings: Sequence[str]) -> None:
        """
        Raises:
            UserError: the file cannot be written.
        """
        self._path, self._findings, self._lock = path, tuple(findings), threading.Lock()
        try:
            path.open("ab").close()
        except OSError as error:
            raise UserError(f"--records {path}: {error.strerror}; give a file that can be written") from None

    def add(self, quality: Quality, boxes: Iterable[FoundBox]) -> None:
        """Append the record of an image. boxes: all candidates."""
        time = {"time": datetime.now(UTC).isoformat(timespec="seconds")}
        line = json.dumps(time | record_of(quality, boxes, self._findings))
        with self._lock:
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            except OSError as error:
                log.warning('{"level": "warning", "what": "record not written", "error": "%s"}', error.strerror)


def open_records(settings: ServiceSettings, facts: ModelFacts) -> RecordFile | None:
    """The file of the settings; None where records are switched off. UserError as `RecordFile`."""
    return RecordFile(settings.records, facts.findings) if settings.records else None


def record_of(quality: Quality, boxes: Iterable[FoundBox], findings: Sequence[str]) -> dict[str, object]:
    """A record, for JSON. The score of a finding is that of its best box, 0 without one."""
    scores = dict.fromkeys(findings, 0.0)
    for box in boxes:
        scores[box.finding] = max(scores[box.finding], round(box.score, 6))
    return {"quality": quality.record(), "scores": scores}
