"""Milliseconds and memory of each CAM method, against pytorch-grad-cam and torch-cam on the same model and images.

    python tests/benchmarks/bench_cam.py [--backbone densenet121] [--size 224] [--classes 14] [--images 4]
    python tests/benchmarks/bench_cam.py --device cuda --bf16 --backbone convnext_large --size 384

torch-cam is compared where it is there: pip install --no-deps --target runs/torchcam_site torchcam, and
PYTHONPATH=runs/torchcam_site before the command.

All sides give the maps of all classes of all images; figures are of one image. `ours` is a method alone (forward and
gradients included), `one_pass` all methods of that group in one call. pytorch-grad-cam is asked once a class and batch,
torch-cam once a class after one forward, as their users do. Two methods of the library would take hours, so they are
timed for one class of one image and few channels (`library_slice`), and multiplied: their cost is that of a forward a
channel and class, also AblationCAM's, which swaps the target layer alone. Our ScoreCAM is timed in full, of one image;
the library's FullGrad of one class and one image, multiplied.

Times on a CPU are CPU time, which with one thread is the time on an idle machine, whatever else runs; on a GPU
wall-clock. Memory is what a call adds at its highest (see peak_memory.py); of the library's slices it is the slice's.
Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytorch_grad_cam
import torch
from peak_memory import give_back_large_blocks, peak_mib
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stage1_classify.model.backbone import Backbone
from stage1_classify.model.heads import Head
from stage1_classify.settings.classifier import BackboneSettings, HeadSettings
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.methods import CAM_METHODS

try:
    import torchcam.methods as torchcam
except ImportError:
    torchcam = None

ORACLES = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "gradcamelementwise": pytorch_grad_cam.GradCAMElementWise,
    "gradcamplusplus": pytorch_grad_cam.GradCAMPlusPlus,
    "xgradcam": pytorch_grad_cam.XGradCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
    "eigencam": pytorch_grad_cam.EigenCAM,
    "eigengradcam": pytorch_grad_cam.EigenGradCAM,
    "ablationcam": pytorch_grad_cam.AblationCAM,
    "scorecam": pytorch_grad_cam.ScoreCAM,
    "fullgrad": pytorch_grad_cam.FullGrad,
}
TORCHCAM = dict(gradcam="GradCAM", gradcamplusplus="GradCAMpp", xgradcam="XGradCAM", layercam="LayerCAM")
ONE_PASS = [name for name, row in CAM_METHODS.items() if row.group == "one_pass"]
FEW, MORE = 32, 96  # channels of the library's slices: multiples of its batches


class Model(nn.Module):
    """The interface of stage1_classify.model.classifier.Classifier."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        size_hw = (arguments.size, arguments.size)
        settings = BackboneSettings(name=arguments.backbone)
        self.backbone = Backbone(settings, size_hw)
        self.last_layer = last_layer(self.backbone.network)
        self.head = Head(self.backbone.num_features, arguments.classes, settings=HeadSettings())
        nn.init.normal_(self.head.classifier.weight, std=0.2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)).logits


def last_layer(network: nn.Module) -> nn.Module:
    """What pytorch-grad-cam's README names as target: the last block of the last stage (DenseNet: the last norm)."""
    layer = network.get_submodule(network.feature_info[-1]["module"])
    while isinstance(inner := getattr(layer, "blocks", layer), nn.Sequential):
        layer = inner[-1]
    return layer


class FewChannels(AblationLayer):
    """The library's layer that ablates the first channels only; the others count as without effect."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def activations_to_be_ablated(self, _activations: Any, _ratio: float = 1.0) -> Any:
        self.indices = np.arange(self.count, dtype=np.int32)
        return self.indices


class FewMasks(pytorch_grad_cam.ScoreCAM):
    """The library's ScoreCAM of the first channels only."""

    count = FEW

    def get_cam_image(self, images: Any, layer: Any, targets: Any, activations: Any, *rest: Any) -> Any:
        return super().get_cam_image(images, layer, targets, activations[:, : self.count], *rest)


