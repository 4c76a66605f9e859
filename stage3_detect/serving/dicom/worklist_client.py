"""A worklist over HTTP: the part of UPS-RS (PS3.18, 11) that a program needs which does the work, and WADO-RS."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from urllib.parse import quote, urlsplit

from pydicom.dataset import Dataset

from cxr.config import UserError

_JSON = "application/dicom+json"
_LONGEST_LIST_BYTES = 2**24


class WorklistError(Exception):
    """The server cannot be reached or does not understand. The message holds no values of a patient."""


class NotOursError(WorklistError):
    """The server refuses: the object is not there, or the workitem is another program's or was cancelled."""


class AnswerError(WorklistError):
    """The answer is too long, or not what was asked for."""


class Worklist:
    """The worklist at the URL of a DICOMweb service."""

    def __init__(self, url: str, *, timeout_s: float, max_file_bytes: int) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UserError(f"worklist {url}: expected the URL of a DICOMweb service, as http://pacs:8042/dicom-web")
        self.url = url.rstrip("/")
        self._timeout_s, self._max_file_bytes = timeout_s, max_file_bytes

    def scheduled(self, label: str | None) -> list[Dataset]:
        """Workitems that nobody has claimed; only those on the worklist `label`, unless it is None."""
        wanted = "" if label is None else f"&WorklistLabel={quote(label)}"
        return self._datasets("GET", f"/workitems?ProcedureStepState=SCHEDULED{wanted}")

    def workitem(self, uid: str) -> Dataset:
        """A workitem as it is now."""
        found = self._datasets("GET", f"/workitems/{uid}")
        if len(found) != 1:
            raise NotOursError("no such workitem")
        return found[0]

    def set_state(self, uid: str, state: str, transaction: str) -> None:
        """Claim (IN PROGRESS), complete (COMPLETED) or give up (CANCELED) a workitem.

        transaction: UID that the claim makes the key of the workitem.
        """
        change = Dataset()
        change.TransactionUID = transaction
        change.ProcedureStepState = state
        self._datasets("PUT", f"/workitems/{uid}/state", change)

    def update(self, uid: str, change: Dataset, transaction: str) -> None:
        """Change values of a workitem that was claimed."""
        self._datasets("POST", f"/workitems/{uid}?{transaction}", change)

    def image(self, study: str, series: str, instance: str) -> bytes:
        """The file of an image, in the transfer syntax that the server has it in.

        Raises:
            NotOursError, AnswerError: the server does not give it; asking again does not help.
        """
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        path = f"/studies/{study}/series/{series}/instances/{instance}"
        kind, body = self._ask("GET", path, accept=accept, max_bytes=self._max_file_bytes)
        files = list(_parts(kind, body))
        if len(files) != 1:
            raise AnswerError(f"WADO-RS: got {len(files)} files, expected one")
        return files[0]

    def _datasets(self, method: str, path: str, sent: Dataset | None = None) -> list[Dataset]:
        body = None if sent is None else json.dumps([sent.to_json_dict()]).encode()
        _, content = self._ask(method, path, body, accept=_JSON, max_bytes=_LONGEST_LIST_BYTES)
        if method != "GET" or not content:
            return []
        try:
            found = json.loads(content)
            return [Dataset.from_json(each) for each in (found if isinstance(found, list) else [found])]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise AnswerError("the answer is no DICOM JSON") from None

    def _ask(
        self, method: str, path: str, body: bytes | None = None, *, accept: str, max_bytes: int
    ) -> tuple[str, bytes]:
        """Content type and body of the answer."""
        headers = {"Accept": accept} | ({} if body is None else {"Content-Type": _JSON})
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                content = answer.read(max_bytes + 1)
                kind = str(answer.headers.get("Content-Type", ""))
        except urllib.error.HTTPError as error:
            refused = error.code in (400, 404, 409, 410)
            raise (NotOursError if refused else WorklistError)(f"status {error.code}") from None
        except OSError as error:
            raise WorklistError(type(error).__name__) from None
        if len(content) > max_bytes:
            raise AnswerError(f"the answer is longer than {max_bytes} bytes")
        return kind, content


def _parts(kind: str, body: bytes) -> Iterator[bytes]:
    """The files of a multipart answer."""
    header = Message()
    header["Content-Type"] = kind
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise AnswerError("WADO-RS: the answer is no multipart/related")
    for part in body.split(b"--" + boundary.encode())[1:-1]:
        _, _, content = part.partition(b"\r\n\r\n")
        yield content.removesuffix(b"\r\n")
