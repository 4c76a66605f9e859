"""The runs behind a detector: stage 2, which made its pseudo-labels, and stage 1, the classifier. Needs no PyTorch."""

from dataclasses import dataclass
from pathlib import Path

from cxr.runs.run_folder import FinishedRun, open_input


@dataclass(frozen=True)
class RunChain:
    """stage2: the run; stage1: the folder of the run. None from where a folder of the chain was moved."""

    stage2: FinishedRun | None
    stage1: Path | None


def chain_of(run: FinishedRun) -> RunChain:
    """The chain of a stage 2 or stage 3 run, found through the inputs that the runs recorded."""
    stage2 = open_input(run, "stage2") if run.stage == "stage3" else run
    stage1 = None if stage2 is None else open_input(stage2, "stage1")
    return RunChain(stage2, None if stage1 is None else stage1.dir)
