"""Audit trail: who saw the findings of which image. Names nothing of the image but its hash."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from cxr.config import UserError
from stage3_detect.serving.http.errors import Refusal


class Audit:
    """Appends one JSON line for each image to a file, on disk before the answer is sent."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: the file cannot be written.
        """
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UserError(f"--audit {path}: {error.strerror}; give a file that can be written") from None
        self._lock = threading.Lock()

    def write(self, *, key: str, route: str, image_sha256: str, model_sha256: str, num_boxes: int) -> None:
        """Record one image. key: name of the API key, "" without keys.

        Raises:
            Refusal: 507 if the line cannot be stored; the image must not be answered then.
        """
        line = json.dumps(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "key": key,
                "route": route,
                "image_sha256": image_sha256,
                "model_sha256": model_sha256,
                "num_boxes": num_boxes,
            }
        )
        try:
            with self._lock, os.fdopen(self._file, "ab", closefd=False) as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(self._file)
        except OSError:
            raise Refusal(507, "audit", "The audit trail cannot be written, so no result is given.") from None
