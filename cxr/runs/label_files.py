"""The label file in run folders: each run keeps a copy, so that later stages know its findings without the original."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from cxr.labels import Terminology, load_terminology
from cxr.runs.run_folder import FinishedRun

OUTPUT = "label_file"
FILE_NAME = "label_file.yaml"


def keep_label_file(source: Path | None, folder: Path) -> None:
    """Copy a label file, if there is one, into a run folder."""
    copy = folder / FILE_NAME
    if source is not None and source.resolve() != copy.resolve():
        shutil.copyfile(source, copy)


def kept_label_file(folder: Path) -> dict[str, Path]:
    """The copy in a run folder as an output of the run; none without a copy."""
    return {OUTPUT: folder / FILE_NAME} if (folder / FILE_NAME).is_file() else {}


def label_file_of(run: FinishedRun) -> Path | None:
    """The label file that a run kept. UserError if it no longer exists."""
    return run.output(OUTPUT) if OUTPUT in run.manifest["outputs"] else None


def pass_on_label_file(source: FinishedRun, folder: Path) -> dict[str, Path]:
    """Copy the label file of an earlier run into `folder`; returns the output by name, none without a file."""
    keep_label_file(label_file_of(source), folder)
    return kept_label_file(folder)


def terms_of(run: FinishedRun) -> Terminology:
    """The findings of a run. UserError as `load_terminology`."""
    return load_terminology(label_file_of(run))


def terms_of_outputs(outputs: Mapping[str, Path]) -> Terminology:
    """The findings of a run that is being written."""
    return load_terminology(outputs.get(OUTPUT))
