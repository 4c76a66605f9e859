"""Stage 1 from data to finished run: read, train, evaluate."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from lightning_fabric import Fabric

from cxr.arrays import Float32s
from cxr.config import UserError
from cxr.datasets import SeveralData, make_splits
from cxr.datasets.own_names import read_data
from cxr.imaging.pictures import Pictures, decodable_splits, resolved_input
from cxr.labels import Terminology, check_findings, load_terminology
from cxr.runs.label_files import keep_label_file, kept_label_file
from cxr.runs.run_folder import Run, atomic_write_text
from cxr.splits import load_splits, save_splits
from cxr.tables import Dataset, count_reasons
from eval.audit.overview import finding_counts
from stage1_classify.data.batches import Split, check_no_empty_finding
from stage1_classify.data.hierarchy import make_hierarchy, with_tree
from stage1_classify.data.studies import Cases, make_cases, sum_views
from stage1_classify.data.targets import policies, training_targets
from stage1_classify.evaluation.evaluate import evaluation_split, finish_run
from stage1_classify.evaluation.predictions import Evidence, RawScores
from stage1_classify.model import relabel, seen_images, seen_patients
from stage1_classify.model.classifier import Classifier, read_classifier
from stage1_classify.model.predict import predict_logits
from stage1_classify.model.probabilities import sigmoid
from stage1_classify.model.weights import check_normalisation
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.computation import with_computation
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.train import fit
from stage1_classify.training.validation import check_selectable

Ids = dict[str, list[str]]
"""Split name -> image ids."""

SPLITS = ("train", "val", "test")

LABELS = "labels.sha256"
"""Holds the hash of the labels with which a training began."""

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Prepared:
    """The data of a run.

    settings: with the resolved normalisation and tree. seen_before: patients that earlier classifiers have seen.
    images: those that this classifier and earlier ones see (`seen_images.COLUMNS`).
    """

    data: Dataset
    ids: Ids
    splits: Mapping[str, Split]
    settings: Stage1Settings
    seen_before: seen_patients.Seen
    images: pd.DataFrame


def prepare(run: Run, settings: Stage1Settings, fabric: Fabric) -> Prepared:
    """Read and check the data, and pin it in the folder of `run`."""
    is_first = fabric.is_global_zero
    if is_first:
        keep_label_file(settings.label_file, run.dir)
    terms = load_terminology(settings.label_file)
    settings = settings.model_copy(update={"hierarchy": with_tree(settings.hierarchy, terms)})
    data, ids = _read_data(settings, terms, progress=is_first)
    sources = [path for path in (settings.init_from, settings.labels.teacher) if path is not None]
    seen_before = seen_patients.union([seen_patients.check_source(path, data, ids) for path in sources])
    data, ids, images = _without_copies(data, ids, settings, sources, progress=is_first)
    _pin_data(run, data, ids, write=is_first)
    train, settings = _training_split(data.select(ids["train"]), run, settings, fabric)
    others = {name: evaluation_split(data.select(ids[name]), settings, progress=is_first) for name in ("val", "test")}
    splits = {"train": train, **others}
    _log_cases(ids, splits)
    check_selectable(splits["val"].targets, settings)
    return Prepared(data, ids, splits, settings, seen_before, images)


def run(run: Run, settings: Stage1Settings, fabric: Fabric) -> None:
    """Train and evaluate a classifier in the folder of `run`. All processes train, the first one evaluates."""
    with run.phase("reading the data"):
        prepared = prepare(run, settings, fabric)
    splits = prepared.splits
    with run.phase("training"):
        settings = with_computation(run, prepared.settings, fabric)
        fabric = make_fabric(settings)  # the same processes, in the chosen precision
        progress = fit(fabric, splits["train"], splits["val"], settings, run.dir)
    if not fabric.is_global_zero:
        return
    log.info("best epoch %d of %d", progress.best_epoch, progress.epoch)
    with run.phase("evaluation"):
        model = read_classifier(settings, run.dir / "best.safetensors").to(fabric.device)
        scored_val, scored_test = (_predict(model, splits[name], settings) for name in ("val", "test"))
        evidence = Evidence(prepared.data, prepared.ids, scored_val, scored_test, train=splits["train"])
        facts = {
            "normalisation": {"mean": settings.input.mean, "std": settings.input.std},
            "world_size": fabric.world_size,
            "precision": settings.train.precision,
            "memory_format": settings.train.memory_format,
            "best_epoch": progress.best_epoch,
        }
        finish_run(run, settings, evidence, outputs=_training_outputs(run, prepared), facts=facts)


def _training_outputs(run: Run, prepared: Prepared) -> dict[str, Path]:
    """Write what the classifier has seen. Returns output name -> path of this and of the files that training wrote."""
    files = {"weights": "best.safetensors", "splits": "splits.json", seen_patients.OUTPUT: "seen.json"}
    files[seen_images.OUTPUT] = seen_images.FILE
    if prepared.settings.labels.teacher is not None:
        files["relabelled"] = relabel.TABLE
    outputs = {name: run.dir / file for name, file in files.items()}
    seen_patients.write_seen(outputs[seen_patients.OUTPUT], prepared.data, prepared.ids, before=prepared.seen_before)
    seen_images.write_seen_images(outputs[seen_images.OUTPUT], [prepared.images])
    return outputs | kept_label_file(run.dir)


def _read_data(settings: Stage1Settings, terms: Terminology, *, progress: bool) -> tuple[Dataset, Ids]:
    """The images of the splits, with the labels that the settings need, and the splits."""
    data = read_data(settings.data, terms)
    advice = "edit `findings` in CONFIG: those to learn stand there next to `data`"
    check_findings(settings.findings, data.findings, source="findings", advice=advice)
    check_findings(settings.subgroups, data.findings, source="subgroups")
    # by the labels of the data set, so that runs with other findings have the same splits
    ids = make_splits(data, settings.split, settings.data)
    data = replace(data, labels=data.labels[settings.label_columns])
    data, ids = decodable_splits(
        data,
        {name: ids.get(name, []) for name in SPLITS},
        settings.input,
        on_problem=settings.data.on_problem,
        progress=progress,
    )
    for reason, count in count_reasons(data.excluded).items():
        log.info("excluded from %s: %d x %s", data.name, count, reason)
    _check_not_empty(ids)
    return data, ids


def _check_not_empty(ids: Ids) -> None:
    missing = [name for name in SPLITS if not ids[name]]
    if missing:
        raise UserError(f"split: no images in {' and '.join(missing)}; stage 1 needs {', '.join(SPLITS)}")


def _without_copies(
    data: Dataset, ids: Ids, settings: Stage1Settings, sources: Sequence[Path], *, progress: bool
) -> tuple[Dataset, Ids, pd.DataFrame]:
    """Data and splits without copies of images that must not be in val or test, and the images that are seen.

    Those are images that a run in `sources` has seen and, in a run of several data sets, images of another set.
    """
    hashes = seen_images.content_hashes(data, settings.input, progress=progress)
    earlier = [seen_images.read_seen_images(path) for path in sources]
    for table in earlier:
        data, ids = seen_images.without_copies(
            data, ids, seen_images.forbidden(table), hashes, on_problem=settings.data.on_problem
        )
    own = seen_images.table_of(data, {name: ids[name] for name in ("train", "val")}, hashes)
    if isinstance(settings.data, SeveralData):
        data, ids = seen_images.without_copies(
            data, ids, seen_images.forbidden(own), hashes, on_problem=settings.data.on_problem, same_set=False
        )
        own = seen_images.table_of(data, {name: ids[name] for name in ("train", "val")}, hashes)
    _check_not_empty(ids)
    return data, ids, pd.concat([*earlier, own], ignore_index=True)


def _pin_data(run: Run, data: Dataset, ids: Ids, *, write: bool) -> None:
    """Save splits and labels at the first start. UserError if a resumed run has others."""
    splits, pinned = run.dir / "splits.json", run.dir / LABELS
    labels = hashlib.sha256(data.labels.to_numpy(np.float64).tobytes()).hexdigest()
    if run.state == "resumed" and splits.is_file():
        changed = [] if load_splits(splits) == ids else ["images or splits"]
        if not changed and pinned.is_file() and pinned.read_text(encoding="utf-8") != labels:
            changed.append("labels")
        if changed:
            raise UserError(f"run {run.dir}: the data's {changed[0]} changed since it began; give another --out")
    if write:
        save_splits(splits, ids)
        atomic_write_text(pinned, labels)


def _training_split(data: Dataset, run: Run, settings: Stage1Settings, fabric: Fabric) -> tuple[Split, Stage1Settings]:
    """The training cases, and the settings with the mean and standard deviation that images are normalised by."""
    check_no_empty_finding(data.labels[settings.findings], split="train")
    is_first = fabric.is_global_zero
    cases = make_cases(data, settings.views.max_views)
    pictures = Pictures(data, settings.input, progress=is_first)
    resolved = resolved_input(settings.input, pictures, num_channels=settings.backbone.in_channels, progress=is_first)
    if is_first:
        check_normalisation(settings.backbone, mean=resolved.mean, std=resolved.std)
    targets = make_hierarchy(settings.hierarchy, settings.findings).propagate(_targets(cases, run, settings, fabric))
    split = Split(pictures.normalised_by(resolved), cases, targets)
    return split, settings.model_copy(update={"input": resolved})


def _targets(cases: Cases, run: Run, settings: Stage1Settings, fabric: Fabric) -> Float32s:
    labels = cases.first.labels[settings.findings]
    by_finding = policies(list(labels.columns), settings.labels)
    counts = finding_counts(labels).assign(policy=pd.Series(by_finding, dtype=object))
    log.info("training labels:\n%s", counts.to_string())
    teacher = None
    if settings.labels.teacher is not None:
        with fabric.rank_zero_first():
            teacher = relabel.relabel(
                settings.labels, cases.first, settings.findings, run_dir=run.dir, device=fabric.device
            )
    return training_targets(labels, settings.labels, seed=settings.seed, teacher=teacher)


def _predict(model: Classifier, split: Split, settings: Stage1Settings) -> RawScores:
    logits = predict_logits(model, split.pictures, num_channels=settings.backbone.in_channels, progress=True)
    hierarchy = make_hierarchy(settings.hierarchy, settings.findings)
    return RawScores(split, hierarchy.multiply(sigmoid(sum_views(logits, split.cases.views))))


def _log_cases(ids: Ids, splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        log.info("%s: %d images, %d cases", name, len(ids[name]), len(split.cases))
        for reason, count in count_reasons(split.cases.left_out).items():
            log.info("excluded from %s: %d x %s", name, count, reason)
