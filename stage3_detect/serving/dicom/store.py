"""The durable queue: accepted images, boxes on them, and results that wait for their destination. One SQLite file.

Every step is one transaction on disk, so that a kill at any moment repeats a step or not, and loses nothing:
    accepted     the image is stored, and only then acknowledged to its sender
    examined     its boxes are stored
    published    the report on its study is stored for all destinations, and the images count as reported
    drawn        presentation state and secondary capture are stored too, and the pixels are deleted
    sent         the result is deleted
A result keeps its content and its UIDs until it is sent, so a peer that gets it twice recognises it.
"""

import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr.config import UserError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    uid TEXT PRIMARY KEY, study TEXT NOT NULL, sha256 TEXT NOT NULL, received REAL NOT NULL, examined TEXT,
    reported INTEGER NOT NULL DEFAULT 0, drawn INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS files (uid TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS images_of_study ON images (study);
CREATE TABLE IF NOT EXISTS reports (study TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, uid TEXT NOT NULL, data BLOB NOT NULL,
    study TEXT NOT NULL DEFAULT '', UNIQUE (destination, uid));
"""
_COLUMNS = {
    "images": "uid, study, sha256, received, examined, reported, drawn",
    "files": "uid, data",
    "reports": "study, data",
    "outbox": "id, destination, uid, data",
}
"""Of each table, so that a file of another program is refused at the start."""

_ADD_STUDY = "ALTER TABLE outbox ADD COLUMN study TEXT NOT NULL DEFAULT ''"
"""For a queue of an earlier version."""
FILE_NAME = "queue.sqlite"


@dataclass(frozen=True)
class QueuedImage:
    """An accepted image. examined: JSON of `examination`, or None."""

    uid: str
    study: str
    sha256: str
    examined: str | None
    is_reported: bool
    is_drawn: bool


@dataclass(frozen=True)
class Parcel:
    """A result for a destination. study: UID; "" for a result of an earlier version."""

    id: int
    destination: str
    study: str
    uid: str
    data: bytes


class FullError(Exception):
    """The disk is full, or failed; nothing was stored."""


class DicomQueue:
    """The file while one process uses it. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            UserError: the folder cannot be written, or another process uses it.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                folder / FILE_NAME, timeout=1, check_same_thread=False, isolation_level=None
            )
            (folder / FILE_NAME).chmod(0o600)
            self._database.execute("PRAGMA page_size=65536")  # of a new file; images are stored in half the time
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute("PRAGMA secure_delete=ON")  # pixels and names of patients do not stay behind
            self._database.executescript(_SCHEMA)
            for table, columns in _COLUMNS.items():
                self._database.execute(f"SELECT {columns} FROM {table} LIMIT 0")
            if "study" not in [row[1] for row in self._database.execute("PRAGMA table_info(outbox)")]:
                self._database.execute(_ADD_STUDY)
        except (OSError, sqlite3.Error) as error:
            raise UserError(
                f"DICOM queue {folder}: {error}; give a folder that can be written and that no other service uses"
            ) from None
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        self.version = 0
        """Grows with every change."""

    def accept(self, uid: str, study: str, sha256: str, data: bytes) -> bool:
        """Store an image; False if it is there already, with the same content.

        Another image of the same UID replaces it, and its study gets a new report.

        Raises:
            FullError: nothing was stored.
        """
        with self._transaction() as database:
            known = database.execute("SELECT sha256 FROM images WHERE uid = ?", (uid,)).fetchone()
            if known == (sha256,):
                return False
            database.execute(
                "INSERT OR REPLACE INTO images (uid, study, sha256, received) VALUES (?, ?, ?, ?)",
                (uid, study, sha256, time.time()),
            )
            database.execute("INSERT OR REPLACE INTO files (uid, data) VALUES (?, ?)", (uid, data))
        return True

    def data_of(self, image: QueuedImage) -> bytes:
        """The file of an image; b"" once its results are drawn."""
        with self._lock:
            row = self._database.execute("SELECT data FROM files WHERE uid = ?", (image.uid,)).fetchone()
        return bytes(row[0]) if row else b""

    def next_unexamined(self) -> QueuedImage | None:
        """The oldest image without boxes."""
        rows = self._images("examined IS NULL ORDER BY received LIMIT 1")
        return rows[0] if rows else None

    def save_examination(self, image: QueuedImage, examined: str) -> None:
        """Store the boxes of an image, unless another image of this UID came meanwhile. FullError as `accept`."""
        with self._transaction() as database:
            database.execute(
                "UPDATE images SET examined = ? WHERE uid = ? AND sha256 = ?", (examined, image.uid, image.sha256)
            )

    def due_studies(self, quiet_s: float) -> tuple[list[str], float | None]:
        """Studies that are complete and not reported, and the seconds until the next may be; None if none waits."""
        with self._lock:
            rows = self._database.execute(
                "SELECT study, max(received), min(examined IS NOT NULL) FROM images WHERE study IN "
                "(SELECT study FROM images WHERE NOT reported) GROUP BY study ORDER BY 2"
            ).fetchall()
        waits = [(study, received + quiet_s - time.time()) for study, received, is_examined in rows if is_examined]
        later = [wait for _, wait in waits if wait > 0]
        return [study for study, wait in waits if wait <= 0], min(later, default=None)

    def images_of(self, study: str) -> list[QueuedImage]:
        """All images of a study, in the order in which they came."""
        return self._images("study = ? ORDER BY received, uid", study)

    def last_report(self, study: str) -> bytes:
        """The newest report on a study; b"" if there is none."""
        with self._lock:
            row = self._database.execute("SELECT data FROM reports WHERE study = ?", (study,)).fetchone()
        return bytes(row[0]) if row else b""

    def publish(
        self, study: str, images: Sequence[QueuedImage], report: tuple[str, bytes], destinations: Iterable[str]
    ) -> bool:
        """Store the report on a study for all destinations; False, and nothing is stored, if an image came meanwhile.

        report: SOP instance UID and file. FullError as `accept`.
        """
        with self._transaction() as database:
            now = database.execute("SELECT uid, sha256 FROM images WHERE study = ?", (study,)).fetchall()
            if {tuple(row) for row in now} != {(image.uid, image.sha256) for image in images}:
                return False
            self._add_parcels(database, destinations, study, [report])
            database.execute("INSERT OR REPLACE INTO reports (study, data) VALUES (?, ?)", (study, report[1]))
            database.execute("UPDATE images SET reported = 1 WHERE study = ?", (study,))
        return True

    def next_undrawn(self) -> QueuedImage | None:
        """The oldest image that is reported and has no pictures."""
        rows = self._images("reported AND NOT drawn ORDER BY received LIMIT 1")
        return rows[0] if rows else None

    def save_pictures(
        self, image: QueuedImage, files: Sequence[tuple[str, bytes]], destinations: Iterable[str]
    ) -> None:
        """Store the pictures of an image for all destinations, and delete its pixels. FullError as `accept`."""
        with self._transaction() as database:
            found = database.execute(
                "UPDATE images SET drawn = 1 WHERE uid = ? AND sha256 = ?", (image.uid, image.sha256)
            )
            if found.rowcount:
                database.execute("DELETE FROM files WHERE uid = ?", (image.uid,))
                self._add_parcels(database, destinations, image.study, files)

    def next_parcel(self, destination: str, skipped: Collection[int] = ()) -> Parcel | None:
        """The oldest unsent result for a destination, except those with a skipped id."""
        with self._lock:
            rows = self._database.execute("SELECT id FROM outbox WHERE destination = ? ORDER BY id", (destination,))
            found = next((id for (id,) in rows if id not in skipped), None)
            if found is None:
                return None
            row = self._database.execute("SELECT study, uid, data FROM outbox WHERE id = ?", (found,)).fetchone()
        return Parcel(found, destination, row[0], row[1], bytes(row[2]))

    def sent(self, parcel: Parcel) -> bool:
        """Delete a result that its destination has; True if that has all results on the study now. FullError."""
        waiting = (
            "SELECT EXISTS (SELECT 1 FROM outbox WHERE destination = ? AND study = ?) "
            "OR EXISTS (SELECT 1 FROM images WHERE study = ? AND NOT (reported AND drawn))"
        )
        with self._transaction() as database:
            database.execute("DELETE FROM outbox WHERE id = ?", (parcel.id,))
            row = database.execute(waiting, (parcel.destination, parcel.study, parcel.study)).fetchone()
        return not row[0]

    def num_unsent(self, destination: str) -> int:
        """Results that wait for a destination."""
        with self._lock:
            row = self._database.execute("SELECT count(*) FROM outbox WHERE destination = ?", (destination,)).fetchone()
        return int(row[0])

    def num_waiting(self) -> dict[str, int]:
        """Images without a report, and unsent results."""
        with self._lock:
            images = self._database.execute("SELECT count(*) FROM images WHERE NOT (reported AND drawn)").fetchone()
            parcels = self._database.execute("SELECT count(*) FROM outbox").fetchone()
        return {"images": images[0], "results": parcels[0]}

    def forget(self, before: float) -> None:
        """Delete what is known of studies whose last image came before a time (seconds since 1970) and that are done.

        A later image of such a study gets a report of its own. FullError as `accept`.
        """
        done = "SELECT study FROM images GROUP BY study HAVING max(received) < ? AND min(reported AND drawn)"
        with self._transaction() as database:
            database.execute(f"DELETE FROM reports WHERE study IN ({done})", (before,))
            database.execute(f"DELETE FROM images WHERE study IN ({done})", (before,))

    def notify(self) -> None:
        """Wake all that wait."""
        with self._changed:
            self.version += 1
            self._changed.notify_all()

    def wait(self, version: int, seconds: float) -> None:
        """Until the version is another one, or for a time."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != version, seconds)

    def close(self) -> None:
        """Let another process use the folder."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise FullError(str(error)) from None
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
        self.notify()

    def _images(self, where: str, *values: str) -> list[QueuedImage]:
        query = f"SELECT uid, study, sha256, examined, reported, drawn FROM images WHERE {where}"
        with self._lock:
            rows = self._database.execute(query, values).fetchall()
        return [
            QueuedImage(uid, study, sha256, examined, bool(reported), bool(drawn))
            for uid, study, sha256, examined, reported, drawn in rows
        ]

    @staticmethod
    def _add_parcels(
        database: sqlite3.Connection, destinations: Iterable[str], study: str, files: Sequence[tuple[str, bytes]]
    ) -> None:
        """A result that waits already stays as it is."""
        rows = [(destination, study, uid, data) for uid, data in files for destination in destinations]
        database.executemany("INSERT OR IGNORE INTO outbox (destination, study, uid, data) VALUES (?, ?, ?, ?)", rows)
