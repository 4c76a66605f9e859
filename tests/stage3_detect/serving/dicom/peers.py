"""Peers from Debian's packages: programs of dcmtk, and Orthanc with its DICOMweb plugin."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.dicom_kills import free_port, wait_for_port

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_WAIT_S = 60


def program(name: str) -> str:
    """Path of a program; in CI it must be there."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None and "RAYBOX_REQUIRE_DICOM_PEERS" not in os.environ:
        pytest.skip(f"{name} is not installed (Debian: dcmtk, orthanc, orthanc-dicomweb)")
    assert found is not None
    return found


@contextmanager
def started(*command: str | Path) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + _WAIT_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


class Orthanc:
    """A running Orthanc."""

    def __init__(self, http_port: int) -> None:
        self.url = f"http://127.0.0.1:{http_port}"

    def call(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=30) as answer:
            return json.loads(answer.read())

    def files(self) -> list[bytes]:
        found = []
        for instance in self.call("/instances"):
            with urllib.request.urlopen(f"{self.url}/instances/{instance}/file", timeout=30) as answer:
                found.append(answer.read())
        return found


@contextmanager
def orthanc(folder: Path, *, dicom_port: int, raybox_port: int = 11112) -> Iterator[Orthanc]:
    """An Orthanc that takes all images; raybox_port: of a node that it knows."""
    http_port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"), "HttpPort": http_port,
        "DicomPort": dicom_port, "DicomAet": "ORTHANC", "Plugins": [str(DICOMWEB)] if DICOMWEB.exists() else [],
        "DicomModalities": {"raybox": ["RAYBOX", "127.0.0.1", raybox_port]}, "DicomAlwaysAllowStore": True,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with started(program("Orthanc"), folder / "orthanc.json"):
        wait_for_port(http_port)
        wait_for_port(dicom_port)
        yield Orthanc(http_port)
