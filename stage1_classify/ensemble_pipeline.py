"""The work of ensemble.py: finished runs that fit together become one classifier, judged like any other."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, Run, atomic_write_text, open_run
from cxr.splits import check_no_leak, load_splits, save_splits
from cxr.tables import Dataset
from stage1_classify.data.studies import sum_views
from stage1_classify.evaluation.evaluate import Evidence, RawScores, evaluation_split, finish_run
from stage1_classify.model import probabilities, seen
from stage1_classify.model.classifier import settings_of_run
from stage1_classify.model.loading import Trained, assemble, is_ensemble
from stage1_classify.settings.classifier import EnsembleSettings, Stage1Settings

KEPT = ("weights", probabilities.OUTPUT)
"""Outputs of a member that its copy holds."""

_SHAPING = ("size_hw", "keep_aspect", "channels", "clahe_clip")
"""Settings of `input` that shape a picture; mean and standard deviation come after it, for each member its own."""


def open_members(sources: Sequence[Path], settings: EnsembleSettings) -> list[FinishedRun]:
    """The finished runs at `sources`, which fit together as one classifier.

    Raises:
        UserError: nothing to combine, an unfinished run or an ensemble among them, a run that is given twice, or runs
            that differ in findings, data, splits, views or input (one line a difference).
    """
    repeated = [flip for flip in dict.fromkeys(settings.flips) if settings.flips.count(flip) > 1]
    if repeated:
        raise UserError(f"flips: {', '.join(repeated)} is listed more than once; list each form once")
    if len(sources) == 1 and settings.flips == ["none"]:
        raise UserError(
            "--from: one run and flips [none] leave nothing to combine; give more runs, or set flips=[none,horizontal]"
        )
    runs = [open_run(path, stage="stage1") for path in sources]
    _refuse_ensembles(runs)
    _refuse_duplicates(runs)
    _refuse_differences(runs)
    return runs


def _refuse_ensembles(runs: Sequence[FinishedRun]) -> None:
    problems = [
        f"--from {run.dir}: is an ensemble; give its members instead: {' '.join(_members_of(run))}"
        for run in runs
        if is_ensemble(run)
    ]
    if problems:
        raise UserError(problems)


def _members_of(ensemble: FinishedRun) -> list[str]:
    return [os.path.normpath(ensemble.dir / entry["path"]) for entry in ensemble.manifest["inputs"].values()]


def _refuse_duplicates(runs: Sequence[FinishedRun]) -> None:
    """The same weights twice would count double, also from a copied folder."""
    first: dict[str, Path] = {}
    problems = []
    for run in runs:
        weights = run.manifest["outputs"]["weights"]["sha256"]
        if weights in first:
            problems.append(f"--from {run.dir}: has the same weights as {first[weights]}; give each run once")
        first.setdefault(weights, run.dir)
    if problems:
        raise UserError(problems)


def _refuse_differences(runs: Sequence[FinishedRun]) -> None:
    first = _shared_facts(runs[0])
    problems = []
    for run in runs[1:]:
        facts = _shared_facts(run)
        problems += [
            f"--from {run.dir}: {name} is {facts.get(name)}, but {first.get(name)} in {runs[0].dir}; "
            "members must agree in it"
            for name in sorted(first.keys() | facts.keys())
            if first.get(name) != facts.get(name)
        ]
    if problems:
        raise UserError(problems)


def _shared_facts(run: FinishedRun) -> dict[str, Any]:
    """What members must have in common, flat: they are judged on the same cases, and see the same pictures."""
    settings = settings_of_run(run)
    data = settings.data.model_dump(mode="json") | {"root": str(settings.data.root.resolve())}
    facts: dict[str, Any] = {"findings": settings.findings}
    facts |= {f"data.{key}": value for key, value in data.items()}
    facts |= {f"split {name}": entry["sha256"] for name, entry in run.manifest["splits"].items()}
    facts["views.max_views"] = settings.views.max_views
    facts["labels.not_mentioned"] = settings.labels.not_mentioned
    return facts | {f"input.{key}": getattr(settings.input, key) for key in _SHAPING}


class Ensemble:
    """Settings, run folder and members of one ensemble."""

    def __init__(self, run: Run, settings: EnsembleSettings, members: Sequence[FinishedRun]) -> None:
        self.run, self.settings, self.members = run, settings, members

    def __call__(self) -> None:
        """Copy the members, predict validation and test with them, judge, and finish the run."""
        with self.run.phase("copying the members"):
            folders = [self.run.dir / "members" / str(index) for index in range(len(self.members))]
            copies = [
                _copy_member(member, folder) for member, folder in zip(self.members, folders, strict=True)
            ]
        trained = assemble(folders, self.settings)
        with self.run.phase("reading the data"):
            data, ids = self._read_data(trained.settings)
        with self.run.phase("evaluation"):
            val, test = (_judge(trained, data.select(ids[name])) for name in ("val", "test"))
        outputs = self._bookkeeping(data, ids)
        for index, copy in enumerate(copies):
            outputs |= {f"member_{index}_{name}": path for name, path in copy.items()}
        settings = trained.settings.model_copy(
            update={"operating_point": self.settings.operating_point, "seed": self.settings.seed}
        )
        sources = [str(member.dir) for member in self.members]
        evidence = Evidence(data, ids, val, test, members=sources, combine=self.settings.combine)
        members = [folder.relative_to(self.run.dir).as_posix() for folder in folders]
        facts = {"members": members, "world_size": 1, "precision": "fp32"}
        finish_run(self.run, settings, evidence, outputs=outputs, facts=facts)

    def _read_data(self, settings: Stage1Settings) -> tuple[Dataset, dict[str, list[str]]]:
        """The images of the splits, with labels of the members' findings alone; and the splits."""
        data = settings.data.read()
        ids = load_splits(self.members[0].output("splits"))
        check_no_leak(data, ids)
        used = data.select(image_id for part in ids.values() for image_id in part)
        return replace(used, labels=used.labels[settings.findings]), ids

    def _bookkeeping(self, data: Dataset, ids: Mapping[str, list[str]]) -> dict[str, Path]:
        """Splits, and whom any of the members has seen."""
        outputs = {"splits": self.run.dir / "splits.json", seen.OUTPUT: self.run.dir / "seen.json"}
        save_splits(outputs["splits"], ids)
        before = seen.union([seen.read_seen(member.dir) for member in self.members])
        seen.write_seen(outputs[seen.OUTPUT], data, ids, before=before)
        return outputs


def _copy_member(run: FinishedRun, folder: Path) -> dict[str, Path]:
    """Copy what makes the classifier, as a finished run of its own; returns the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: entry for name, entry in run.manifest["outputs"].items() if name in KEPT}
    files = {"manifest": folder / "manifest.json"}
    for name, entry in kept.items():
        files[name] = folder / Path(entry["path"]).name
        shutil.copyfile(run.output(name), files[name])
    outputs = {name: entry | {"path": files[name].name} for name, entry in kept.items()}
    settings = settings_of_run(run).model_dump(mode="json")
    manifest = run.manifest | {"outputs": outputs, "settings": settings}
    atomic_write_text(files["manifest"], json.dumps(manifest, indent=1) + "\n")
    return files


def _judge(trained: Trained, data: Dataset) -> RawScores:
    split = evaluation_split(data, trained.settings, progress=True)
    each = trained.logits(
        split.pictures, device="cuda" if torch.cuda.is_available() else "cpu", progress=True
    )
    return RawScores(split, trained.raw([sum_views(logits, split.cases.views) for logits in each]))
