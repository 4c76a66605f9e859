"""Training images a second and share of the device's peak arithmetic, eager and compiled, channels-last on and off.

    python tests/benchmarks/bench_train.py [--backbone convnext_large] [--size-px 384] [--batch-size 64]
        [--precision bf16] [--steps 20] [--repeats 3] [--forms eager_channels_last compiled_channels_last ...]

The defaults on a GPU are those above; without one it is resnet18 at 160 px, 8 images, float32, the same script. A step
is forward, loss, backward, clip and AdamW, as the loop makes it (tests/benchmarks/bench_loop.py holds the loop against
it), on images that lie on the device already. The floating point operations of a step are counted by
torch.utils.flop_counter (a multiplication and an addition are two; its formula for the gradients of grouped
convolutions is corrected, see `convolution_backward_flop`); the peak is what the maker says of dense matrix
products in that precision, where the device is known, and always what a large matrix product or convolution reaches
here. Forms take turns; figures are of the fastest turn. Prints a table and, as the last line, one JSON object with
device and date.
"""

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from datetime import date
from math import prod
from pathlib import Path
from typing import Any

import torch
from bench_loop import FINDINGS, settings_of
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stage1_classify.model.classifier import CaseForward, Classifier
from stage1_classify.settings.classifier import LossSettings
from stage1_classify.training.losses import MultilabelLoss

PEAK_BF16_TFLOPS = {
    "GH200": 989.0,
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}
"""Dense bfloat16 products with float32 sums, from the makers' data sheets (SXM form where there are several). The key
is a word of the card's name."""

FORMS = ("eager_channels_last", "eager_contiguous", "compiled_channels_last", "compiled_contiguous")
FEWEST_IMAGES = 2  # batch norms need two

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def training_step(
    given: argparse.Namespace, device: torch.device, form: str, *, num_images: int | None = None
) -> Callable[[], Tensor]:
    """A step of a new model on images of its own; num_images: instead of a batch."""
    torch.manual_seed(0)
    compiled, channels_last = (word in form for word in ("compiled", "channels_last"))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = Classifier(settings_of(given)).to(device, memory_format=layout).train()
    forward = CaseForward(model)
    if compiled:
        forward.compile(backend=given.backend)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loss_of = MultilabelLoss(LossSettings(), findings=FINDINGS, positive_weight=torch.ones(len(FINDINGS))).to(device)
    size = num_images or given.batch_size
    images = torch.randn(size, 1, given.size_px, given.size_px, device=device).to(memory_format=layout)
    targets = (torch.rand(size, len(FINDINGS), device=device) < 0.3).float()
    cases = torch.arange(size, device=device)

    def step() -> Tensor:
        with torch.autocast(device.type, dtype=DTYPES[given.precision], enabled=given.precision != "fp32"):
            outputs = forward(images, cases, size)
        loss = loss_of(outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return step


def seconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / times


def convolution_backward_flop(
    grad_out: Sequence[int], images: Sequence[int], kernels: Sequence[int], *rest: Any, **_: Any
) -> int:
    """Operations of the gradients of a convolution, from shapes; the arguments are those of the operator.

    Each of the two gradients costs what the forward costs. PyTorch's own formula counts the gradient of grouped kernels
    as if they had no groups: too many operations by the number of groups, which in a ConvNeXt is that of channels.
    """
    is_transposed, wanted = rest[4], rest[7]
    places = images if is_transposed else grad_out
    return 2 * prod(places) * prod(kernels[1:]) * sum(wanted[:2])


def tflop_of(step: Callable[[], Tensor]) -> float:
    corrected = {torch.ops.aten.convolution_backward: convolution_backward_flop}
    counter = FlopCounterMode(display=False, custom_mapping=corrected)
    with counter:
        step()
    return counter.get_total_flops() / 1e12


def measured_peak(given: argparse.Namespace, device: torch.device) -> float:
    """TFLOP/s of the better of a large square matrix product and a large 3x3 convolution, in this precision.

    Of both, since on some processors torch's matrix products are slower than its convolutions.
    """
    side, channels, map_px, count = (8192, 512, 96, 32) if device.type == "cuda" else (1024, 256, 32, 2)
    dtype = DTYPES[given.precision]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    images = torch.randn(count, channels, map_px, map_px, device=device, dtype=dtype)
    images = images.to(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype)
    convolution.to(memory_format=torch.channels_last).requires_grad_(False)
    works = (
        (lambda: left @ right, 2 * side**3),
        (lambda: convolution(images), 2 * 9 * count * (channels * map_px) ** 2),
    )
    rates = []
    for work, operations in works:
        seconds(work, 3, device)
        rates.append(operations / 1e12 / min(seconds(work, given.steps, device) for _ in range(given.repeats)))
    return max(rates)


def nominal_peak(name: str) -> float | None:
    """TFLOP/s in bfloat16 of the card of this name; None if it is not in the table."""
    words = re.findall(r"RTX \d+|\w+", name)
    return next((peak for card, peak in PEAK_BF16_TFLOPS.items() if card in words), None)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def measure(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    few = training_step(given, device, FORMS[0], num_images=FEWEST_IMAGES)
    tflop = tflop_of(few) * given.batch_size / FEWEST_IMAGES
    del few
    forms = {name: training_step(given, device, name) for name in given.forms}
    starts = {name: seconds(step, 3, device) * 3 for name, step in forms.items()}
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(given.repeats):
        for name, step in forms.items():
            best[name] = min(best[name], seconds(step, given.steps, device))
    peaks = {"measured": measured_peak(given, device)}
    if given.precision == "bf16" and (nominal := nominal_peak(device_name(device))) is not None:
        peaks["nominal"] = nominal
    figures: dict[str, Any] = {"device": device_name(device), "date": date.today().isoformat()}
    figures |= vars(given) | {"torch": torch.__version__, "tflop_a_step": round(tflop, 4)}
    figures |= {f"peak_{name}_tflops": round(peak, 4) for name, peak in peaks.items()}
    for name, taken in best.items():
        figures[f"{name}/images_per_second"] = round(given.batch_size / taken, 2)
        figures[f"{name}/first_3_steps_s"] = round(starts[name], 1)
        for peak_name, peak in peaks.items():
            figures[f"{name}/share_of_{peak_name}_peak"] = round(tflop / taken / peak, 4)
    if device.type == "cuda":
        figures["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return figures


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="convnext_large" if on_gpu else "resnet18")
    parser.add_argument("--size-px", type=int, default=384 if on_gpu else 160)
    parser.add_argument("--batch-size", type=int, default=64 if on_gpu else 8)
    parser.add_argument("--precision", choices=list(DTYPES), default="bf16" if on_gpu else "fp32")
    parser.add_argument("--steps", type=int, default=20 if on_gpu else 3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    given = parser.parse_args()
    given.accumulate_steps, given.ema = 1, False
    torch.set_num_threads(given.threads)
    figures = measure(given, torch.device("cuda" if on_gpu else "cpu"))
    title = f"{given.backbone}, {given.size_px} px, {given.batch_size} images, {given.precision}; {figures['device']}"
    table = Table("form", "images/s", "share of peak, measured", "nominal", title=title)
    for name in dict.fromkeys(key.split("/")[0] for key in figures if "/" in key):
        shares = [figures.get(f"{name}/share_of_{peak}_peak") for peak in ("measured", "nominal")]
        shown = ["" if share is None else f"{share:.1%}" for share in shares]
        table.add_row(name, f"{figures[f'{name}/images_per_second']:.1f}", *shown)
    Console(width=110).print(table)
    Console(width=10_000).print(json.dumps(figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()