class Bench:
    """Model and images; `figures` gathers `<name>/<what>`: ms an image, MiB a call."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self.model = Model(arguments).eval().to(self.device)
        generator = torch.Generator().manual_seed(0)
        shape = (arguments.images, 1, arguments.size, arguments.size)
        self.images = torch.randn(shape, generator=generator).to(self.device)
        self.is_bf16 = arguments.bf16
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=arguments.bf16)
        self.num_classes = arguments.classes
        with torch.no_grad():
            self.shape = tuple(self.model.backbone(self.images[:1]).shape[1:])
        self.figures: dict[str, float] = {}

    def clock(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def milliseconds(self, work: Callable[[], object], *, repeats: int) -> float:
        """Of the fastest of some runs: the figure that other work on the machine disturbs least."""
        seconds = []
        for _ in range(repeats):
            start = self.clock()
            work()
            seconds.append(self.clock() - start)
        return 1000 * min(seconds)

    def ours(self, name: str, methods: list[str], *, repeats: int = 3) -> None:
        images = self.images[:1] if "scorecam" in methods else self.images
        repeats = 1 if len(images) == 1 else repeats

        def work() -> None:
            with self.autocast:
                compute_maps(self.model, images, methods)

        before = self.figures.get(f"{name}/ours", float("inf"))
        self.figures[f"{name}/ours"] = min(before, self.milliseconds(work, repeats=repeats) / len(images))
        if methods and len(images) == len(self.images):
            self.figures[f"{name}/ours_mib"] = peak_mib(work, self.device)

    def library(self, name: str) -> None:
        """An image's maps of all classes, one call of the library a class."""
        with self.explainer(ORACLES[name], [] if name == "fullgrad" else [self.model.last_layer]) as explainer:
            num_classes, shown = (1, self.images[:1]) if name == "fullgrad" else (self.num_classes, self.images)

            def work(num_classes: int = num_classes) -> None:
                for k in range(num_classes):
                    with self.autocast:
                        explainer(shown, [ClassifierOutputTarget(k)] * len(shown))

            total = self.milliseconds(work, repeats=1) / len(shown) * self.num_classes / num_classes
            self.figures[f"{name}/library"] = total
            self.figures[f"{name}/library_mib"] = peak_mib(lambda: work(1), self.device)

    def library_slice(self, name: str) -> None:
        """AblationCAM or ScoreCAM of one class of one image with few channels and with more, put in line."""
        times = {}
        for count in (FEW, MORE):
            options = {"ablation_layer": FewChannels(count)} if name == "ablationcam" else {}
            kind = ORACLES[name] if options else FewMasks
            with self.explainer(kind, [self.model.last_layer], **options) as explainer:
                explainer.count = count

                def work(explainer: Any = explainer) -> None:
                    with self.autocast:
                        explainer(self.images[:1], [ClassifierOutputTarget(0)])

                times[count] = self.milliseconds(work, repeats=1)
                self.figures[f"{name}/library_mib"] = peak_mib(work, self.device)
        slope = (times[MORE] - times[FEW]) / (MORE - FEW)
        self.figures[f"{name}/library"] = self.num_classes * (times[FEW] + slope * (self.shape[0] - FEW))

    @contextmanager
    def explainer(self, kind: Any, layers: list[nn.Module], **options: Any) -> Iterator[Any]:
        if self.is_bf16:
            options["reshape_transform"] = Tensor.float  # numpy has no bfloat16
        explainer = kind(self.model, layers, **options)
        try:
            yield explainer
        finally:
            explainer.activations_and_grads.release()

    def torch_cam(self, methods: ModuleType, name: str) -> None:
        """One forward, then a call a class that goes back through the head, as torch-cam's users do it."""
        with getattr(methods, TORCHCAM[name])(self.model, target_layer=self.model.last_layer) as extractor:

            def work() -> None:
                with self.autocast:
                    logits = self.model(self.images)
                    for k in range(self.num_classes):
                        extractor(k, logits, retain_graph=True)

            self.figures[f"{name}/torchcam"] = self.milliseconds(work, repeats=3) / len(self.images)
            self.figures[f"{name}/torchcam_mib"] = peak_mib(work, self.device)

    def compare(self, name: str) -> None:
        """One method, by everything that has it."""
        self.ours(name, [name])
        if name in ("ablationcam", "scorecam"):
            self.library_slice(name)
        elif name in ORACLES:
            self.library(name)
        if torchcam is not None and name in TORCHCAM:
            self.torch_cam(torchcam, name)

    def __call__(self) -> None:
        self.ours("forward", [])
        for name in CAM_METHODS:
            self.compare(name)
        self.ours("one_pass", ONE_PASS)
        self.sum_up("one_pass", "library", ONE_PASS)
        if torchcam is not None:
            self.ours("torchcam_four", list(TORCHCAM))
            self.sum_up("torchcam_four", "torchcam", list(TORCHCAM))

    def sum_up(self, name: str, side: str, methods: list[str]) -> None:
        for unit, gather in (("", sum), ("_mib", max)):
            self.figures[f"{name}/{side}{unit}"] = gather(self.figures[f"{m}/{side}{unit}"] for m in methods)

    def further(self, one_class: "Bench") -> None:
        """Cost of one further class and method of the one-pass group, timed in turn: noise hits all."""
        for _ in range(5):
            for bench in (self, one_class):
                bench.ours("one_pass", ONE_PASS, repeats=1)
            self.ours("gradcam", ["gradcam"], repeats=1)
            self.ours("forward", [], repeats=1)
        whole, single = self.figures["one_pass/ours"], one_class.figures["one_pass/ours"]
        if self.num_classes > 1:
            self.figures["further_class/ours"] = (whole - single) / (self.num_classes - 1)
        self.figures["further_method/ours"] = (whole - self.figures["gradcam/ours"]) / (len(ONE_PASS) - 1)
        self.figures["one_pass/forwards"] = whole / self.figures["forward/ours"]


