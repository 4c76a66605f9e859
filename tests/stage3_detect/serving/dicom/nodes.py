"""A DICOM node in this process, and a peer that takes its results."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from stage3_detect.dicom_results.source import RADIOGRAPH_CLASSES
from stage3_detect.serving.dicom.listener import TRANSFER_SYNTAXES
from stage3_detect.serving.dicom.node import DicomNode
from stage3_detect.serving.dicom.settings import DicomSettings
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.settings import Limits


class Peer:
    """A PACS that keeps all that it gets, in order. status: what it answers."""

    def __init__(self, port: int = 0) -> None:
        self.files: list[Dataset] = []
        self.status = 0x0000
        self._changed = threading.Condition()
        application = AE(ae_title="PACS")
        application.supported_contexts = AllStoragePresentationContexts
        server = application.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._stored)]
        )
        assert server is not None
        self._server = server
        self.port: int = server.server_address[1]
        self.name = f"127.0.0.1:{self.port}:PACS"

    def _stored(self, event: evt.Event) -> int:
        with self._changed:
            if self.status == 0:
                self.files.append(pydicom.dcmread(BytesIO(event.encoded_dataset())))
                self._changed.notify_all()
            return self.status

    def wait(self, done: Callable[[list[Dataset]], bool], *, seconds: float = 30) -> list[Dataset]:
        with self._changed:
            assert self._changed.wait_for(lambda: done(self.files), seconds), self.kinds()
            return list(self.files)

    def wait_for(self, count: int) -> list[Dataset]:
        return self.wait(lambda files: len(files) >= count)

    def kinds(self) -> list[str]:
        return [str(file.Modality) for file in self.files]

    def close(self) -> None:
        self._server.shutdown()


@contextmanager
def peer(port: int = 0) -> Iterator[Peer]:
    opened = Peer(port)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def node(model: ServedModel, folder: Path, *send_to: str, **values: Any) -> Iterator[DicomNode]:
    values = {"port": 0, "quiet_s": 0.2, "folder": folder, "send_to": send_to, **values}
    limits = Limits(**values.pop("limits", {}))
    opened = DicomNode(model, DicomSettings.model_validate(values), limits)
    try:
        yield opened
    finally:
        opened.close()


def store(port: int, *files: bytes, called: str = "RAYBOX", calling: str = "MODALITY") -> list[int | None]:
    """Send files in one association; the status of each, None without an answer. [] if it was rejected."""
    application = AE(ae_title=calling)
    for sop_class in RADIOGRAPH_CLASSES:
        application.add_requested_context(sop_class, list(TRANSFER_SYNTAXES)[:4])
    association = application.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return []
    statuses = []
    for data in files:
        answer = association.send_c_store(pydicom.dcmread(BytesIO(data)))
        statuses.append(answer.get("Status") if answer else None)
    association.release()
    return statuses
