"""Open a bundle, the folder that the service runs on; `stage3_detect/export/bundle.py` writes it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config import UserError
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import open_run
from stage3_detect.serving.model.manifest import check_manifest

BUNDLE_JSON = "bundle.json"
BUNDLE_FORMAT = 1
"""Increases when older bundles can no longer be read."""


@dataclass(frozen=True)
class Bundle:
    """manifest: the content of bundle.json. sha256: of that file; it names all hashes, so it identifies the bundle."""

    dir: Path
    manifest: dict[str, Any]
    sha256: str

    def file(self, name: str) -> Path:
        """A file of the bundle."""
        return self.dir / name


def open_bundle(path: Path) -> Bundle:
    """Open a bundle, or the bundle of a stage 3 run, and check that every file is as it was written.

    Raises:
        UserError: `path` has no bundle, or one of another format or with damaged facts, or a file is missing or was
            changed.
    """
    folders = [folder for folder in (path, path / "export" / "bundle") if (folder / BUNDLE_JSON).is_file()]
    if not folders:
        raise UserError(_why_none(path))
    folder = folders[0]
    content = (folder / BUNDLE_JSON).read_bytes()
    try:
        manifest = json.loads(content)
        number = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"bundle {folder}: {BUNDLE_JSON} is damaged ({error!r}); write the bundle again") from None
    if number != BUNDLE_FORMAT:
        raise UserError(f"bundle {folder}: format {number}, expected {BUNDLE_FORMAT}; write the bundle again")
    check_manifest(content, folder / BUNDLE_JSON)
    problems = [problem for name, known in manifest["files"].items() if (problem := _problem(folder, name, known))]
    if problems:
        raise UserError(problems)
    return Bundle(folder, manifest, hashlib.sha256(content).hexdigest())


def _why_none(path: Path) -> str:
    """Why there is no bundle at `path`, and what to do."""
    try:
        open_run(path, stage="stage3")
    except UserError as error:
        return f"{path}: is no bundle, and no stage 3 run either ({error.problems[0]}); give one of them"
    return f"{path}: is a run of an older version, without a bundle; write it: python stage3_detect/bundle.py {path}"


def _problem(folder: Path, name: str, known: str) -> str:
    if not (folder / name).is_file():
        return f"bundle {folder}: {name} is missing; copy the whole folder, or write the bundle again"
    if sha256_of(folder / name) != known:
        return f"bundle {folder}: {name} is not the file that was written; copy it again, or write the bundle again"
    return ""
