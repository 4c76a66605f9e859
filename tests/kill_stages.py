"""Kill each stage at random moments, resume it, and compare it with an undisturbed run: `make test-kills`.

    python -m tests.kill_stages --num 30 --stages stage1 stage2 stage3

Prints one line a kill and, as the last line, one JSON object. Exit code 1 if a resumed run fails or differs where it
must be equal: weights of stage 1, bytes of stage 2. For stage 3 the difference is measured.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cxr.runs.run_folder import FinishedRun, open_run
from eval.experiments.reproduce import SCRIPTS, differences_of
from tests.paths import ROOT
from tests.test_pipeline import write_configs

PREVIOUS = {"stage2": "stage1", "stage3": "stage2"}


@dataclass(frozen=True)
class Kill:
    """One kill. after_s: how long the stage had worked. found: what the kill left. differs: names; "" if equal."""

    stage: str
    after_s: float
    found: str
    differs: str
    figure_change: float


class Chain:
    """A tiny experiment in `folder`, with an undisturbed run of each stage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        write_configs(folder)
        self.seconds: dict[str, float] = {}

    def reference(self, stage: str) -> Path:
        return self._folder / "undisturbed" / stage

    def make_reference(self, stage: str) -> None:
        self._finish(stage, self._folder / "first" / stage, cwd=self._folder)  # draws the phantom
        self._finish(stage, self.reference(stage), cwd=self._folder / "first")
        phases = open_run(self.reference(stage)).manifest["phases"].values()
        self.seconds[stage] = sum(phase["seconds"] for phase in phases)

    def kill(self, stage: str, number: int, random_share: float) -> Kill:
        """Start the stage in a folder of its own with an empty picture cache, kill it, finish it and compare.

        random_share: when, as a share of the seconds that the stage takes from the start of its run folder.
        """
        cwd = self._folder / "killed" / stage / str(number)
        cwd.mkdir(parents=True)
        out, delay = cwd / "run", random_share * self.seconds[stage]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(
            self._command(stage, out), cwd=cwd, env=environment(), start_new_session=True, **silent
        )
        while not (out / "started.json").exists() and process.poll() is None:
            time.sleep(0.01)
        try:
            process.wait(delay)
            found = "finished"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            found = "finished" if (out / "manifest.json").exists() else "begun"
        self._finish(stage, out, cwd=cwd)
        left = [path.name for path in out.rglob("*") if path.name.endswith(".partial")]
        assert not left, left
        one, other = (open_run(path, stage=stage) for path in (self.reference(stage), out))
        compared = differences_of(one, other)
        change = abs(main_figure(one) - main_figure(other))
        return Kill(stage, round(delay, 2), found, ", ".join(compared.other_outputs), change)

    def _finish(self, stage: str, out: Path, *, cwd: Path) -> None:
        done = subprocess.run(
            self._command(stage, out), cwd=cwd, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{stage} in {out} ended with {done.returncode}:\n{done.stderr[-3000:]}")

    def _command(self, stage: str, out: Path) -> list[str]:
        source = ["--from", str(self.reference(PREVIOUS[stage]))] if stage in PREVIOUS else []
        script, config = str(ROOT / SCRIPTS[stage]), str(self._folder / f"{stage}.yaml")
        # fixed, because the choice by timing may differ
        fixed = ["--set", "train.precision=fp32", "train.memory_format=contiguous"] if stage == "stage1" else []
        return [sys.executable, script, config, *source, "--out", str(out), *fixed]


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
        for stage in SCRIPTS:
            chain.make_reference(stage)
            for number in range(given.num if stage in given.stages else 0):
                kill = chain.kill(stage, number, generator.random())
                kills.append(kill)
                sys.stdout.write(f"{json.dumps(asdict(kill))}\n")
                sys.stdout.flush()
            if stage == given.stages[-1]:
                break
    wrong = [kill for kill in kills if kill.differs and kill.stage != "stage3"]
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
