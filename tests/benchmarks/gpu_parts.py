"""The parts of gpu.sh. Each yields figures as it has them; gpu.py starts it in a process of its own.

    python tests/benchmarks/gpu_parts.py NAME FOLDER [--tiny]

The result is FOLDER/NAME.json: status, reason, figures. It is written whenever a part yields, so that a part that runs
out of time keeps what it had. A part imports what it needs itself, so that a missing package stops it alone.
"""

import argparse
import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpu_sizes import FULL, TINY, Sizes

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("stage1", "stage2", "stage3")
AIM = 0.4
"""Share of the card's peak that a training should reach."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """device: cuda or cpu. folder: for everything that a part writes, and for the results."""

    device: str
    folder: Path
    sizes: Sizes


class NothingToDoError(Exception):
    """Why a part has nothing to do on this machine."""


def device_facts(job: Job) -> Iterator[Figures]:
    """The card, its driver and PyTorch; and that PyTorch has kernels for it."""
    import torch

    from cxr.runs.hardware import computes_in_bf16, describe_hardware

    yield {"torch": torch.__version__, "computes_in_bf16": computes_in_bf16(job.device), **describe_hardware()}
    total = (torch.ones(8, 8, device=job.device) @ torch.ones(8, 8, device=job.device)).sum().item()
    if total != 512:
        raise RuntimeError(f"a product of matrices of ones sums to {total}, expected 512")
    if job.device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        yield {"free_memory_mib": free // 2**20}


class Outcomes:
    """A plugin of pytest that counts tests by outcome and keeps the names of those that failed."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
        if report.failed:
            self.failed.append(report.nodeid)


def cuda_tests(job: Job) -> Iterator[Figures]:
    """The tests of the suite that are marked `cuda`."""
    import pytest

    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.cuda" in path.read_text()]
    outcomes = Outcomes()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-m", "cuda", *map(str, files)], plugins=[outcomes])
    yield {**outcomes.counts, "failed_tests": outcomes.failed}
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest ended with exit code {int(code)}; failed: {', '.join(outcomes.failed) or 'none'}")


def train(job: Job, *, form: str) -> Iterator[Figures]:
    """Training of the classifier's network in bf16; half the batch as often as memory runs out."""
    import torch
    from bench_train import measure

    sizes, batch_size = job.sizes, job.sizes.batch_size
    while True:
        given = argparse.Namespace(
            backbone=sizes.backbone, size_px=sizes.image_px, batch_size=batch_size, precision="bf16",
            steps=sizes.num_steps, repeats=sizes.num_repeats, threads=torch.get_num_threads(), forms=[form],
            backend=sizes.compile_backend, accumulate_steps=1, ema=False,
        )  # fmt: skip
        try:
            found = measure(given, torch.device(job.device))
            break
        except torch.OutOfMemoryError:
            if batch_size < 4:
                raise
        batch_size //= 2
        gc.collect()
        torch.cuda.empty_cache()
    figures = {key.removeprefix(f"{form}/"): value for key, value in found.items()}
    share = figures.get("share_of_nominal_peak")
    yield figures | {"aim": AIM, "reaches_aim": None if share is None else share >= AIM}


def cam(job: Job) -> Iterator[Figures]:
    """The CAM engine and pytorch-grad-cam on the same network, under autocast to bf16; milliseconds an image."""
    from bench_cam import ONE_PASS, Bench

    sizes = job.sizes
    options = {"backbone": sizes.backbone, "size": sizes.image_px, "classes": sizes.num_classes, "bf16": True}
    bench = Bench(argparse.Namespace(**options, images=sizes.num_cam_images, device=job.device))
    yield options
    bench.ours("forward", [])
    for name in ONE_PASS:
        bench.compare(name)
        yield bench.figures
    bench.ours("one_pass", ONE_PASS)
    bench.sum_up("one_pass", "library", ONE_PASS)
    yield bench.figures | {"one_pass/ratio": bench.figures["one_pass/library"] / bench.figures["one_pass/ours"]}
    for name in ("scorecambudget", "scorecam"):
        bench.compare(name)
        yield bench.figures
    yield {"scorecam/ratio": bench.figures["scorecam/library"] / bench.figures["scorecam/ours"]}


