"""The DICOM listener: C-ECHO, and C-STORE of radiographs. Success is answered when the image is on disk."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.transport import ThreadedAssociationServer

from cxr.config import UserError
from stage3_detect.dicom_results.source import RADIOGRAPH_CLASSES
from stage3_detect.serving.dicom.connection import PDU_BYTES, prepare
from stage3_detect.serving.dicom.events import log_refused_classes, log_refused_image, log_rejection
from stage3_detect.serving.dicom.settings import DicomSettings
from stage3_detect.serving.dicom.store import FullError
from stage3_detect.serving.http.logs import log_error

TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless,
    JPEG2000Lossless, JPEG2000, RLELossless,
)  # fmt: skip

_MAX_CONNECTIONS = 4
"""Connections to each association that is allowed. Those beyond the associations get a rejection; beyond this, the
connection is closed at once, since each takes a thread."""
_GREETING_S = 5.0
"""A peer that connects must ask for an association within this time, so that it does not keep others out."""
_VERIFICATION = "1.2.840.10008.1.1"
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND, FAILURE = 0x0000, 0xA700, 0xC000, 0x0110

Accept = Callable[[bytes, str], None]
"""Stores an image, given its file and the AE title of its sender. UserError: it cannot have results. FullError."""


def listen(settings: DicomSettings, accept: Accept, *, max_bytes: int) -> ThreadedAssociationServer:
    """Open the port and answer in threads.

    Args:
        max_bytes: of one image; an association that sends a longer one is aborted.

    Raises:
        UserError: the port cannot be opened.
    """
    application = AE(ae_title=settings.ae)
    application.require_called_aet = True
    application.require_calling_aet = list(settings.peers)
    application.maximum_associations = settings.max_associations
    application.network_timeout = application.dimse_timeout = settings.network_timeout_s
    application.acse_timeout = min(_GREETING_S, settings.network_timeout_s)
    application.maximum_pdu_size = PDU_BYTES
    application.add_supported_context(_VERIFICATION)
    for sop_class in RADIOGRAPH_CLASSES:
        application.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    answers = _Answers(accept, max_bytes)
    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, prepare),
        (evt.EVT_C_STORE, answers.stored),
        (evt.EVT_PDU_RECV, answers.counted),
        (evt.EVT_REJECTED, log_rejection, [settings]),
        (evt.EVT_ACCEPTED, log_refused_classes),
    ]
    try:
        server = application.start_server((settings.host, settings.port), block=False, evt_handlers=handlers)
    except OSError as error:
        raise UserError(
            f"--dicom-port {settings.port} on {settings.host}: {error.strerror}; give another port"
        ) from None
    assert server is not None and server.socket is not None
    limit = _MAX_CONNECTIONS * settings.max_associations
    server.verify_request = lambda *_: len(server.active_associations) < limit  # type: ignore[method-assign]
    return server


class _Answers:
    """What the listener does with the messages of all associations."""

    def __init__(self, accept: Accept, max_bytes: int) -> None:
        self._accept, self._max_bytes = accept, max_bytes
        self._num_bytes: WeakKeyDictionary[Association, int] = WeakKeyDictionary()

    def stored(self, event: evt.Event) -> int:
        """The status of one C-STORE."""
        sender = str(event.assoc.requestor.ae_title).strip()
        status = self._status(event, sender)
        if status != SUCCESS:
            log_refused_image(peer=sender, status=status)
        return status

    def _status(self, event: evt.Event, sender: str) -> int:
        if self._num_bytes.pop(event.assoc, 0) > self._max_bytes:
            return CANNOT_UNDERSTAND
        try:
            self._accept(event.encoded_dataset(), sender)
        except UserError:
            return CANNOT_UNDERSTAND
        except FullError:
            return OUT_OF_RESOURCES
        except Exception as error:
            log_error(error, "C-STORE")
            return FAILURE
        return SUCCESS

    def counted(self, event: evt.Event) -> None:
        """Abort an association that sends more than an image can have; the whole image is held in memory."""
        items = getattr(event.pdu, "presentation_data_value_items", None)
        if items is None:
            return
        received = sum(len(item.presentation_data_value or b"") for item in items)
        self._num_bytes[event.assoc] = self._num_bytes.get(event.assoc, 0) + received
        if self._num_bytes[event.assoc] > self._max_bytes:
            event.assoc.abort()
