"""A tiny classification task: dark pictures, non-square, with a bright patch where the finding is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxr.config import parse_settings
from cxr.labels import load_terminology
from cxr.runs.run_folder import start_run
from cxr.splits import save_splits
from stage1_classify.data.hierarchy import make_hierarchy, with_tree
from stage1_classify.data.studies import sum_views
from stage1_classify.evaluation.evaluate import evaluation_split, finish_run
from stage1_classify.evaluation.predictions import Evidence, RawScores
from stage1_classify.model.classifier import Classifier
from stage1_classify.model.predict import predict_logits
from stage1_classify.model.probabilities import Probabilities, uncalibrated
from stage1_classify.model.seen_patients import write_seen
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.checkpoint import save_weights
from tests.builders import write_picture, write_rows

FINDINGS = ["Lung Lesion", "Pleural Effusion"]


def patch_folder(root: Path, *, num_images: int = 36) -> Path:
    """PNGs with patches: Lung Lesion top left, Pleural Effusion bottom right; a CSV, one patient an image."""
    rows = []
    for index in range(num_images):
        lesion, effusion = index % 2, index % 3 == 0
        path = root / "images" / f"p{index:03d}.png"
        box = (5, 5, 20, 18) if lesion else (40, 25, 58, 38) if effusion else None
        write_picture(path, (40, 60), bright_xyxy=box)
        effusion_label = int(effusion and not lesion)
        rows.append([f"images/p{index:03d}.png", f"patient{index}", lesion, effusion_label])
    write_rows(root / "labels.csv", ["path", "patient", *FINDINGS], rows)
    return root


def stage1_settings(root: Path, **changes: Any) -> Stage1Settings:
    """Settings for `patch_folder`: 3 epochs of a tiny network. `changes` replace whole sections' keys."""
    values: dict[str, Any] = {
        "data": {
            "dataset": "csv_table",
            "root": str(root),
            "table": "labels.csv",
            "columns": {"image": "path", "patient": "patient"},
            "findings": {name: name for name in FINDINGS},
        },
        "split": {"kind": "patients", "fractions": {"train": 0.6, "val": 0.2, "test": 0.2}},
        "findings": FINDINGS,
        "backbone": {"name": "test_convnext", "feature_stage": 1},
        "input": {"size_hw": [32, 48], "cache_dir": str(root / "cache")},
        "augment": {
            "affine_probability": 0.5,
            "contrast_probability": 0.5,
            "flip_probability": 0,
            "grid_probability": 0,
            "elastic_probability": 0,
            "erase_probability": 0.5,
        },
        "optimizer": {"learning_rate": 0.003},
        "train": {"num_epochs": 3, "batch_size": 4, "min_positives": 1, "memory_format": "channels_last"},
    }
    for section, keys in changes.items():
        values[section] = {**values.get(section, {}), **keys} if isinstance(keys, dict) else keys
    return parse_settings(Stage1Settings, values, source="test")


def targets(*rows: list[float]) -> np.ndarray:
    """Rows of targets as float32."""
    return np.array(rows, dtype=np.float32)


def as_read(settings: Stage1Settings) -> Stage1Settings:
    """The settings as a finished run gives them back: with the tree of the built-in findings."""
    return settings.model_copy(update={"hierarchy": with_tree(settings.hierarchy, load_terminology(None))})


def untrained_run(settings: Stage1Settings, out: Path, *, weights_seed: int) -> Path:
    """A finished run of a network with random weights."""
    torch.manual_seed(weights_seed)
    model = Classifier(settings)
    torch.nn.init.normal_(model.head.classifier.weight)
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    data = settings.data.read()
    data = replace(data, labels=data.labels[settings.findings])
    ids = settings.split.make(data)
    outputs = {"weights": out / "best.safetensors", "splits": out / "splits.json", "seen": out / "seen.json"}
    save_weights(outputs["weights"], model)
    save_splits(outputs["splits"], ids)
    write_seen(outputs["seen"], data, ids, before={})
    raw = Probabilities(make_hierarchy(settings.hierarchy, settings.findings), uncalibrated(len(settings.findings))).raw
    results = {}
    for name in ("val", "test"):
        split = evaluation_split(data.select(ids[name]), settings, progress=False)
        channels = settings.backbone.in_channels
        logits = predict_logits(model, split.pictures, num_channels=channels)
        results[name] = RawScores(split, raw(sum_views(logits, split.cases.views)))
    train = evaluation_split(data.select(ids["train"]), settings, progress=False)
    evidence = Evidence(data, ids, results["val"], results["test"], train=train)
    finish_run(run, settings, evidence, outputs=outputs, facts={"world_size": 1})
    return out
