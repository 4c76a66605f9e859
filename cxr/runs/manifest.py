"""The manifest of a run folder as it is read."""

from pathlib import Path
from typing import Annotated, Any, Never

from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from cxr.config import UserError
from cxr.own_json import check_shape, read_object

FORMAT = 2
"""Format number of a run folder. It increases when older runs can no longer be read."""

_ADVICE = "restore the file, or run the stage again"

Texts = Annotated[list[InstanceOf[str]], Field(min_length=2, max_length=2)]
"""Path of a file, perhaps with bytes that are not UTF-8, and what is wrong with it."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _File(_Entry):
    path: str
    sha256: str


class _Manifest(_Entry):
    """The entries that several commands read; each stage has more."""

    stage: str
    settings: dict[str, Any]
    outputs: dict[str, _File]
    metrics: dict[str, float | None]
    inputs: dict[str, _File] = {}
    phases: dict[str, dict[str, float]] = {}
    findings: list[str] = []
    members: list[str] = []
    best_epoch: int = 0
    unreadable: list[Texts] = []
    without_dicom_results: list[Texts] = []


class Entries(dict[str, Any]):
    """An object of a manifest. An entry that it lacks is a UserError, since the same version always writes it.

    where: names the object in the error.
    """

    def __init__(self, content: dict[str, Any], where: str) -> None:
        super().__init__(content)
        self._where = where

    def __missing__(self, key: str) -> Never:
        raise UserError(f"{self._where} has no {key}; {_ADVICE}")


def read_manifest(path: Path) -> Entries:
    """Read the file.

    Raises:
        UserError: it is damaged, of another format, or an entry is missing or of another type.
    """
    content = read_object(path, advice=_ADVICE)
    if content.get("format") != FORMAT:
        got = content.get("format")
        raise UserError(f"run {path.parent}: manifest.json has format {got}, expected {FORMAT}; run it again")
    check_shape(content, _Manifest, where=str(path), advice=_ADVICE)
    content["settings"] = Entries(content["settings"], f"{path}: settings")
    return Entries(content, str(path))