def stages(job: Job) -> Iterator[Figures]:
    """Stages 1 to 3 of a small phantom, as their commands run them."""
    from importlib import import_module

    from cxr.cli import StageArguments
    from cxr.runs.run_folder import open_run

    sources: tuple[Path, ...] = ()
    for stage, package in zip(STAGES, ("stage1_classify", "stage2_pseudolabel", "stage3_detect"), strict=True):
        begin = time.perf_counter()
        data = [f"data.root={job.folder / 'data'}", f"data.generate={json.dumps(job.sizes.phantom)}"]
        own = {"stage1": [*data, f"input.cache_dir={job.folder / 'cache'}"], "stage2": data, "stage3": []}
        changes = (*job.sizes.changes[stage], *own[stage])
        out = job.folder / "runs" / stage
        config = ROOT / "configs" / "demo" / f"{stage}.yaml"
        import_module(f"{package}.run").main(StageArguments(config, out, sources, changes))
        sources = (out,)
        run = open_run(out)
        best = run.manifest.get("best_method")
        metric = {"stage1": "auroc/mean", "stage2": f"ap40/{best}", "stage3": "ap40/detector"}[stage]
        phases = {f"{stage}/{name} s": phase["seconds"] for name, phase in run.manifest["phases"].items()}
        yield {f"{stage}/seconds": time.perf_counter() - begin, f"{stage}/{metric}": run.metrics[metric], **phases}


def manifest(job: Job) -> Iterator[Figures]:
    """What the manifests of the part `stages` say about the card."""
    for stage in STAGES:
        path = job.folder / "runs" / stage / "manifest.json"
        if not path.is_file():
            raise RuntimeError(f"there is no manifest of {stage}: the part `stages` has not ended")
        entries = json.loads(path.read_text(encoding="utf-8"))
        hardware, phases = entries["hardware"], entries["phases"].values()
        peaks = [phase["peak_gpu_mib"] for phase in phases if "peak_gpu_mib" in phase]
        found = {"gpus": [gpu["name"] for gpu in hardware["gpus"]], "peak_gpu_mib": max(peaks, default=None)}
        found |= {name: hardware.get(name) for name in ("driver", "cuda", "cudnn")}
        yield {f"{stage}/{name}": value for name, value in found.items()}
        if job.device == "cuda" and (lacking := [name for name, value in found.items() if not value]):
            raise RuntimeError(f"the manifest of {stage} has no {', '.join(lacking)}")


