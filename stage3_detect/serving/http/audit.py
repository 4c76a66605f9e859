"""Audit trail: who saw the findings of which image. Names nothing of the image but its hash."""

import json
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

from cxr.config import UserError
from stage3_detect.serving.http.errors import Refusal


class Audit:
    """Appends one JSON line for each image to a file, on disk before the answer is sent, or to a pipe."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: the file cannot be written.
        """
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            facts = os.fstat(self._file)
            self._is_stored = stat.S_ISREG(facts.st_mode)  # a pipe or a terminal cannot be synchronised
            size = facts.st_size  # 0 for a pipe
            self._is_cut = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"  # by a kill
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
        with self._lock:
            try:
                self._append(line.encode() + b"\n")
            except OSError:
                raise Refusal(507, "audit", "The audit trail cannot be written, so no result is given.") from None

    def _append(self, line: bytes) -> None:
        """After a line that a full disk has cut, the next one begins on a line of its own."""
        if self._is_stored and os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError("the file was removed, so nobody would find the line")
        data = b"\n" + line if self._is_cut else line
        self._is_cut = True
        while data:  # a nearly full disk takes a part
            data = data[os.write(self._file, data) :]
        self._is_cut = False
        if self._is_stored:
            os.fsync(self._file)
