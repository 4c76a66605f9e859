"""Log lines of the DICOM network: which peer sent or got which study, by AE title and UID; nothing of a patient."""

import logging
import re
import time

from pydicom.uid import UID
from pynetdicom import evt

from stage3_detect.serving.dicom.settings import DicomSettings
from stage3_detect.serving.dicom.store import Parcel
from stage3_detect.serving.http.logs import log_event

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 3600.0
"""Between two lines about a peer that does not take results; the pause doubles with each line."""
_MAX_NAMED = 5
_UID = re.compile(r"[0-9.]{1,64}")


def uid_text(uid: str) -> str:
    """The UID; a peer that sends another text in its place, such as a name, does not get it into the log."""
    return uid if _UID.fullmatch(uid) else "not a UID"


def log_image(*, peer: str, study: str, image: str, is_new: bool, num_waiting: int) -> None:
    """One line for an image that was stored, or that was there already."""
    what = "image accepted" if is_new else "image known already"
    log_event(what, peer=peer, study=uid_text(study), image=uid_text(image), waiting=num_waiting)


def log_refused_image(*, peer: str, status: int) -> None:
    """One line for an image that was not taken. The reason could quote its header."""
    log_event("image refused", level=logging.WARNING, peer=peer, status=f"{status:#06x}")


def log_rejection(event: evt.Event, settings: DicomSettings) -> None:
    """One line for a rejected association."""
    requestor = event.assoc.requestor
    asked = requestor.primitive
    assert asked is not None  # it is what was rejected
    calling, called = str(requestor.ae_title).strip(), str(asked.called_ae_title).strip()
    if called != settings.ae:
        reason = f"expected the called AE title {settings.ae}"
    elif settings.peers and calling not in settings.peers:
        reason = "the calling AE title is not one of --dicom-peers"
    else:
        reason = f"more than {settings.max_associations} associations"
    log_event(
        "association rejected", level=logging.WARNING, reason=reason, peer=calling, called=called,
        address=requestor.address,
    )  # fmt: skip


def log_refused_classes(event: evt.Event) -> None:
    """One line for the SOP classes that an association asks for and that are not taken at all."""
    taken = {context.abstract_syntax for context in event.assoc.accepted_contexts}
    asked = dict.fromkeys(context.abstract_syntax for context in event.assoc.rejected_contexts)
    refused = [_class_name(str(syntax)) for syntax in asked if syntax not in taken]
    if refused:
        peer = str(event.assoc.requestor.ae_title).strip()
        log_event("SOP classes not taken", peer=peer, number=len(refused), first=refused[:_MAX_NAMED])


def _class_name(uid: str) -> str:
    return UID(uid).name if _UID.fullmatch(uid) else uid_text(uid)


class SendLog:
    """What became of the results for one destination. The longer it takes none, the fewer lines say so."""

    def __init__(self, destination: str) -> None:
        self._peer = re.sub(r"//[^/@]*@", "//", destination)  # without a login
        self.sent()

    def sent(self) -> None:
        """The destination took a result."""
        self._num_failed, self._next_s, self._pause_s = 0, 0.0, _FIRST_PAUSE_S

    def delivered(self, study: str) -> None:
        """The destination has all results on a study."""
        log_event("study delivered", peer=self._peer, study=uid_text(study))

    def failed(self, what: str, reason: str, parcel: Parcel, *, num_waiting: int) -> None:
        """A result was not taken. reason: fixed words or a status. num_waiting: results for this destination."""
        self._num_failed += 1
        now = time.monotonic()
        if now < self._next_s:
            return
        log_event(
            what, level=logging.WARNING, reason=reason, peer=self._peer, study=uid_text(parcel.study),
            waiting=num_waiting, failures=self._num_failed, next_line_s=self._pause_s,
        )  # fmt: skip
        self._next_s = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
