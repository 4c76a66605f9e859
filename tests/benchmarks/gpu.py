"""Run everything that needs an NVIDIA GPU, part by part, each in a process and with a time limit of its own.

    tests/benchmarks/gpu.sh [--tiny] [--parts NAME ...]

A part that fails or runs out of time is named with its reason and the figures it had; the others go on. Whatever the
parts write is in one temporary folder, which is removed at the end. Prints a line a part and, as the last line, one
JSON object (its keys: docs/benchmarks.md). Exit code 1 if a part failed or ran out of time. Needs Python alone, so that
it can say what a machine lacks; the parts are in gpu_parts.py.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpu_wheels import missing_wheels, wrong_torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

TOTAL_S = 525.0
"""No part runs longer than until so many seconds after the start; the whole ends in under 9 minutes."""

LIMITS_S = {
    "device": 40.0,
    "tests": 70.0,
    "train_eager": 60.0,
    "train_compiled": 150.0,
    "cam": 60.0,
    "stages": 100.0,
    "manifest": 10.0,
    "detector_train": 60.0,
    "detector_predict": 40.0,
    "detector_tensorrt": 150.0,
}
"""Name of a part -> its seconds at most, in the order in which they run. The last gets what the others leave."""

Report = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    given = parse(argv)
    begin = time.monotonic()
    report: Report = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "tiny": given.tiny}
    report |= {"python": sys.version.split()[0], "limit_s": TOTAL_S}
    report["wheels"] = {"missing": missing_wheels(ROOT), "other_torch": wrong_torch(ROOT)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a part ends and the folder goes
    parts: dict[str, Report] = {}
    folder = tempfile.mkdtemp(prefix="raybox-gpu-")
    try:
        for name in given.parts:
            left = TOTAL_S - (time.monotonic() - begin)
            parts[name] = run_part(name, Path(folder), limit_s=min(LIMITS_S[name], left), tiny=given.tiny)
            sys.stdout.write(line_of(name, parts[name]) + "\n")
            sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report |= {"seconds": round(time.monotonic() - begin, 1), "parts": parts}
    sys.stdout.write(json.dumps(report) + "\n")
    return int(any(part["status"] in ("failed", "out of time") for part in parts.values()))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, also without a GPU: shows that it works")
    parser.add_argument("--parts", nargs="+", choices=LIMITS_S, default=list(LIMITS_S), help="these alone")
    return parser.parse_args(argv)


def run_part(name: str, folder: Path, *, limit_s: float, tiny: bool) -> Report:
    """Run a part and end whatever it started.

    Returns:
        status: done, skipped, failed or out of time; seconds, limit_s, reason (None if done), and figures, those of a
        part that did not end up to the last that it wrote.
    """
    result = folder / f"{name}.json"
    command = [sys.executable, "-B", str(HERE / "gpu_parts.py"), name, str(folder), *(["--tiny"] if tiny else [])]
    begin = time.monotonic()
    code = _run(command, _environment(folder), limit_s) if limit_s > 0 else None
    seconds = time.monotonic() - begin
    found: Report = json.loads(result.read_text()) if result.is_file() else {"figures": {}, "status": None}
    report = {"status": found["status"], "reason": found.get("reason"), "figures": found["figures"]}
    if code is None:
        report |= {"status": "out of time", "reason": f"it did not end within {max(limit_s, 0):.3g} s"}
    elif found["status"] is None:
        report |= {"status": "failed", "reason": _ending(code)}
    return report | {"seconds": round(seconds, 1), "limit_s": round(limit_s, 1)}


def _run(command: Sequence[str], environment: Mapping[str, str], limit_s: float) -> int | None:
    """Exit code of a command; None if it ran out of time. All processes of its session are ended."""
    # what it prints is no part of the report
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sys.stderr, start_new_session=True)
    try:
        return process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ending(code: int) -> str:
    return f"its process was ended by signal {-code}" if code < 0 else f"its process ended with exit code {code}"


def _environment(folder: Path) -> dict[str, str]:
    """Caches, settings and temporary files of all libraries are below the folder."""
    paths = {
        "TMPDIR": "tmp",
        "HOME": "home",
        "XDG_CACHE_HOME": "home/.cache",
        "XDG_CONFIG_HOME": "home/.config",
        "CUDA_CACHE_PATH": "cuda",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "MPLCONFIGDIR": "matplotlib",
        "YOLO_CONFIG_DIR": "ultralytics",
    }
    for name in paths.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(search), "PYTHONDONTWRITEBYTECODE": "1", "WANDB_MODE": "disabled"}
    own["PYTHONUSERBASE"] = site.getuserbase()  # packages below the real home stay importable
    return os.environ | {name: str(folder / path) for name, path in paths.items()} | own


def line_of(name: str, part: Report) -> str:
    """For example `cam  done  41.2 s`."""
    return "  ".join([name, part["status"], f"{part['seconds']:.1f} s", *filter(None, [part["reason"]])])


if __name__ == "__main__":
    sys.exit(main())
