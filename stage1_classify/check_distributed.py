"""Whether several processes train as one: ``run.py CONFIG --check-distributed N``.

Both trainings take the settings' global batch. They run in processes of their own, on the CPU (gloo) where the machine
has fewer than N GPUs.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cxr.config import UserError, parse_settings
from cxr.runs.run_folder import start_run
from cxr.threads import num_cores
from stage1_classify.pipeline import prepare
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.record_differences import LIMITS, Difference, differences
from stage1_classify.training.recording import read_record, record

_SETTINGS, _PROBLEM = "settings.json", "problem.json"


def check_distributed(settings: Stage1Settings, num_processes: int) -> str:
    """Train a few steps with one process and with `num_processes`; returns what was compared, in lines.

    Raises:
        UserError: a training fails, or something differs by more than its limit; names the first difference.
    """
    if num_processes < 1:
        raise UserError(f"--check-distributed: got {num_processes}, expected the number of processes")
    if settings.train.batch_size % num_processes:
        raise UserError(
            f"train.batch_size: got {settings.train.batch_size}, expected a multiple of the {num_processes} processes"
        )
    settings = fixed_computation(settings)
    with tempfile.TemporaryDirectory(prefix="raybox-check-") as folder:
        outs = Path(folder) / "one", Path(folder) / "many"
        for out, number in zip(outs, (1, num_processes), strict=True):
            _train(settings, out, number)
        one, many = map(read_record, outs)
        found = list(differences(one, many, LIMITS[settings.train.precision]))
        num_steps = len(one.steps)
    return _summary(found, num_processes, num_steps, settings.train.precision)


def fixed_computation(settings: Stage1Settings) -> Stage1Settings:
    """`settings` with a precision and memory format that do not depend on timing."""
    train = settings.train
    changes: dict[str, Any] = {"precision": "fp32"} if train.precision == "auto" else {}
    changes |= {"memory_format": "contiguous"} if train.memory_format == "auto" else {}
    return settings.model_copy(update={"train": train.model_copy(update=changes), "tracking": "off"})


def _summary(found: Sequence[Difference], num_processes: int, num_steps: int, precision: str) -> str:
    wrong = [one for one in found if not one.is_tolerated]
    if wrong:
        first = wrong[0]
        amount = first.about if first.limit == 0 else f"{first.value:.2g} of its size, limit {first.limit:.2g}"
        more = f"; {first.about}" if first.limit and first.about else ""
        raise UserError(
            f"processes: {num_processes} processes do not train as one; the first difference, {first.moment}: "
            f"{first.part}, {amount}{more}; {len(wrong)} of {len(found)} comparisons differ; train with one process"
        )
    lines = [f"{num_processes} processes train as one: {num_steps} steps in {precision}, {len(found)} comparisons"]
    for part in dict.fromkeys(one.part for one in found):
        same = [one for one in found if one.part == part]
        worst = max(same, key=lambda one: one.value)
        amount = f"largest relative difference {worst.value:.2g} ({worst.moment})" if worst.value else "equal"
        lines.append(f"  {part}: {amount}, limit {worst.limit:.2g}")
    return "\n".join(lines)


def _train(settings: Stage1Settings, out: Path, num_processes: int) -> None:
    """Record a training of `num_processes` processes in `out`. UserError with what the processes say."""
    out.mkdir()
    (out / _SETTINGS).write_text(settings.model_dump_json(), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    start = launcher if num_processes > 1 else []
    environment = {"OMP_NUM_THREADS": str(max(1, num_cores() // num_processes))} | os.environ
    if torch.cuda.device_count() < num_processes:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, *start, __file__, str(out)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return
    if (out / _PROBLEM).is_file():
        raise UserError(json.loads((out / _PROBLEM).read_text(encoding="utf-8")))
    raise RuntimeError(f"a training of {num_processes} processes failed:\n{done.stderr[-5000:]}")


def main(out: Path) -> int:
    """One of the processes: train, and write the record into `out`."""
    values = json.loads((out / _SETTINGS).read_text(encoding="utf-8"))
    settings = parse_settings(Stage1Settings, values, source=str(out))
    fabric = make_fabric(settings)
    try:
        run = start_run(out / "run", stage="stage1", settings=settings, inputs={}, processes=fabric)
        prepared = prepare(run, settings, fabric)
        record(fabric, prepared.splits, prepared.settings, out)
    except UserError as error:
        if fabric.is_global_zero:
            (out / _PROBLEM).write_text(json.dumps(error.problems), encoding="utf-8")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
