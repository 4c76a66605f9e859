"""A small DICOMweb server with a worklist: UPS-RS as far as a worker needs it, WADO-RS of single objects, STOW-RS.

It keeps to the rules of the standard that matter: a workitem has one owner, whose key each change must name; it is
completed only with what was performed; a final state stays.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pydicom
from pydicom.dataset import Dataset

BOUNDARY = b"made-up"


def workitem(uid: str, *places: tuple[str, str, str], label: str = "CHEST") -> Dataset:
    """places: study, series and instance UID of each input."""
    item, code = Dataset(), Dataset()
    item.SOPInstanceUID, item.ProcedureStepState, item.WorklistLabel = uid, "SCHEDULED", label
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "121726", "DCM", "Getting images"
    item.ScheduledWorkitemCodeSequence = [code]
    groups = []
    for study, series, instance in places:
        group, one = Dataset(), Dataset()
        one.ReferencedSOPInstanceUID = instance
        group.StudyInstanceUID, group.SeriesInstanceUID, group.ReferencedSOPSequence = study, series, [one]
        groups.append(group)
    item.InputInformationSequence = groups
    return item


class UpsServer:
    """images: content by instance UID. stored: what came by STOW-RS. asked: method and path of each request."""

    def __init__(self) -> None:
        self.items: dict[str, Dataset] = {}
        self.keys: dict[str, str] = {}
        self.images: dict[str, bytes] = {}
        self.stored: list[Dataset] = []
        self.asked: list[str] = []
        self.percents: list[float] = []
        self.before: Callable[[str], None] = lambda request: None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/dicom-web"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, item: Dataset) -> None:
        self.items[str(item.SOPInstanceUID)] = item

    def state(self, uid: str) -> str:
        return str(self.items[uid].ProcedureStepState)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Status, content type, body."""
        with self._lock:
            path, query = urlsplit(target).path.removeprefix("/dicom-web"), urlsplit(target).query
            self.asked.append(f"{method} {path}")
            self.before(self.asked[-1])
            first, *names = path.strip("/").split("/")
            if first == "studies":
                return self._image(names[-1]) if names else self._store(headers["Content-Type"], body)
            if not names:
                return self._search(parse_qs(query))
            return self._workitem(method, names, unquote(query), body)

    def _workitem(self, method: str, names: list[str], query: str, body: bytes) -> tuple[int, str, bytes]:
        uid = names[0]
        if uid not in self.items:
            return 404, "", b""
        if method == "GET":
            return _json([self.items[uid]])
        (change,) = [Dataset.from_json(each) for each in json.loads(body)]
        return self._change_state(uid, change) if names[1:] == ["state"] else self._update(uid, query, change)

    def _search(self, wanted: Mapping[str, list[str]]) -> tuple[int, str, bytes]:
        label = wanted.get("WorklistLabel", [None])[0]
        found = [item for item in self.items.values() if item.ProcedureStepState == wanted["ProcedureStepState"][0]]
        found = [item for item in found if label in (None, str(item.WorklistLabel))]
        return _json(found) if found else (204, "", b"")

    def _change_state(self, uid: str, change: Dataset) -> tuple[int, str, bytes]:
        item, state = self.items[uid], str(change.ProcedureStepState)
        if state == "IN PROGRESS" and item.ProcedureStepState == "SCHEDULED":
            self.keys[uid] = str(change.TransactionUID)
        elif item.ProcedureStepState != "IN PROGRESS" or self.keys[uid] != change.TransactionUID:
            return 409, "", b""
        elif state == "COMPLETED":
            (step,) = item.UnifiedProcedureStepPerformedProcedureSequence
            assert step.PerformedProcedureStepStartDateTime
            assert step.PerformedProcedureStepEndDateTime
            assert step.PerformedStationNameCodeSequence
        item.ProcedureStepState = state
        return 200, "", b""

    def _update(self, uid: str, key: str, change: Dataset) -> tuple[int, str, bytes]:
        item = self.items[uid]
        if item.ProcedureStepState != "IN PROGRESS" or self.keys[uid] != key:
            return 409, "", b""
        item.update(change)
        (step,) = item.ProcedureStepProgressInformationSequence
        if "ProcedureStepProgress" in step:
            self.percents.append(float(step.ProcedureStepProgress))
        return 200, "", b""

    def _image(self, instance: str) -> tuple[int, str, bytes]:
        if instance not in self.images:
            return 404, "", b""
        head = b"--%s\r\nContent-Type: application/dicom\r\n\r\n" % BOUNDARY
        kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'
        return 200, kind, head + self.images[instance] + b"\r\n--%s--\r\n" % BOUNDARY

    def _store(self, kind: str, body: bytes) -> tuple[int, str, bytes]:
        boundary = kind.partition("boundary=")[2].encode()
        (part,) = body.split(b"--" + boundary)[1:-1]
        content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        self.stored.append(pydicom.dcmread(BytesIO(content)))
        return 200, "", b""


def _json(items: list[Dataset]) -> tuple[int, str, bytes]:
    return 200, "application/dicom+json", json.dumps([item.to_json_dict() for item in items]).encode()


def _handler_of(server: UpsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, kind, content = server.answer(self.command, self.path, dict(self.headers), body)
            self.send_response(status)
            if kind:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = _do  # noqa: N815, names of the library

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def ups_server() -> Iterator[UpsServer]:
    opened = UpsServer()
    try:
        yield opened
    finally:
        opened.close()
