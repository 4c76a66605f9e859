"""The log file of a run."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("raybox")


def log_to(path: Path) -> None:
    """Write the log to `path` from now on, and to no other run folder."""
    log.setLevel(logging.INFO)
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = RunLog(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)


class RunLog(logging.FileHandler):
    """A line that the disk does not take costs one warning, not a traceback for each line. A run that cannot write its
    results either ends with an error that names them."""

    _has_warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name that logging calls
        """Called where a line cannot be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_warned:
            self._has_warned = True
            sys.stderr.write(f"warning: {self.baseFilename} lacks lines from here on: {error.strerror}\n")

    def close(self) -> None:
        """Close the file, without the lines that the disk has not taken."""
        with suppress(OSError):
            super().close()