def detector_train(job: Job) -> Iterator[Figures]:
    """Images a second of an epoch of yolo26n, from files to the step, with the loader's processes."""
    import torch

    from tests.stage3_detect.stage3_builders import make_coco, trainer_of

    sizes = job.sizes
    pictures = make_coco(job.folder, "train", num_images=sizes.num_detector_images, seed=0, score=0.8)
    settings = {"num_epochs": sizes.num_detector_epochs, "batch_size": sizes.detector_batch, "precision": "auto"}
    changes = {"num_workers": sizes.num_workers, "data": {"image_px": sizes.detector_px}, "train": settings}
    trainer = trainer_of(job.folder, pictures, device="0" if job.device == "cuda" else "cpu", **changes)
    started, seconds = {}, {}

    def now() -> float:
        if job.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def begin(trainer: Any) -> None:
        started[trainer.epoch] = now()

    def end(trainer: Any) -> None:
        seconds[trainer.epoch] = now() - started[trainer.epoch]

    trainer.add_callback("on_train_epoch_start", begin)
    trainer.add_callback("on_train_epoch_end", end)
    trainer.train()
    num_images = len(trainer.train_loader.dataset)
    first, *others = (num_images / taken for taken in seconds.values())
    figures = {"images_per_second": max(others), "first_epoch_images_per_second": first, "amp": trainer.args.amp}
    if job.device == "cuda":
        figures["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    yield figures | changes | {"batch_size": trainer.batch_size, "num_images": num_images}


def detector_predict(job: Job) -> Iterator[Figures]:
    """Milliseconds an image of yolo26n in PyTorch, in 32 and on a card 16 bits: one picture and a batch in a call."""
    import bench_detector as bench

    console, files, weights = _detector_inputs(job)
    networks = bench.torch_on_gpu(weights) if job.device == "cuda" else {"torch": bench.TorchNetwork(weights)}
    yield bench.summary(bench.in_turns(networks, files), console, "yolo26n, PyTorch; milliseconds per image")
    for count in (1, job.sizes.predict_batch):
        yield {f"{name}/batch{count}": bench.batch_ms(network, count) for name, network in networks.items()}


def detector_tensorrt(job: Job) -> Iterator[Figures]:
    """The same in TensorRT, and how far its scores are from PyTorch's."""
    import bench_detector as bench

    if (reason := bench.why_no_tensorrt()) is not None:
        raise NothingToDoError(reason)
    console, files, weights = _detector_inputs(job)
    begin = time.perf_counter()
    bench.export_tensorrt(weights, job.folder / "one.engine", nms_free=False)
    networks = {"tensorrt_fp16": bench.TensorrtNetwork(job.folder / "one.engine")}
    yield {"build_s": time.perf_counter() - begin}
    net_image = bench.to_net(bench.read_pixels(files[0]), networks["tensorrt_fp16"].image_px)[0]
    scores = [network(net_image)[4:] for network in (networks["tensorrt_fp16"], bench.TorchNetwork(weights))]
    yield {"largest_difference_of_scores": float(abs(scores[0] - scores[1]).max())}
    yield bench.summary(bench.in_turns(networks, files), console, "yolo26n, TensorRT; milliseconds per image")
    yield {"tensorrt_fp16/batch1": bench.batch_ms(networks["tensorrt_fp16"], 1)}
    yield bench.batches(networks, job.sizes.predict_batch, console, job.folder, weights)


def _detector_inputs(job: Job) -> tuple[Any, list[Path], Path]:
    """A console, pictures and untrained weights."""
    import bench_detector as bench

    count = job.sizes.num_predict_images + bench.NUM_WARM
    files = [bench.picture(job.folder / f"{number}.png", number) for number in range(count)]
    weights = bench.untrained(job.folder / "best.pt", job.sizes.detector_px, bench.read_pixels(files[0]))
    return bench.Console(width=120), files, weights


PARTS: dict[str, Callable[[Job], Iterator[Figures]]] = {
    "device": device_facts,
    "tests": cuda_tests,
    "train_eager": partial(train, form="eager_channels_last"),
    "train_compiled": partial(train, form="compiled_channels_last"),
    "cam": cam,
    "stages": stages,
    "manifest": manifest,
    "detector_train": detector_train,
    "detector_predict": detector_predict,
    "detector_tensorrt": detector_tensorrt,
}


def make_job(folder: Path, *, tiny: bool) -> Job:
    """The job on the card that there is; without one the sizes must be tiny."""
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu and not tiny:
        raise RuntimeError("PyTorch finds no CUDA GPU; only --tiny runs without one")
    return Job("cuda" if on_gpu else "cpu", folder, TINY if tiny else FULL)


def run(name: str, folder: Path, *, tiny: bool) -> None:
    """Run a part and write its result."""
    result: Figures = {"status": None, "reason": None, "figures": {}}

    def save() -> None:
        partial_file = folder / f".{name}.partial"
        partial_file.write_text(json.dumps(result), encoding="utf-8")
        partial_file.replace(folder / f"{name}.json")

    try:
        for figures in PARTS[name](make_job(folder, tiny=tiny)):
            result["figures"] |= {key: _rounded(value) for key, value in figures.items()}
            save()
        result["status"] = "done"
    except NothingToDoError as reason:
        result |= {"status": "skipped", "reason": str(reason)}
    except Exception as error:
        traceback.print_exc()
        result |= {"status": "failed", "reason": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    save()


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), tiny="--tiny" in sys.argv[3:])
