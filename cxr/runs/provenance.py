"""Where a result comes from: hashes of files, the state of the code, versions of libraries."""

import hashlib
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "torch",
    "timm",
    "lightning-fabric",
    "ultralytics",
    "albumentations",
    "grad-cam",
    "pycocotools",
)


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a stage can be installed without the others' libraries
    return found


def code_state() -> dict[str, Any]:
    """The commit, and whether the work tree differs from it; None outside of a repository."""
    folder = Path(__file__).parent
    try:
        commit = _git("rev-parse", "HEAD", cwd=folder)
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain", cwd=folder))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()
