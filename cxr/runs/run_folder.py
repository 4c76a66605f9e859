"""Run folders: start, resume, finish, open.

``started.json`` is written first. It holds the settings and the fingerprints of the inputs, so that a later call knows
whether it may resume the run. ``manifest.json`` is written last and atomically; without it a run is not finished.
"""

import json
import logging
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import yaml

from cxr.config import Settings, UserError
from cxr.crashes import watch_folder
from cxr.own_json import read_object
from cxr.runs.hardware import describe_hardware, gpu_peak_mib, reset_gpu_peak
from cxr.runs.lock import lock_folder, remove_left_over
from cxr.runs.manifest import FORMAT, read_manifest
from cxr.runs.provenance import (
    code_state,
    command_line,
    fingerprints,
    input_entry,
    library_versions,
    output_entry,
    refuse_differences,
    sha256_of,
)
from cxr.runs.run_log import log_to
from cxr.runs.whole_files import DISK_FULL, whole_file

State = Literal["fresh", "resumed", "finished"]
log = logging.getLogger("raybox")


class Processes(Protocol):
    """The processes that share a run, seen from one of them; `lightning_fabric.Fabric` is one."""

    @property
    def is_global_zero(self) -> bool: ...

    def barrier(self) -> None: ...


def atomic_write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace a file as `whole_file` does. mode: its permissions, before the umask."""

    def opened(name: str, flags: int) -> int:
        return os.open(name, flags, mode)

    with whole_file(path) as partial, open(partial, "w", encoding="utf-8", opener=opened) as file:
        file.write(text)


@dataclass
class Run:
    """A run folder that is being written. `state`: fresh, resumed after an interruption, or found finished."""

    dir: Path
    stage: str
    state: State
    settings: Settings
    inputs: Mapping[str, Path]
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    _lock: IO[str] | None = None
    _end_watch: Callable[[], None] | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a part of the work: its seconds, the process's peak memory until its end, and that of a GPU in it.

        Memory is in MiB. A part that measures methods one by one on a GPU keeps the GPU's peak of the last one.
        """
        log.info("%s: %s", self.stage, name)
        reset_gpu_peak()
        begin = time.perf_counter()
        try:
            yield
        except OSError as error:
            if error.filename is None and error.errno in DISK_FULL:  # a write, unlike open, does not name its file
                error.filename = str(self.dir)
            raise
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_mib = peak / (1024**2 if sys.platform == "darwin" else 1024)
        seconds = round(time.perf_counter() - begin, 2)
        self.phases[name] = {"seconds": seconds, "peak_mib": round(peak_mib, 1)}
        if (on_gpu := gpu_peak_mib()) is not None:
            self.phases[name]["peak_gpu_mib"] = round(on_gpu, 1)

    def release(self) -> None:
        """Unlock the folder for other processes. The end of the process does the same."""
        if self._end_watch is not None:
            self._end_watch()
            self._end_watch = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def finish(self, metrics: Mapping[str, float | None], outputs: Mapping[str, Path], **entries: Any) -> None:
        """Write ``metrics.json`` and, last, ``manifest.json``.

        Args:
            metrics: values that are not finite become null.
            outputs: name -> file inside the folder.
            entries: further entries of the manifest.
        """
        clean = {name: _finite(value) for name, value in metrics.items()}
        atomic_write_text(self.dir / "metrics.json", json.dumps(clean, indent=1) + "\n")
        manifest = {
            "format": FORMAT,
            "stage": self.stage,
            **code_state(),
            "command": command_line(sys.argv),
            "settings": self.settings.model_dump(mode="json"),
            "inputs": {name: input_entry(name, path, self.dir) for name, path in self.inputs.items()},
            "outputs": {name: output_entry(path, self.dir) for name, path in outputs.items()},
            "libraries": library_versions(),
            "hardware": describe_hardware(),
            "python": platform.python_version(),
            "phases": self.phases,
            "metrics": clean,
            **entries,
        }
        atomic_write_text(self.dir / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        self.release()


def start_run(
    out: Path, *, stage: str, settings: Settings, inputs: Mapping[str, Path], processes: Processes | None = None
) -> Run:
    """Open `out` for writing: fresh, resumed after an interruption, or found finished.

    Args:
        inputs: name -> run folder or file that the run reads. A change shows in the sha256 of its manifest or file.
        processes: the processes that share the run. The first one creates the folder before the others open it.

    Raises:
        UserError: `out` holds a run with other settings or inputs (each difference is named as ``key: was -> now``),
            is a file or a foreign folder, or another process writes into it.
    """
    if processes is None:
        return _start(out, stage, settings, inputs)
    if not processes.is_global_zero:
        processes.barrier()
    run = _start(out, stage, settings, inputs)
    if processes.is_global_zero:
        processes.barrier()
    return run


def _start(out: Path, stage: str, settings: Settings, inputs: Mapping[str, Path]) -> Run:
    begun = {"stage": stage, "settings": settings.model_dump(mode="json"), "inputs": fingerprints(inputs)}
    marker = out / "started.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    if not marker.is_file() and not _holds_nothing_made(out):
        raise UserError(f"--out {out}: exists and is not a run folder; give an empty or new folder")
    lock = lock_folder(out)
    if marker.is_file() and not _holds_nothing_made(out):
        refuse_differences(read_object(marker, advice="give another --out"), begun, out)
        state: State = "finished" if _is_whole(out) else "resumed"
        if lock is not None and state == "resumed":
            remove_left_over(out)
    else:
        text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        atomic_write_text(out / "config.yaml", text)
        atomic_write_text(marker, json.dumps(begun, indent=1) + "\n")
        state = "fresh"
    log_to(out / "log.txt")
    if state == "finished":
        log.info("%s is already finished with the same settings; nothing to do", out)
    if state == "resumed":
        log.info("%s was interrupted; resuming", out)
    return Run(out, stage, state, settings, inputs, _lock=lock, _end_watch=watch_folder(out))


def _holds_nothing_made(out: Path) -> bool:
    """True if an earlier call ended before it produced anything, so other settings may replace it."""
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    replaceable = {"started.json", "config.yaml", "log.txt"}
    if "started.json" in names:  # without it these files are not ours
        replaceable |= {"splits.json", "labels.sha256", "label_file.yaml", "computation.json"}
    return names <= replaceable


def _is_whole(out: Path) -> bool:
    """True for a finished run whose files are complete and unchanged; a damaged one loses its manifest."""
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


@dataclass(frozen=True)
class FinishedRun:
    """A finished run folder. `metrics` is metrics.json, `settings` is config.yaml."""

    dir: Path
    stage: str
    manifest: dict[str, Any]
    metrics: dict[str, float | None]
    settings: dict[str, Any]

    def output(self, name: str) -> Path:
        """The file of an output.

        Raises:
            UserError: the run has no output of that name, or the file no longer exists.
        """
        entry = self.manifest["outputs"].get(name)
        if entry is None:
            known = ", ".join(self.manifest["outputs"])
            raise UserError(f"run {self.dir}: no output {name!r}; it has {known}")
        path = self.dir / str(entry["path"])
        if not path.is_file():
            raise UserError(f"run {self.dir}: {entry['path']} no longer exists; run the stage again")
        return path


def open_input(run: FinishedRun, name: str) -> FinishedRun | None:
    """The finished run that is the input `name` of a run; None if it has no such input or its folder was moved."""
    try:
        return open_run(Path(os.path.normpath(run.dir / str(run.manifest["inputs"][name]["path"]))))
    except (KeyError, UserError):
        return None


def refuse_run_folder(out: Path) -> None:
    """Protect a run from being overwritten by a command that writes its own metrics and report.

    Raises:
        UserError: `out` is a stage's run folder.
    """
    if (out / "started.json").is_file() or (out / "manifest.json").is_file():
        raise UserError(f"--out {out}: is the folder of a run; give another one")


def open_run(path: Path, *, stage: str | None = None) -> FinishedRun:
    """Open a finished run. All code reads runs through this function.

    Raises:
        UserError: `path` is not a run, is unfinished, is of another stage or format, or an output was changed.
    """
    manifest_path = path / "manifest.json"
    if not manifest_path.is_file():
        begun = (path / "started.json").is_file()
        reason = "is not finished; repeat its command to resume it" if begun else "is not a run folder"
        raise UserError(f"run {path}: {reason}")
    manifest = read_manifest(manifest_path)
    if stage is not None and manifest["stage"] != stage:
        raise UserError(f"run {path}: is a run of {manifest['stage']}, expected {stage}; give another folder")
    _check_outputs(path, manifest)
    return FinishedRun(path, manifest["stage"], manifest, manifest["metrics"], manifest["settings"])


def _check_outputs(path: Path, manifest: Mapping[str, Any]) -> None:
    problems = []
    for name, entry in manifest["outputs"].items():
        file = path / entry["path"]
        if file.is_file() and sha256_of(file) != entry["sha256"]:
            problems.append(f"run {path}: output {name!r} ({entry['path']}) changed since the run; run it again")
    if problems:
        raise UserError(problems)


def _finite(value: float | None) -> float | None:
    if value is None:
        return None
    return float(value) if math.isfinite(value) else None
