"""Milliseconds an image of each CAM method, beside pytorch-grad-cam on the same model and images.

    python tests/benchmarks/bench_cam.py [--backbone resnet18] [--stage 3] [--size 128] [--classes 7] [--images 4]
        [--threads 1]

Both sides give the maps of all classes. `ours` is the method alone (forward and gradients included), `one_pass`
all methods of that group in one call; the library is asked once a class and image batch, as its users do. ScoreCAM
of the library is timed for one class and one image and multiplied, since its cost is that of its forwards.
Times are CPU time, which with one thread is the time on an idle machine, whatever else runs.
Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable

import pytorch_grad_cam
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stage1_classify.config import HeadSettings
from stage1_classify.network.heads import Head
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.methods import CAM_METHODS

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
ONE_PASS = [name for name, row in CAM_METHODS.items() if row.group == "one_pass"]
# One class and one image stand for all.
LONG = ("ablationcam", "scorecam")


class Backbone(nn.Module):
    """A timm network up to a stage: (B, 1, H, W) to (B, C, h, w)."""

    def __init__(self, name: str, stage: int) -> None:
        super().__init__()
        self.network = timm.create_model(name, in_chans=1, features_only=True, out_indices=(stage,))
        self.num_features = self.network.feature_info.channels()[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[-1]


class Classifier(nn.Module):
    """The interface of stage1_classify.network.model.Classifier."""

    def __init__(self, name: str, stage: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(name, stage)
        self.head = Head(self.backbone.num_features, num_classes, settings=HeadSettings())
        nn.init.normal_(self.head.classifier.weight, std=0.2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)).logits


def best_milliseconds(work: Callable[[], object], *, repeats: int) -> float:
    """CPU time of the fastest of some runs: the figure that other work on the machine disturbs least."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return 1000 * min(seconds)


def our_milliseconds(model: Classifier, images: Tensor, names: list[str]) -> float:
    repeats = 2 if set(names) & {"scorecam", "fullgrad"} else 5
    return best_milliseconds(lambda: compute_maps(model, images, names), repeats=repeats) / len(images)


def library_milliseconds(model: Classifier, images: Tensor, name: str) -> float:
    """An image's maps of all classes, one call of the library a class."""
    num_classes = model.head.classifier.out_channels
    asked, shown = (1, images[:1]) if name in LONG else (num_classes, images)
    layers = [] if name == "fullgrad" else [model.backbone]
    explainer = ORACLES[name](model, layers)

    def work() -> None:
        for k in range(asked):
            explainer(shown, [ClassifierOutputTarget(k)] * len(shown))

    try:
        total = best_milliseconds(work, repeats=1 if name in LONG else 2)
    finally:
        explainer.activations_and_grads.release()
    return total / len(shown) * num_classes / asked


def measure(model: Classifier, images: Tensor) -> dict[str, float]:
    """All figures, `<name>/ours` and `<name>/library` in ms an image."""
    figures = {"forward/ours": our_milliseconds(model, images, [])}
    for name in CAM_METHODS:
        figures[f"{name}/ours"] = our_milliseconds(model, images, [name])
        if name in ORACLES:
            figures[f"{name}/library"] = library_milliseconds(model, images, name)
    figures["one_pass/ours"] = our_milliseconds(model, images, ONE_PASS)
    figures["one_pass/library"] = sum(figures[f"{name}/library"] for name in ONE_PASS)
    return figures


def table_of(figures: dict[str, float], title: str) -> Table:
    table = Table("method", "ours, ms", "library, ms", "ratio", title=title)
    for name in dict.fromkeys(key.split("/")[0] for key in figures):
        ours, library = figures[f"{name}/ours"], figures.get(f"{name}/library")
        theirs = ("", "") if library is None else (f"{library:.1f}", f"{library / ours:.1f}x")
        table.add_row(name, f"{ours:.2f}", *theirs)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument(
        "--stage", type=int, default=3, help="timm's out_index; 3 of resnet18: 256 channels, stride 16"
    )
    parser.add_argument("--size", type=int, default=128, help="side of the images in px")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = Classifier(arguments.backbone, arguments.stage, arguments.classes).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(arguments.images, 1, arguments.size, arguments.size, generator=generator)
    with torch.no_grad():
        shape = tuple(model.backbone(images[:1]).shape[1:])
    figures = measure(model, images)
    title = f"{arguments.backbone}, features {shape}, {arguments.classes} classes, {torch.get_num_threads()} threads"
    Console(width=110).print(table_of(figures, title))
    facts = vars(arguments) | {"features": shape}
    Console(width=10_000).print(json.dumps(facts | figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()
