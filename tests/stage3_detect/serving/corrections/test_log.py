"""The file of readings: exact lines, what is repaired at the start, and what is never lost."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.serving.corrections.log import DiskFullError, RecordLog, read_records
from tests.disks import files_of_at_most
from tests.paths import ROOT

LINE = (
    '{"record": {"a": [1, 0.1], "b": "\\u00e4"}, '
    '"sha256": "f0fa9a849ad36807eb61d5b0296865500728a9cc05635693e07c4f0e40017963"}\n'
)
RECORD = {"b": "ä", "a": [1, 0.1]}


def stored(path: Path) -> list[object]:
    log = RecordLog(path)
    log.close()
    return list(log.records)


def test_an_empty_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    assert stored(path) == []
    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UserError, match="no file"):
        read_records(tmp_path / "log.jsonl")


@pytest.mark.parametrize("way", ["removed", "replaced", "cut"])
def test_a_file_that_another_program_has_changed_takes_no_record(tmp_path: Path, way: str) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path)
    log.append(RECORD)
    if way == "cut":
        path.write_bytes(b"")
    else:
        path.rename(tmp_path / "other")
    if way == "replaced":
        path.write_text(LINE, encoding="utf-8")
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(OSError, match=r"log\.jsonl"):
        log.append(RECORD)
    assert (path.read_bytes() if path.exists() else None) == before
    assert log.records == [RECORD]
    log.close()
    assert stored(path) == ([RECORD] if way == "replaced" else [])


def test_a_record_is_one_line_with_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path)
    log.append(RECORD)
    assert path.read_text(encoding="utf-8") == LINE
    assert read_records(path) == [RECORD]  # while it is open
    log.close()
    assert stored(path) == [RECORD]


@pytest.mark.parametrize("tail", ['{"rec', LINE[:-1], "\0" * 40, " "])
def test_a_last_line_that_is_not_complete_is_removed(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(LINE + tail, encoding="utf-8")
    assert read_records(path) == [RECORD]
    log = RecordLog(path)
    log.append({"c": 2})
    log.close()
    assert stored(path) == [RECORD, {"c": 2}]
    assert path.read_text(encoding="utf-8").startswith(LINE)


@pytest.mark.parametrize("damaged", [LINE.replace("0.1", "0.2"), "\n", "[]\n", LINE.replace("record", "recorg")])
def test_a_damaged_line_is_an_error_and_stays_as_it_is(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(LINE + damaged + LINE, encoding="utf-8")
    for _ in range(2):  # the first call has let the folder go
        with pytest.raises(UserError, match="line 2"):
            RecordLog(path)
    assert path.read_text(encoding="utf-8") == LINE + damaged + LINE


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    first = RecordLog(tmp_path / "log.jsonl")
    with pytest.raises(UserError, match="another service"):
        RecordLog(tmp_path / "log.jsonl")
    first.append(RECORD)
    first.close()
    assert stored(tmp_path / "log.jsonl") == [RECORD]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path)
    log.append(RECORD)
    with files_of_at_most(len(LINE) + 20):  # there is room for a part of the line
        with pytest.raises(DiskFullError):
            log.append(RECORD)
        assert path.read_text(encoding="utf-8") == LINE
    log.append(RECORD)
    log.close()
    assert path.read_text(encoding="utf-8") == LINE + LINE


WRITER = """
import sys
from pathlib import Path
from stage3_detect.serving.corrections.log import RecordLog
log = RecordLog(Path(sys.argv[1]))
for number in range(len(log.records), 1_000_000):
    log.append({"number": number, "filler": "x" * (number % 7000)})
    print(number, flush=True)
"""


def test_a_kill_loses_no_acknowledged_record(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "log.jsonl", -1
    for kill in range(4):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            for _ in range(50):
                acknowledged = int(process.stdout.readline())
            time.sleep(0.0007 * kill)  # somewhere in the middle of the next ones
            process.kill()
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
    records = stored(path)
    assert [record["number"] for record in records] == list(range(len(records)))  # type: ignore[index]
    assert len(records) in (acknowledged + 1, acknowledged + 2)  # one may be on disk and not acknowledged
    assert len(records) >= 200
