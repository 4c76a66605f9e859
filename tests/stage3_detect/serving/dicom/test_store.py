"""The queue: each step is there after the next start, and none happens twice."""

import sqlite3
from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.serving.dicom.store import FILE_NAME, DicomQueue, FullError, Parcel


@pytest.fixture
def queue(tmp_path: Path) -> DicomQueue:
    return DicomQueue(tmp_path / "queue")


def test_an_empty_queue_has_nothing_to_do(queue: DicomQueue, tmp_path: Path):
    assert queue.next_unexamined() is queue.next_undrawn() is queue.next_parcel("a") is None
    assert queue.due_studies(0) == ([], None)
    assert queue.last_report("s") == b""
    assert (tmp_path / "queue" / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_an_image_goes_through_all_steps(queue: DicomQueue, tmp_path: Path):
    assert queue.accept("1", "s", "aa", b"pixels")
    assert not queue.accept("1", "s", "aa", b"pixels")
    assert queue.due_studies(0) == ([], None)  # not examined yet
    image = queue.next_unexamined()
    assert image is not None
    assert (queue.data_of(image), image.examined) == (b"pixels", None)
    queue.save_examination(image, "boxes")
    studies, wait_s = queue.due_studies(60)
    assert (studies, round(wait_s or 0)) == ([], 60)
    assert queue.due_studies(0)[0] == ["s"]
    images = queue.images_of("s")
    assert [one.examined for one in images] == ["boxes"]
    assert queue.publish("s", images, ("9", b"report"), ["a", "b"])
    queue.close()

    queue = DicomQueue(tmp_path / "queue")
    assert queue.due_studies(0) == ([], None)
    assert queue.last_report("s") == b"report"
    image = queue.next_undrawn()
    assert image is not None and queue.data_of(image) == b"pixels"
    queue.save_pictures(image, [("10", b"picture")], ["a"])
    queue.save_pictures(image, [("10", b"picture")], ["a"])
    assert queue.images_of("s")[0].is_drawn and queue.data_of(image) == b""
    assert (queue.num_unsent("a"), queue.num_unsent("b"), queue.num_unsent("c")) == (2, 1, 0)
    sent = []
    while (parcel := queue.next_parcel("a")) is not None:
        sent.append((parcel.study, parcel.uid, parcel.data, queue.sent(parcel)))
    assert sent == [("s", "9", b"report", False), ("s", "10", b"picture", True)]
    assert queue.num_waiting() == {"images": 0, "results": 1}


def test_a_study_is_not_delivered_before_its_pictures_are_drawn(queue: DicomQueue):
    queue.accept("1", "s", "aa", b"")
    queue.publish("s", queue.images_of("s"), ("9", b"report"), ["a"])
    report = queue.next_parcel("a")
    assert report is not None and not queue.sent(report)


def test_a_queue_of_an_earlier_version_is_read(tmp_path: Path):
    database = sqlite3.connect(tmp_path / FILE_NAME)
    columns = "id INTEGER PRIMARY KEY, destination TEXT NOT NULL, uid TEXT NOT NULL, data BLOB NOT NULL"
    database.execute(f"CREATE TABLE outbox ({columns}, UNIQUE (destination, uid))")
    database.execute("INSERT INTO outbox VALUES (1, 'a', '9', ?)", (b"report",))
    database.commit()
    database.close()
    assert DicomQueue(tmp_path).next_parcel("a") == Parcel(1, "a", "", "9", b"report")


def test_an_image_that_comes_while_a_report_is_made_is_in_the_next(queue: DicomQueue):
    queue.accept("1", "s", "aa", b"")
    images = queue.images_of("s")
    queue.accept("2", "s", "bb", b"")
    assert not queue.publish("s", images, ("9", b"report"), ["a"])
    assert queue.next_parcel("a") is None


def test_another_image_of_the_same_uid_replaces_the_first(queue: DicomQueue):
    queue.accept("1", "s", "aa", b"old")
    old = queue.next_unexamined()
    assert old is not None
    assert queue.accept("1", "s", "bb", b"new")
    queue.save_examination(old, "boxes of the old one")
    new = queue.next_unexamined()
    assert new is not None and queue.data_of(new) == b"new"


def test_old_studies_are_forgotten_when_they_are_done(queue: DicomQueue):
    for uid, study in (("1", "done"), ("2", "waiting")):
        queue.accept(uid, study, "aa", b"")
    images = queue.images_of("done")
    queue.publish("done", images, ("9", b"report"), [])
    queue.save_pictures(images[0], [], [])
    queue.forget(before=1)
    assert queue.images_of("done") != []
    queue.forget(before=2e10)
    assert (queue.images_of("done"), queue.last_report("done")) == ([], b"")
    assert len(queue.images_of("waiting")) == 1


def test_pixels_do_not_stay_in_the_file(queue: DicomQueue, tmp_path: Path):
    queue.accept("1", "s", "aa", b"PATIENT" * 10_000)
    image = queue.next_unexamined()
    assert image is not None
    queue.publish("s", [image], ("9", b"report"), [])
    queue.save_pictures(image, [], [])
    queue.close()
    assert not [path for path in (tmp_path / "queue").iterdir() if b"PATIENT" in path.read_bytes()]


def test_a_full_disk_changes_nothing(queue: DicomQueue):
    queue._database.execute(f"PRAGMA max_page_count = {queue._database.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(FullError):
        queue.accept("1", "s", "aa", b"x" * 100_000)
    assert queue.num_waiting() == {"images": 0, "results": 0}


def test_a_file_that_is_no_queue_is_refused(tmp_path: Path):
    (tmp_path / FILE_NAME).write_bytes(b"something else" * 1000)
    with pytest.raises(UserError, match="DICOM queue"):
        DicomQueue(tmp_path)
