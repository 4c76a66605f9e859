"""The report of a training: curves, figures a finding, and the pictures that the network saw."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cxr.labels import slug
from cxr.tracking import read_log
from eval.charts import plot_curves
from eval.pictures import as_rgb, grid, save_png
from eval.report import Figure, Table, Text, write_report
from stage1_classify.augment import Augmentation
from stage1_classify.config import Stage1Settings
from stage1_classify.data import Split

_COLUMNS = ("auroc", "auprc", "f1", "sensitivity", "specificity", "accuracy")
_SAMPLES = 12

Figures = Mapping[str, float | None]


def write_summary(
    run_dir: Path, settings: Stage1Settings, metrics: Figures, *, train: Split, counts: Mapping[str, int]
) -> Path:
    """Write ``report.html`` with its pictures; returns its path."""
    pictures = run_dir / "pictures"
    curves = read_log(run_dir)
    epochs = [float(entry["step"]) for entry in curves]
    by_name = {
        name: (epochs, [_plain(entry.get(key)) for entry in curves])
        for name, key in (("training loss", "train/loss"), ("validation loss", "val/loss"))
    }
    plot_curves(pictures / "loss.png", by_name, title="Loss", labels=("epoch", ""))
    by_name = {
        name: (epochs, [_plain(entry.get(f"val/{key}")) for entry in curves])
        for name, key in (("AUROC", "auroc"), ("F1", "f1"), ("AUPRC", "auprc"))
    }
    plot_curves(
        pictures / "validation.png", by_name, title="Validation, mean over findings", labels=("epoch", "")
    )
    save_png(pictures / "batch.png", sample_batch(train, settings))
    lead = (
        f"{settings.backbone.name}, {settings.head.kind} head, {settings.input.size_hw[0]} x "
        f"{settings.input.size_hw[1]} px, "
        + (
            "pretrained weights"
            if settings.backbone.pretrained or settings.backbone.weights
            else "trained from scratch"
        )
        + ". Thresholds are chosen on validation; figures are of the test split, with 95 % intervals by patient."
    )
    blocks = [
        figures_table(settings.findings, metrics),
        Text("Images", ", ".join(f"{name}: {count}" for name, count in counts.items())),
        Figure("Loss", "pictures/loss.png"),
        Figure("Validation", "pictures/validation.png"),
        Figure("Training pictures as the network sees them", "pictures/batch.png", _batch_note()),
    ]
    synthetic = settings.data.dataset == "phantom"
    return write_report(run_dir, title="Stage 1: classifier", lead=lead, blocks=blocks, synthetic=synthetic)


def _batch_note() -> str:
    return "Each pair: decoded and stretched, then augmented. Under it the training targets above zero."


def sample_batch(train: Split, settings: Stage1Settings) -> np.ndarray:
    """Pairs of pictures before and after augmentation, with their targets."""
    augmentation = Augmentation(settings.augment)
    tiles, captions = [], []
    chosen = np.random.default_rng(settings.seed).permutation(len(train.pictures))[: _SAMPLES // 2]
    for index in chosen.tolist():
        picture = train.pictures[index]
        seed = zlib.crc32(f"{settings.seed} 0 {index}".encode())
        tiles += [as_rgb(picture / 255), as_rgb(augmentation(picture, seed=seed) / 255)]
        named = [f for f, t in zip(settings.findings, train.targets[index], strict=True) if t > 0]
        captions += [train.pictures.image_ids[index][-24:], ", ".join(named) or "none"]
    return grid(tiles, captions, columns=4)


def figures_table(findings: list[str], metrics: Figures) -> Table:
    """One row a finding, then the mean."""
    rows = [[finding, *_cells(metrics, slug(finding))] for finding in findings]
    rows.append(["Mean", *_cells(metrics, "mean")])
    return Table(
        "Test split", ["finding", "positives", "AUROC [95 %]", *(c.upper() for c in _COLUMNS[1:])], rows
    )


def _cells(metrics: Figures, name: str) -> list[str | float | None]:
    low, high = metrics.get(f"auroc/{name}/low"), metrics.get(f"auroc/{name}/high")
    value = metrics.get(f"auroc/{name}")
    shown = "–" if value is None else f"{value:.3f}"
    if low is not None and high is not None:
        shown += f" [{low:.3f}, {high:.3f}]"
    positives = metrics.get(f"positives/{name}")
    count = "" if positives is None else f"{positives:g}"
    return [count, shown, *(metrics.get(f"{column}/{name}") for column in _COLUMNS[1:])]


def _plain(value: float | None) -> float:
    return float("nan") if value is None else float(value)
