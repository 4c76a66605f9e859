"""Make a finished run again from its folder, and compare: `eval/run.py reproduce RUN`."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cxr.config import UserError
from cxr.runs.job_start import Job
from cxr.runs.jobs import run_command, run_jobs
from cxr.runs.label_files import label_file_of
from cxr.runs.provenance import code_state
from cxr.runs.run_folder import FinishedRun, open_input, open_run
from cxr.runs.whole_files import next_to

SCRIPTS = {"stage1": "stage1_classify/run.py", "stage2": "stage2_pseudolabel/run.py", "stage3": "stage3_detect/run.py"}

_PREVIOUS = {"stage2": "stage1", "stage3": "stage2"}
_TIMED = ("ms_per_image/", "peak_mib/")
_WITH_TIMES = frozenset({"report", "model_card", "leaderboard", "leaderboard_csv", "leaderboard_json"})
"""Outputs that hold times, which differ between two runs."""

_SHOWN = 10

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Comparison:
    """Names of outputs with other bytes, and lines about metrics with other values."""

    num_outputs: int
    num_metrics: int
    other_outputs: tuple[str, ...]
    other_metrics: tuple[str, ...]


def reproduce(path: Path, *, out: Path | None = None) -> str:
    """Run the stage of the finished run `path` again with its settings and inputs; returns the result in one line.

    out: folder of the new run, by default ``<path>_again``. Paths in the settings are relative to the current folder,
    as they were for the first run.

    Raises:
        UserError: not a run of stage 1, 2 or 3, its input was moved or changed, the new run fails, or it differs.
    """
    run = open_run(path)
    if run.stage not in SCRIPTS:
        raise UserError(f"run {path}: is a run of {run.stage}, expected one of {', '.join(SCRIPTS)}")
    out = next_to(path, "_again") if out is None else out
    if (commit := code_state()["commit"]) != run.manifest.get("commit"):
        log.warning("the run was made at commit %s, the code is now at %s", run.manifest.get("commit"), commit)
    (outcome,) = run_jobs([Job("reproduction", out, _command(run))])
    if outcome.problem:
        raise UserError(f"run {path}: cannot be made again: {outcome.problem}")
    found = differences_of(run, open_run(out, stage=run.stage))
    if found.other_outputs or found.other_metrics:
        raise UserError(list(_problems(path, out, found)))
    return f"{out}: equal to {path} in {found.num_metrics} metrics and the bytes of {found.num_outputs} outputs"


def _command(run: FinishedRun) -> tuple[str, ...]:
    sources = []
    if (name := _PREVIOUS.get(run.stage)) is not None:
        source = open_input(run, name)
        if source is None:
            raise UserError(f"run {run.dir}: its input, the run of {name}, is not where it was; move it back")
        sources.append(source.dir)
    # what a stage chose by timing is given, so that it is the same again
    chosen = {
        f"train.{name}": run.manifest[name]
        for name in ("precision", "memory_format")
        if run.stage == "stage1" and name in run.manifest
    }
    if (kept := label_file_of(run)) is not None and run.stage == "stage1":
        chosen["label_file"] = str(kept)  # the original may have changed
    script = Path(__file__).parents[2] / SCRIPTS[run.stage]
    return run_command(script, run.dir / "config.yaml", chosen, sources=sources)


def differences_of(run: FinishedRun, again: FinishedRun) -> Comparison:
    """Compare metrics and outputs, except those that hold times."""
    outputs = [{n: e["sha256"] for n, e in r.manifest["outputs"].items() if n not in _WITH_TIMES} for r in (run, again)]
    metrics = [{n: v for n, v in r.metrics.items() if not n.startswith(_TIMED)} for r in (run, again)]
    names = sorted(metrics[0].keys() | metrics[1].keys())
    differing = [name for name in names if metrics[0].get(name) != metrics[1].get(name)]
    return Comparison(
        len(outputs[0]),
        len(metrics[0]),
        tuple(n for n in sorted(outputs[0].keys() | outputs[1].keys()) if outputs[0].get(n) != outputs[1].get(n)),
        tuple(f"{name}: {metrics[0].get(name)} -> {metrics[1].get(name)}" for name in differing),
    )


def _problems(path: Path, out: Path, found: Comparison) -> Iterator[str]:
    yield (
        f"run {path}: {out} differs in {len(found.other_metrics)} of {found.num_metrics} metrics and "
        f"{len(found.other_outputs)} of {found.num_outputs} outputs"
    )
    for kind, names in (("output", found.other_outputs), ("metric", found.other_metrics)):
        yield from (f"  {kind} {name}" for name in names[:_SHOWN])
        if len(names) > _SHOWN:
            yield f"  and {len(names) - _SHOWN} more {kind}s"
