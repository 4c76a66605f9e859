"""Overhead of our training loop over a bare one: forward, backward, clip, AdamW, on the same batches.

    python tests/benchmarks/bench_loop.py [--backbone resnet18] [--size-px 160] [--batch-size 16] [--num-batches 6]
        [--repeats 12] [--threads 1] [--accumulate-steps 1] [--ema]

`ours` is a whole `Trainer.train_epoch`: cases and views, masked loss, finite check, schedule, progress bar, figures.
`bare` calls the classifier and torch's loss and nothing else. Batches are made before, so
that no loading hides the overhead. Both take turns, the first of a turn alternates; the overhead is the median over
the turns of ours / bare - 1. On a CPU the times are CPU times, which with one thread are those of an idle machine,
whatever else runs. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from cxr.config import parse_settings
from cxr.imaging.pictures import Pictures
from stage1_classify.data.batches import Batch, Split
from stage1_classify.data.studies import Cases
from stage1_classify.model.classifier import Classifier
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.input import AugmentSettings
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.trainer import Trainer

FINDINGS = ["Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion"]


def settings_of(given: argparse.Namespace) -> Stage1Settings:
    """Settings of a training whose data are never read."""
    off = {name: 0.0 for name in AugmentSettings.model_fields if name.endswith("_probability")}
    train = {
        "num_epochs": 10_000,
        "batch_size": given.batch_size,
        "accumulate_steps": given.accumulate_steps,
        "ema_decay": 0.999 if given.ema else None,
        "precision": "fp32",
        "memory_format": "channels_last",
    }
    values: dict[str, Any] = {
        "data": {
            "dataset": "csv_table",
            "root": "nowhere",
            "table": "none.csv",
            "columns": {"image": "path"},
            "findings": {name: name for name in FINDINGS},
        },
        "split": {"kind": "patients", "fractions": {"train": 0.6, "val": 0.2, "test": 0.2}},
        "findings": FINDINGS,
        "backbone": {"name": given.backbone},
        "input": {"size_hw": [given.size_px, given.size_px], "cache_dir": None},
        "augment": off,
        "train": train,
    }
    return parse_settings(Stage1Settings, values, source="bench_loop")


def batches_of(given: argparse.Namespace, device: torch.device) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    size = given.batch_size
    return [
        Batch(
            torch.randn(size, 1, given.size_px, given.size_px, generator=generator).to(
                device, memory_format=torch.channels_last
            ),
            torch.arange(size, device=device),
            (torch.rand(size, len(FINDINGS), generator=generator) < 0.3).float().to(device),
            torch.arange(size),
        )
        for _ in range(given.num_batches)
    ]


def our_epoch(given: argparse.Namespace, settings: Stage1Settings) -> Callable[[], object]:
    """`Trainer.train_epoch` over the batches in place of its loader's."""
    fabric = make_fabric(settings)
    targets = np.tile(np.eye(len(FINDINGS), dtype=np.float32), (given.batch_size * given.num_batches, 1))
    targets = targets[: given.batch_size * given.num_batches]
    rows = tuple((row,) for row in range(len(targets)))
    train = Split(cast(Pictures, None), Cases(rows, cast(Any, None)), targets)
    trainer = Trainer(fabric, train, settings, Path(tempfile.mkdtemp()))
    batches = batches_of(given, fabric.device)
    trainer._loader = lambda: batches  # type: ignore[assignment, method-assign]
    return trainer.train_epoch


def bare_epoch(given: argparse.Namespace, settings: Stage1Settings, device: torch.device) -> Callable[[], object]:
    torch.manual_seed(settings.seed)
    model = Classifier(settings).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    weight = torch.full((len(FINDINGS),), 4.0, device=device)
    batches = batches_of(given, device)

    def epoch() -> None:
        for number, batch in enumerate(batches, start=1):
            loss = functional.binary_cross_entropy_with_logits(model(batch.images), batch.targets, pos_weight=weight)
            (loss / given.accumulate_steps).backward()
            if number % given.accumulate_steps == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        loss.item()

    return epoch


def seconds(work: Callable[[], object]) -> float:
    """CPU time on a CPU, else the time on the clock until the device has done everything."""
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    begin = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size-px", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-batches", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accumulate-steps", type=int, default=1)
    parser.add_argument("--ema", action="store_true", help="with a moving average of the weights")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = settings_of(given)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loops = {"bare": bare_epoch(given, settings, device), "ours": our_epoch(given, settings)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(given.repeats + 1):
        order = list(loops) if repeat % 2 else list(loops)[::-1]
        for name in order:
            taken = seconds(loops[name])
            if repeat:  # the first one warms up
                times[name].append(1000 * taken / given.num_batches)
    report(given, times, device)


def report(given: argparse.Namespace, times: dict[str, list[float]], device: torch.device) -> None:
    overheads = [100 * (ours / bare - 1) for ours, bare in zip(times["ours"], times["bare"], strict=True)]
    low, median, high = statistics.quantiles(overheads, n=4)
    table = Table("loop", "ms a batch, median", "least", title=f"{given.backbone}, {given.size_px} px, {device.type}")
    for name, taken in times.items():
        table.add_row(name, f"{statistics.median(taken):.2f}", f"{min(taken):.2f}")
    table.add_row("overhead", f"{median:.2f} %", f"quartiles {low:.2f} to {high:.2f} %")
    Console(width=110).print(table)
    figures = {f"{name}_ms": round(statistics.median(taken), 3) for name, taken in times.items()}
    figures |= {"overhead_percent": round(median, 3), "overhead_low": round(low, 3), "overhead_high": round(high, 3)}
    figures["overhead_of_least_percent"] = round(100 * (min(times["ours"]) / min(times["bare"]) - 1), 3)
    Console(width=10_000).print(json.dumps(vars(given) | figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()
