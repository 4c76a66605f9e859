"""Settings that train on corrections: those of the run that was corrected, and of its classifier."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cxr.runs.label_files import label_file_of
from cxr.runs.run_folder import FinishedRun, atomic_write_text, open_input
from stage3_detect.serving.corrections.store import BOXES, LABELS

STAGE1, STAGE3 = "stage1.yaml", "stage3.yaml"
_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def write_stage3(out: Path, run: FinishedRun, stage2: FinishedRun) -> str:
    """The settings of the run with the corrections, compared with the run itself; returns the command."""
    labels = {**run.settings["labels"], "corrections": {"path": str(out / BOXES)}}
    others = {**run.settings["compare_with"], "before": str(run.dir)}
    settings = {**run.settings, "labels": labels, "compare_with": others}
    command = f"python stage3_detect/run.py {out / STAGE3} --from {stage2.dir} --out {run.dir}_corrected"
    about = f"The settings of {run.dir} with readers' corrections. The report compares the detector with that run."
    _write_settings(out / STAGE3, about, command, settings)
    return command


def write_stage1(out: Path, stage2: FinishedRun, root: Path, findings: tuple[str, ...]) -> list[str]:
    """Settings that train the chain's classifier on the labels; returns the command, none if its run is not there."""
    stage1 = open_input(stage2, "stage1")
    if stage1 is None or stage1.stage != "stage1":  # an ensemble has no settings of a training
        return []
    label_file = label_file_of(stage1)
    known = [name for name in stage1.settings["findings"] if name in findings]
    columns = {"image": "path", "patient": "patient", "study": "study"}
    table = {"table": str((out / LABELS).resolve()), "columns": columns, "findings": {name: name for name in known}}
    settings = {
        **{name: value for name, value in stage1.settings.items() if name not in ("views", "hierarchy")},
        "data": {"dataset": "csv_table", "root": str(root), **table},
        "split": {"kind": "patients", "fractions": _SHARES},
        "label_file": None if label_file is None else str(label_file),
        "findings": known,
        "init_from": str(stage1.dir),
        "labels": {**stage1.settings["labels"], "not_mentioned": "ignore"},
        "sampling": {**stage1.settings["sampling"], "set_weights": {}},  # the corrected images are one data set
    }
    command = f"python stage1_classify/run.py {out / STAGE1} --out {stage1.dir}_corrected"
    about = (
        f"The classifier of {stage1.dir}, trained further on the corrected images alone. It needs some hundreds of "
        "them. For fewer, append the rows of labels.csv to the table that you train on."
    )
    _write_settings(out / STAGE1, about, command, settings)
    return [command]


def _write_settings(path: Path, about: str, command: str, settings: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    atomic_write_text(path, f"# {about}\n# Command: {command}\n{text}")
