"""Send results to a PACS: C-STORE, or STOW-RS over HTTP."""

import time
import urllib.error
import urllib.request
from io import BytesIO
from typing import Any, Protocol

import pydicom
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from stage3_detect.serving.dicom.connection import prepare

_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image
)
_WARNINGS = range(0xB000, 0xC000)
"""The peer has the object, but changed it."""
_IDLE_S = 1.5
_BOUNDARY = "raybox-result"


class NotSentError(Exception):
    """The peer did not take a result; the message says why, without values of a patient."""


class RefusedError(Exception):
    """The peer was reached and refused this result. The message is its status."""


class Sender(Protocol):
    """Sends one result."""

    def send(self, data: bytes) -> None:
        """Send a file; returns when the peer has it. NotSentError or RefusedError if it does not."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...

    def close_if_idle(self) -> None:
        """End the connection if nothing was sent for some time."""
        ...


def open_sender(destination: str, *, own_ae: str, timeout_s: float) -> Sender:
    """The sender for HOST:PORT:AE or the URL of a DICOMweb service."""
    if destination.startswith("http"):
        return StowSender(destination, timeout_s=timeout_s)
    host, port, title = destination.split(":", 2)
    return StoreSender((host, int(port), title), own_ae=own_ae, timeout_s=timeout_s)


class StoreSender:
    """C-STORE. The association stays open between results that follow each other."""

    def __init__(self, peer: tuple[str, int, str], *, own_ae: str, timeout_s: float) -> None:
        self._peer = peer
        self._application = AE(ae_title=own_ae)
        self._application.network_timeout = self._application.dimse_timeout = timeout_s
        self._application.acse_timeout = self._application.connection_timeout = timeout_s
        for sop_class in _CLASSES:
            self._application.add_requested_context(sop_class, ExplicitVRLittleEndian)
        self._association: Association | None = None
        self._last_s = 0.0

    def send(self, data: bytes) -> None:
        """Send a file; NotSentError if the peer cannot be reached, RefusedError if it refuses."""
        if self._association is None or not self._association.is_established:
            host, port, title = self._peer
            handlers: list[Any] = [(evt.EVT_CONN_OPEN, prepare)]
            self._association = self._application.associate(host, port, ae_title=title, evt_handlers=handlers)
            if not self._association.is_established:
                raise NotSentError("association rejected" if self._association.is_rejected else "no association")
        try:
            answer = self._association.send_c_store(pydicom.dcmread(BytesIO(data)))
        except (ValueError, RuntimeError, AttributeError) as error:  # no presentation context; the peer left
            raise NotSentError(type(error).__name__) from None
        status = answer.get("Status") if answer else None
        self._last_s = time.monotonic()
        if status is None:
            raise NotSentError("no answer")
        if status != 0 and status not in _WARNINGS:
            raise RefusedError(f"status {status:#06x}")

    def close(self) -> None:
        """Release the association."""
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def close_if_idle(self) -> None:
        """Release the association `_IDLE_S` after the last result, since peers have few places."""
        if time.monotonic() - self._last_s > _IDLE_S:
            self.close()


class StowSender:
    """STOW-RS (PS3.18, 10.5)."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url, self._timeout_s = url.rstrip("/") + "/studies", timeout_s

    def send(self, data: bytes) -> None:
        """Send a file; NotSentError if the service cannot be reached, RefusedError if it refuses."""
        body = b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--%s--\r\n" % (
            _BOUNDARY.encode(), data, _BOUNDARY.encode(),
        )  # fmt: skip
        kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s):
                return
        except urllib.error.HTTPError as error:
            raise RefusedError(f"status {error.code}") from None
        except OSError as error:
            raise NotSentError(type(error).__name__) from None

    def close(self) -> None:
        """Nothing stays open."""

    def close_if_idle(self) -> None:
        """Nothing stays open."""
