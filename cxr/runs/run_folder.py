"""Run folders: start, resume, finish, open.

``manifest.json`` is written last and atomically; without it a run is not finished. ``started.json`` is written
first and holds the settings and the fingerprints of the inputs, so that a later call can tell whether it may go on.
"""

import fcntl
import json
import logging
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from cxr.config import Settings, UserError
from cxr.runs.provenance import code_state, library_versions, sha256_of

FORMAT = 2
"""Count up when an older run can no longer be read."""

_SHOWN = 10

State = Literal["fresh", "resumed", "finished"]
log = logging.getLogger("raybox")


def atomic_write_text(path: Path, text: str) -> None:
    """Write so that a reader sees the old file or the whole new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@dataclass
class Run:
    """A run folder that is being written."""

    dir: Path
    stage: str
    state: State
    settings: Settings
    inputs: Mapping[str, Path]
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    _lock: IO[str] | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a part of the work: seconds, and the process's peak memory (MiB) so far."""
        log.info("%s: %s", self.stage, name)
        begin = time.perf_counter()
        yield
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_mib = peak / (1024**2 if sys.platform == "darwin" else 1024)
        seconds = round(time.perf_counter() - begin, 2)
        self.phases[name] = {"seconds": seconds, "peak_mib": round(peak_mib, 1)}

    def release(self) -> None:
        """Let other processes write into the folder; the end of this one does it too."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def finish(self, metrics: Mapping[str, float | None], outputs: Mapping[str, Path], **facts: Any) -> None:
        """Write ``metrics.json`` and, last, ``manifest.json``. `outputs` are files inside the folder."""
        clean = {name: _finite(value) for name, value in metrics.items()}
        atomic_write_text(self.dir / "metrics.json", json.dumps(clean, indent=1) + "\n")
        manifest = {
            "format": FORMAT,
            "stage": self.stage,
            **code_state(),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "settings": self.settings.model_dump(mode="json"),
            "inputs": {name: _input_entry(name, path, self.dir) for name, path in self.inputs.items()},
            "outputs": {name: _output_entry(path, self.dir) for name, path in outputs.items()},
            "libraries": library_versions(),
            "hardware": {"machine": platform.machine(), "cpu_count": os.cpu_count()},
            "python": platform.python_version(),
            "phases": self.phases,
            "metrics": clean,
            **facts,
        }
        atomic_write_text(self.dir / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        self.release()


def start_run(out: Path, *, stage: str, settings: Settings, inputs: Mapping[str, Path]) -> Run:
    """Open `out` for writing: fresh, resumed after an interruption, or found finished.

    Args:
        inputs: name -> run folder or file that the run reads; a change shows in the sha256 of its manifest or file.

    Raises:
        UserError: `out` holds a run with other settings or inputs (each difference is named as ``key: was -> now``),
            is a file or a foreign folder, or another process writes into it.
    """
    begun = {
        "stage": stage,
        "settings": settings.model_dump(mode="json"),
        "inputs": _fingerprints(inputs),
    }
    marker = out / "started.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    if not marker.is_file() and not _holds_nothing_made(out):
        raise UserError(f"--out {out}: exists and is no run folder; give an empty or new folder")
    lock = _lock(out)
    if marker.is_file() and not _holds_nothing_made(out):
        _refuse_differences(_read_json(marker), begun, out)
        state: State = "finished" if _is_whole(out) else "resumed"
    else:
        text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        atomic_write_text(out / "config.yaml", text)
        atomic_write_text(marker, json.dumps(begun, indent=1) + "\n")
        state = "fresh"
    _log_to(out / "log.txt")
    if state == "finished":
        log.info("%s is finished already, with the same settings: nothing to do", out)
    if state == "resumed":
        log.info("%s was interrupted: going on", out)
    return Run(out, stage, state, settings, inputs, _lock=lock)


def _holds_nothing_made(out: Path) -> bool:
    """True where a call ended before it made anything, so that other settings lose nothing."""
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    read = {"splits.json", "labels.sha256"} if "started.json" in names else set()  # else they are not ours
    return names <= {"started.json", "config.yaml", "log.txt"} | read


def _lock(out: Path) -> IO[str] | None:
    """Keep a second process out of the folder for as long as this one lives; torchrun's others belong to the first."""
    if os.environ.get("RANK", "0") != "0":
        return None
    file = (out / ".lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(
            f"run {out}: another process writes into it; wait for it, or give another --out"
        ) from None
    return file


