"""The work of ensemble.py: finished runs become one classifier, which is evaluated like any other."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr.config import UserError
from cxr.datasets import SeveralData
from cxr.datasets.own_names import read_data
from cxr.runs.hardware import usual_device
from cxr.runs.label_files import OUTPUT as LABEL_FILE
from cxr.runs.label_files import pass_on_label_file, terms_of
from cxr.runs.run_folder import FinishedRun, Run, atomic_write_text, open_run
from cxr.splits import load_splits, save_splits
from cxr.tables import Dataset
from stage1_classify.data.studies import sum_views
from stage1_classify.evaluation.evaluate import evaluation_split, finish_run
from stage1_classify.evaluation.predictions import Evidence, RawScores
from stage1_classify.model import probabilities, seen_images, seen_patients
from stage1_classify.model.classifier import settings_of_run
from stage1_classify.model.loading import Trained, assemble, is_ensemble
from stage1_classify.settings.classifier import EnsembleSettings, Stage1Settings

KEPT = ("weights", probabilities.OUTPUT, LABEL_FILE)
"""Outputs of a member that are copied."""

_SHAPING = ("size_hw", "crop_hw", "keep_aspect", "channels", "clahe_clip")
"""Settings of `input` in which members must agree. Each member may have its own mean and standard deviation."""


def open_members(sources: Sequence[Path], settings: EnsembleSettings) -> list[FinishedRun]:
    """The finished runs at `sources`, which can be combined to one classifier.

    Raises:
        UserError: nothing to combine, an unfinished run, an ensemble, a run that is given twice, or runs that differ in
            findings, data, splits, views or input (one line per difference).
    """
    repeated = [flip for flip in dict.fromkeys(settings.flips) if settings.flips.count(flip) > 1]
    if repeated:
        raise UserError(f"flips: {', '.join(repeated)} is listed more than once; list each once")
    if len(sources) == 1 and settings.flips == ["none"]:
        raise UserError(
            "--from: one run and flips [none] leave nothing to combine; give more runs, or set flips=[none,horizontal]"
        )
    runs = [open_run(path, stage="stage1") for path in sources]
    for problems_of in (_ensembles, _duplicates, _differences):
        problems = problems_of(runs)
        if problems:
            raise UserError(problems)
    return runs


def _ensembles(runs: Sequence[FinishedRun]) -> list[str]:
    problems = []
    for run in runs:
        if is_ensemble(run):
            members = [os.path.normpath(run.dir / entry["path"]) for entry in run.manifest["inputs"].values()]
            problems.append(f"--from {run.dir}: is an ensemble; give its members instead: {' '.join(members)}")
    return problems


def _duplicates(runs: Sequence[FinishedRun]) -> list[str]:
    """Runs with the same weights, also in a copied folder: they would count double."""
    first: dict[str, Path] = {}
    problems = []
    for run in runs:
        weights = run.manifest["outputs"]["weights"]["sha256"]
        if weights in first:
            problems.append(f"--from {run.dir}: has the same weights as {first[weights]}; give each run once")
        first.setdefault(weights, run.dir)
    return problems


def _differences(runs: Sequence[FinishedRun]) -> list[str]:
    first = _shared_facts(runs[0])
    return [
        f"--from {run.dir}: {name} is {facts.get(name)}, but {first.get(name)} in {runs[0].dir}; members must agree"
        for run, facts in zip(runs[1:], map(_shared_facts, runs[1:]), strict=True)
        for name in sorted(first.keys() | facts.keys())
        if first.get(name) != facts.get(name)
    ]


def _shared_facts(run: FinishedRun) -> dict[str, Any]:
    """Everything in which members must agree, so that they predict the same cases from the same images."""
    settings = settings_of_run(run)
    facts: dict[str, Any] = {"findings": settings.findings}
    sets = settings.data.sets if isinstance(settings.data, SeveralData) else {"": settings.data}
    for name, own in sets.items():
        data = own.model_dump(mode="json") | {"root": str(own.root.resolve())}
        facts |= {f"data.sets.{name}.{key}" if name else f"data.{key}": value for key, value in data.items()}
    facts |= {f"split {name}": entry["sha256"] for name, entry in run.manifest["splits"].items()}
    facts["label_file"] = run.manifest["outputs"].get(LABEL_FILE, {}).get("sha256")
    facts["views.max_views"] = settings.views.max_views
    facts["labels.not_mentioned"] = settings.labels.not_mentioned
    return facts | {f"input.{key}": getattr(settings.input, key) for key in _SHAPING}


def run(run: Run, settings: EnsembleSettings, members: Sequence[FinishedRun]) -> None:
    """Copy the members into the folder of `run`, predict validation and test with them, evaluate, and finish it."""
    folders = [run.dir / "members" / str(index) for index in range(len(members))]
    outputs = {"splits": run.dir / "splits.json", seen_patients.OUTPUT: run.dir / "seen.json"}
    outputs |= pass_on_label_file(members[0], run.dir)
    outputs[seen_images.OUTPUT] = run.dir / seen_images.FILE
    with run.phase("copying the members"):
        for index, (member, folder) in enumerate(zip(members, folders, strict=True)):
            copied = _copy_member(member, folder)
            outputs |= {f"member_{index}_{name}": path for name, path in copied.items()}
    trained = assemble(folders, settings)
    with run.phase("reading the data"):
        data, ids = _read_data(trained.settings, members[0])
    with run.phase("evaluation"):
        val, test = (_predict(trained, data.select(ids[name])) for name in ("val", "test"))
    save_splits(outputs["splits"], ids)
    before = seen_patients.union([seen_patients.read_seen(member.dir) for member in members])
    seen_patients.write_seen(outputs[seen_patients.OUTPUT], data, ids, before=before)
    images = [seen_images.read_seen_images(member.dir) for member in members]
    seen_images.write_seen_images(outputs[seen_images.OUTPUT], images)
    sources = [str(member.dir) for member in members]
    evidence = Evidence(data, ids, val, test, members=sources, combine=settings.combine)
    own = {"operating_point": settings.operating_point, "seed": settings.seed}
    copies = [folder.relative_to(run.dir).as_posix() for folder in folders]
    facts = {"members": copies, "world_size": 1, "precision": "fp32"}
    finish_run(run, trained.settings.model_copy(update=own), evidence, outputs=outputs, facts=facts)


def _read_data(settings: Stage1Settings, member: FinishedRun) -> tuple[Dataset, dict[str, list[str]]]:
    """The images of the splits, with the labels that the members need, and the splits."""
    data = read_data(settings.data, terms_of(member))
    ids = load_splits(member.output("splits"))
    settings.split.check(data, ids)
    used = data.select(image_id for part in ids.values() for image_id in part)
    return replace(used, labels=used.labels[settings.label_columns]), ids


def _copy_member(run: FinishedRun, folder: Path) -> dict[str, Path]:
    """Copy the classifier as a separate finished run. Returns the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: entry for name, entry in run.manifest["outputs"].items() if name in KEPT}
    files = {"manifest": folder / "manifest.json"}
    for name, entry in kept.items():
        files[name] = folder / Path(entry["path"]).name
        shutil.copyfile(run.output(name), files[name])
    outputs = {name: entry | {"path": files[name].name} for name, entry in kept.items()}
    manifest = run.manifest | {"outputs": outputs, "settings": settings_of_run(run).model_dump(mode="json")}
    atomic_write_text(files["manifest"], json.dumps(manifest, indent=1) + "\n")
    return files


def _predict(trained: Trained, data: Dataset) -> RawScores:
    split = evaluation_split(data, trained.settings, progress=True)
    each = trained.logits(split.pictures, device=usual_device(), progress=True)
    return RawScores(split, trained.raw([sum_views(logits, split.cases.views) for logits in each]))
