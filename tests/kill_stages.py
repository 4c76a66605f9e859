"""Kill each stage at random moments, resume it, and compare it with an undisturbed run: `make test-kills`.

    python -m tests.kill_stages --num 30 --stages stage1 stage2 stage3

Prints one line a kill and, as the last line, one JSON object. Exit code 1 if a resumed run fails, or differs from the
undisturbed one in the bytes of an output.
"""

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cxr.runs.run_folder import FinishedRun, open_run
from eval.experiments.reproduce import SCRIPTS, differences_of
from tests.paths import ROOT
from tests.test_pipeline import write_configs

PREVIOUS = {"stage2": "stage1", "stage3": "stage2"}


@dataclass(frozen=True)
class Kill:
    """One kill. after_s: CPU seconds of the stage until then. found: what it left. differs: names; "" if equal."""

    stage: str
    after_s: float
    found: str
    differs: str
    figure_change: float


class Chain:
    """A tiny experiment in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        write_configs(folder)
        self._cpu_s: dict[str, float] = {}

    def reference(self, stage: str) -> Path:
        """The undisturbed run of a stage; it is made where it is missing, as are those of the stages before."""
        out = self._folder / "undisturbed" / stage
        if not (out / "manifest.json").is_file():
            self._finish(stage, self._folder / "first" / stage, cwd=self._folder)  # draws the phantom
            process, self._cpu_s[stage] = self._work(stage, out, cwd=self._folder / "first")
            assert process.returncode == 0, f"{stage} ended with {process.returncode}"
        return out

    @property
    def images(self) -> Path:
        """The test images of stage 2, which are DICOM files."""
        return self._drawn_by("stage2") / "vindr" / "test"

    @property
    def reports(self) -> Path:
        """The table of stage 1's reports."""
        return self._drawn_by("stage1") / "chexpert" / "phantom_reports.csv"

    def _drawn_by(self, stage: str) -> Path:
        self.reference(stage)
        return self._folder / "data"

    def kill(self, stage: str, number: int, random_share: float) -> Kill:
        """Start the stage in a folder of its own with an empty picture cache, kill it, finish it and compare.

        random_share: when, as a share of the CPU seconds that the stage takes from the start of its run folder.
        """
        cwd = self._folder / "killed" / stage / str(number)
        cwd.mkdir(parents=True)
        undisturbed, out = self.reference(stage), cwd / "run"
        process, used_s = self._work(stage, out, cwd=cwd, until_s=random_share * self._cpu_s[stage])
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        found = "finished" if (out / "manifest.json").exists() else "begun"
        self._finish(stage, out, cwd=cwd)
        left = [path.name for path in out.rglob("*") if path.name.endswith(".partial")]
        assert not left, left
        one, other = (open_run(path, stage=stage) for path in (undisturbed, out))
        compared = differences_of(one, other)
        change = abs(main_figure(one) - main_figure(other))
        return Kill(stage, round(used_s, 2), found, ", ".join(compared.other_outputs), change)

    def _work(
        self, stage: str, out: Path, *, cwd: Path, until_s: float = math.inf
    ) -> tuple["subprocess.Popen[bytes]", float]:
        """Run a stage until it ends or has used so much CPU time, which other work on the machine changes little.
        Returns its process, and the CPU seconds from the start of its folder to its last file, the manifest."""
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, *self.command(stage, out)]
        process = subprocess.Popen(command, cwd=cwd, env=environment(), start_new_session=True, **silent)
        watched, before_s, used_s = psutil.Process(process.pid), None, 0.0
        while process.poll() is None and used_s < until_s:
            with suppress(psutil.Error):
                now_s = sum(watched.cpu_times()[:2])
                if before_s is None and (out / "started.json").exists():
                    before_s = now_s
                if before_s is not None and not (out / "manifest.json").exists():
                    used_s = now_s - before_s
            time.sleep(0.01)
        return process, used_s

    def _finish(self, stage: str, out: Path, *, cwd: Path) -> None:
        command = [sys.executable, *self.command(stage, out)]
        done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{stage} in {out} ended with {done.returncode}:\n{done.stderr[-3000:]}")

    def command(self, stage: str, out: Path) -> list[str]:
        """The script of a stage and its arguments."""
        source = ["--from", str(self.reference(PREVIOUS[stage]))] if stage in PREVIOUS else []
        script, config = str(ROOT / SCRIPTS[stage]), str(self._folder / f"{stage}.yaml")
        # fixed, because the choice by timing may differ
        fixed = ["--set", "train.precision=fp32", "train.memory_format=contiguous"] if stage == "stage1" else []
        return [script, config, *source, "--out", str(out), *fixed]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def main_figure(run: FinishedRun) -> float:
    name = {"stage1": "auroc/mean", "stage2": f"ap40/{run.manifest.get('best_method')}", "stage3": "ap40/detector"}
    return run.metrics.get(name[run.stage]) or 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=30, help="kills a stage (30)")
    parser.add_argument("--stages", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = random.Random(given.seed)
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory(prefix="raybox-kills-") as folder:
        chain = Chain(Path(folder))
        for stage in given.stages:
            for number in range(given.num):
                kill = chain.kill(stage, number, generator.random())
                kills.append(kill)
                sys.stdout.write(f"{json.dumps(asdict(kill))}\n")
                sys.stdout.flush()
    wrong = [kill for kill in kills if kill.differs]
    figures = {
        stage: {
            "kills": len(own),
            "begun": sum(kill.found == "begun" for kill in own),
            "equal": sum(not kill.differs for kill in own),
            "largest_change_of_figure": max((kill.figure_change for kill in own), default=0.0),
        }
        for stage in given.stages
        if (own := [kill for kill in kills if kill.stage == stage]) or not given.num
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