def table_of(figures: dict[str, float], title: str) -> Table:
    columns = ("ours, ms", "library, ms", "ratio", "torch-cam, ms", "ratio", "ours, MiB", "library, MiB")
    table = Table("method", *columns, title=title)
    for name in dict.fromkeys(key.split("/")[0] for key in figures):
        found = {side: figures.get(f"{name}/{side}") for side in ("ours", "library", "torchcam")}
        mib = [figures.get(f"{name}/{side}_mib") for side in ("ours", "library")]
        ours = found["ours"] or float("nan")
        cells = [f"{ours:.2f}"]
        for side in ("library", "torchcam"):
            theirs = found[side]
            cells += ["", ""] if theirs is None else [f"{theirs:.1f}", f"{theirs / ours:.1f}x"]
        table.add_row(name, *cells, *("" if value is None else f"{value:.0f}" for value in mib))
    return table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--size", type=int, default=224, help="side of the images in px")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bf16", action="store_true", help="all sides under autocast to bfloat16")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.device == "cpu":
        give_back_large_blocks()
    bench = Bench(arguments)
    bench()
    bench.further(Bench(argparse.Namespace(**vars(arguments) | {"classes": 1})))
    title = f"{arguments.backbone}, features {bench.shape}, {arguments.classes} classes, {arguments.device}"
    console = Console(width=130)
    console.print(table_of(bench.figures, title))
    if torchcam is None:
        console.print("torch-cam is not there: left out (see --help)")
    figures = {key: float(f"{value:.4g}") for key, value in bench.figures.items()}
    facts = json.dumps(vars(arguments) | {"features": bench.shape} | figures)
    Console(width=100_000).print(facts, markup=False, highlight=False)


if __name__ == "__main__":
    main()
