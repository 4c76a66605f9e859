"""Settings of the service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from cxr.config import Settings, UserError, parse_overrides, parse_settings
from stage3_detect.serving.dicom.settings import DicomSettings

MIB = 1 << 20
_DICOM_OPTIONS = ("dicom_port", "dicom_host", "dicom_peers", "dicom_folder", "ae", "send_to", "quiet_s", "results")
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Limits(Settings):
    """What a client may ask of the service. A request beyond a limit is refused, and the answer names the limit."""

    max_file_bytes: int = Field(default=100 * MIB, ge=1)
    max_files: int = Field(default=16, ge=1)
    """Files of one request."""
    max_request_bytes: int = Field(default=200 * MIB, ge=1)
    """Body of one request: all its files."""
    max_json_bytes: int = Field(default=MIB, ge=1)
    """Body of a request that carries JSON."""
    max_pixels: int = Field(default=64_000_000, ge=1)
    """Of one image; read from the file's header, before any pixel is decoded."""
    max_accepted: int = Field(default=64, ge=1)
    """Requests with a body that are accepted and not yet answered. More are refused with 429."""
    max_accepted_bytes: int = Field(default=1024 * MIB, ge=1)
    """Bodies of those requests together, by their Content-Length."""
    max_connections: int = Field(default=512, ge=1)
    """Open connections. More are closed at once."""
    processing_timeout_s: float = Field(default=60, gt=0)
    """From the last byte of a request to its answer."""
    header_timeout_s: float = Field(default=10, gt=0)
    """From the first byte of a request, or from the opening of a connection, to the end of the request's header."""
    upload_grace_s: float = Field(default=10, gt=0)
    """How long an upload may lie behind `min_upload_bytes_per_s`."""
    min_upload_bytes_per_s: int = Field(default=32 * 1024, ge=1)
    drain_upload_s: float = Field(default=60, gt=0)
    """How long an upload may continue after SIGTERM."""
    send_timeout_s: float = Field(default=60, gt=0)
    """How long a client may leave a part of the answer unread."""
    retry_after_s: int = Field(default=2, ge=1)
    """What Retry-After says to a refused client."""


class ServiceSettings(Settings):
    """The service: its optional features, and where it keeps files. None switches a feature off."""

    limits: Limits = Limits()
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0: any free port."""
    num_workers: int = Field(default=2, ge=1)
    """Images in work at the same time: one is decoded while another passes through the network."""
    api_keys: Path | None = None
    corrections: Path | None = None
    keep_images: bool = False
    """Store the image with its correction."""
    examples: Path | None = None
    truth: Path | None = None
    audit: Path | None = None
    records: Path | None = None
    """Quality, statistics and scores of each image, for drift."""
    dicom: DicomSettings | None = None

    @property
    def is_loopback(self) -> bool:
        """True if only programs on this machine reach the service."""
        return self.host in LOOPBACK_HOSTS


def settings_of(given: Mapping[str, Any]) -> ServiceSettings:
    """The settings in a command line; `given["set"]` changes limits.

    Raises:
        UserError: values that do not validate; an address other than loopback without API keys.
    """
    values = {name: value for name, value in given.items() if name in ServiceSettings.model_fields}
    values["limits"] = parse_overrides(Limits, given["set"])
    values["dicom"] = _dicom_of(given)
    settings = parse_settings(ServiceSettings, values, source="command line")
    if not settings.is_loopback and settings.api_keys is None:
        raise UserError(
            f"--host {settings.host}: an address other than {', '.join(sorted(LOOPBACK_HOSTS))} needs --api-keys FILE "
            "(--new-key FILE NAME makes it)"
        )
    if settings.keep_images and settings.corrections is None:
        raise UserError("--keep-images: images are kept with corrections only; give --corrections DIR too")
    return settings


def _dicom_of(given: Mapping[str, Any]) -> DicomSettings | None:
    """The DICOM network; None without a port."""
    named = {name.removeprefix("dicom_"): value for name, value in given.items() if name in _DICOM_OPTIONS}
    if given.get("dicom_port") is None:
        if given.get("send_to"):
            raise UserError("--send-to: results of DICOM images are sent; give --dicom-port too")
        return None
    values = {name: value for name, value in named.items() if value is not None}
    return parse_settings(DicomSettings, values, source="command line")