def _is_whole(out: Path) -> bool:
    """True for a finished run whose files are all there and unchanged; a damaged one is to be finished again."""
    if not (out / "manifest.json").is_file():
        return False
    try:
        run = open_run(out)
        for name in run.manifest["outputs"]:
            run.output(name)
    except UserError as error:
        log.warning("%s; finishing it again", error.problems[0])
        (out / "manifest.json").unlink()
        return False
    return True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"run {path.parent}: {path.name} is damaged ({error}); give another --out") from None
    if not isinstance(content, dict):
        raise UserError(f"run {path.parent}: {path.name} is damaged; give another --out")
    return content


@dataclass(frozen=True)
class FinishedRun:
    """A run folder that is done."""

    dir: Path
    stage: str
    manifest: dict[str, Any]
    metrics: dict[str, float | None]
    settings: dict[str, Any]

    def output(self, name: str) -> Path:
        """File of an output by name; UserError when the run has none of that name or the file is gone."""
        entry = self.manifest["outputs"].get(name)
        if entry is None:
            known = ", ".join(self.manifest["outputs"])
            raise UserError(f"run {self.dir}: no output {name!r}; it has {known}")
        path = self.dir / str(entry["path"])
        if not path.is_file():
            raise UserError(f"run {self.dir}: {entry['path']} is gone; run the stage again")
        return path


def open_run(path: Path, *, stage: str | None = None) -> FinishedRun:
    """Open a finished run, the only way to read one.

    Raises:
        UserError: no run there, unfinished, another stage, another format, or an output changed since.
    """
    manifest_path = path / "manifest.json"
    if not manifest_path.is_file():
        begun = (path / "started.json").is_file()
        reason = "is not finished; give its command again, it goes on" if begun else "is no run folder"
        raise UserError(f"run {path}: {reason}")
    manifest = _read_json(manifest_path)
    missing = {"stage", "settings", "outputs", "metrics"} - manifest.keys()
    if missing:
        raise UserError(f"run {path}: manifest.json lacks {', '.join(sorted(missing))}; run the stage again")
    if manifest.get("format") != FORMAT:
        raise UserError(f"run {path}: format {manifest.get('format')}, expected {FORMAT}; run it again")
    if stage is not None and manifest["stage"] != stage:
        raise UserError(f"run {path}: is of {manifest['stage']}, expected {stage}; give another folder")
    _check_outputs(path, manifest)
    return FinishedRun(path, manifest["stage"], manifest, manifest["metrics"], manifest["settings"])


def _check_outputs(path: Path, manifest: Mapping[str, Any]) -> None:
    problems = []
    for name, entry in manifest["outputs"].items():
        file = path / entry["path"]
        if file.is_file() and sha256_of(file) != entry["sha256"]:
            problems.append(
                f"run {path}: output {name!r} ({entry['path']}) changed since the run; run it again"
            )
    if problems:
        raise UserError(problems)


def _refuse_differences(was: Mapping[str, Any], now: Mapping[str, Any], out: Path) -> None:
    before, after = _flatten(was), _flatten(now)
    for key in sorted(key for key in before.keys() & after.keys() if key.startswith("inputs.")):
        if before[key] != after[key]:
            before[key], after[key] = "as it was", "changed since"
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
    if prefix.endswith("fractions"):  # their order decides who is where
        flat[f"{prefix} in order"] = list(values)
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _fingerprints(inputs: Mapping[str, Path]) -> dict[str, str]:
    return {name: sha256_of(_manifest_or_file(path, name)) for name, path in inputs.items()}


def _manifest_or_file(path: Path, name: str) -> Path:
    file = path / "manifest.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"input {name}, {path}: not found or not finished; finish that run, or give another path"
        )
    return file


def _input_entry(name: str, path: Path, run_dir: Path) -> dict[str, str]:
    relative = os.path.relpath(path.resolve(), run_dir.resolve())
    return {"path": relative, "sha256": sha256_of(_manifest_or_file(path, name))}


def _output_entry(path: Path, run_dir: Path) -> dict[str, Any]:
    relative = path.relative_to(run_dir).as_posix()
    return {"path": relative, "sha256": sha256_of(path), "bytes": path.stat().st_size}


def _finite(value: float | None) -> float | None:
    if value is None:
        return None
    return float(value) if math.isfinite(value) else None


def _log_to(path: Path) -> None:
    """Send the log to `path` from now on (one run folder at a time)."""
    log.setLevel(logging.INFO)
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
