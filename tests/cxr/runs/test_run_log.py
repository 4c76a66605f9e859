import logging
from pathlib import Path

import pytest

from cxr.runs.run_log import RunLog, log_to

log = logging.getLogger("raybox")


def test_an_empty_log_and_a_line(tmp_path: Path) -> None:
    log_to(tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text() == ""
    log.info("line %d", 1)
    assert (tmp_path / "log.txt").read_text().endswith(" line 1\n")


def test_the_log_changes_its_file(tmp_path: Path) -> None:
    log_to(tmp_path / "first.txt")
    log_to(tmp_path / "second.txt")
    log.info("line")
    assert (tmp_path / "first.txt").read_text() == ""
    assert len((tmp_path / "second.txt").read_text().splitlines()) == 1


def test_a_full_disk_is_one_warning_for_all_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log_to(Path("/dev/full"))
    for number in range(3):
        log.info("line %d", number)
    found = capsys.readouterr().err.splitlines()
    assert len([line for line in found if "No space left on device" in line]) == 1
    assert not [line for line in found if "Traceback" in line]


def test_a_wrong_call_of_the_log_is_still_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_to(tmp_path / "log.txt")
    (handler,) = (one for one in log.handlers if isinstance(one, RunLog))
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    assert "TypeError" in capsys.readouterr().err
