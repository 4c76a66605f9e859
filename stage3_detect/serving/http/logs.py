"""Log lines of the service: JSON, one a line, without anything that a client sent but AE titles and UIDs of DICOM.

A message of a library may quote a file name or a DICOM header. So only the type of an error and its place in the code
are logged, and warnings of libraries are dropped.
"""

import json
import logging
import sys
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path

import cv2

_LOG = logging.getLogger("raybox.serving")
_PACKAGE_DEPTH = 3


class _PlaceOnly(logging.Formatter):
    """A record of a library: its logger, its level and where it was written, without its text."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        place = place_of(error) if error else f"{_short(record.pathname)}:{record.lineno}"
        name = type(error).__name__ if error else ""
        return _line(level=record.levelname.lower(), logger=record.name, error=name, at=place)


def set_up_logs() -> None:
    """Write the service's own lines to standard error, and hide the text of all others."""
    warnings.simplefilter("ignore")
    foreign = logging.StreamHandler(sys.stderr)
    foreign.setLevel(logging.ERROR)
    foreign.setFormatter(_PlaceOnly())
    logging.getLogger().handlers = [foreign]
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it writes to standard error itself
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(logging.Formatter("%(message)s"))
    _LOG.handlers = [own]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False


def log_request(*, method: str, route: str, status: int, seconds: float, num_images: int) -> None:
    """One line for a request. route: the template, never the path."""
    _LOG.info(_line(method=method, route=route, status=status, ms=round(1000 * seconds, 1), images=num_images))


def log_event(what: str, *, level: int = logging.INFO, **facts: object) -> None:
    """One line for an event. what: fixed words of the caller. facts: numbers, own words, AE titles and UIDs."""
    _LOG.log(level, _line(level=logging.getLevelName(level).lower(), what=what, **facts))


def log_error(error: BaseException, what: str) -> None:
    """One line for an unexpected error. what: fixed words of the caller."""
    _LOG.error(_line(level="error", what=what, error=type(error).__name__, at=place_of(error)))


def place_of(error: BaseException) -> str:
    """The innermost place of an error in our own code, and where it was raised: `app.py:12 < files.py:7`."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(frames[-_PACKAGE_DEPTH:]))


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def _line(**values: object) -> str:
    return json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **values})
