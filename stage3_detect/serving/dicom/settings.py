"""Settings of the DICOM network."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from cxr.config import Settings, UserError
from stage3_detect.dicom_results.settings import ResultSettings


def _ae_title(value: str) -> str:
    if not re.fullmatch(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", value):
        raise ValueError("expected an AE title: 1 to 16 characters of ASCII without backslash")
    return value


def _destination(value: str) -> str:
    if value.startswith(("http://", "https://")):
        if not urlsplit(value).hostname:
            raise ValueError("expected the URL of a DICOMweb service, for instance http://pacs:8042/dicom-web")
        return value
    host, _, rest = value.partition(":")
    port, _, title = rest.partition(":")
    if not (host and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("expected HOST:PORT:AE, or the URL of a DICOMweb service")
    _ae_title(title)
    return value


def require_packages(option: str) -> None:
    """UserError, which names `option`, where the packages of DICOM results and networks are missing."""
    missing = [name for name in ("highdicom", "pynetdicom") if find_spec(name) is None]
    if missing:
        how = "run make setup, or install the extra: pip install '.[dicom]'"
        raise UserError(f"{option}: {' and '.join(missing)} missing; {how}")


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Destination = Annotated[str, AfterValidator(_destination)]


class DicomSettings(Settings):
    """The listener for images, and where results go."""

    port: int = Field(ge=0, le=65535)
    """0: any free port."""
    host: str = "127.0.0.1"
    ae: AeTitle = "RAYBOX"
    """Calling programs must name it."""
    peers: tuple[AeTitle, ...] = ()
    """AE titles that may send; empty: all. Required for a host other than loopback."""
    send_to: tuple[Destination, ...] = Field(min_length=1)
    """HOST:PORT:AE for C-STORE, or the URL of a DICOMweb service for STOW-RS."""
    folder: Path = Path("dicom_queue")
    """Where accepted images and unsent results are kept."""
    quiet_s: float = Field(default=5, ge=0)
    """A study is complete if no image of it has come for this time."""
    keep_days: float = Field(default=30, gt=0)
    """How long a study is remembered, so that a late image gets a report that replaces the earlier one."""
    max_associations: int = Field(default=16, ge=1)
    network_timeout_s: float = Field(default=30, gt=0)
    """How long a peer may be silent within an association."""
    max_retry_s: float = Field(default=60, gt=0)
    """Longest pause before a result is offered again to a peer that did not take it."""
    results: ResultSettings = ResultSettings()

    @model_validator(mode="after")
    def _strangers_need_a_list(self) -> "DicomSettings":
        if self.host not in ("127.0.0.1", "::1", "localhost") and not self.peers:
            raise ValueError("others could send images; name those that may with --dicom-peers")
        return self
