"""All CAM methods and all classes from one backbone forward.

The gradients of all K logits with respect to the last features are K backwards through the small head alone. Nothing
here hooks into the model.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cxr.config import UserError
from stage1_classify.model.heads import Head
from stage2_pseudolabel.cam.adapter import as_classifier
from stage2_pseudolabel.cam.graph import evaluation_mode, in_float32
from stage2_pseudolabel.cam.memory import SIZES, free_cached, is_out_of_memory, smaller
from stage2_pseudolabel.cam.methods import CamInputs, CamMethod, choose_methods
from stage2_pseudolabel.settings.cam import CamOptions

if TYPE_CHECKING:
    from stage1_classify.model.classifier import Classifier

log = logging.getLogger("raybox")

# float32 copies of a block of gradients in memory at once (EigenGradCAM, in float64, needs most)
_LIVE_COPIES = 9


class CamResult(NamedTuple):
    """The result of `compute_maps`, float32 on the CPU.

    maps: method -> (B, K, h, w), not stretched to [0, 1]. logits: (B, K). seconds: method -> wall-clock seconds that it
    would take alone, with the shared forward and the gradients if it uses them. options: those asked for, or smaller
    ones that fit into memory; use them for the next call.
    """

    maps: dict[str, Tensor]
    logits: Tensor
    seconds: dict[str, float]
    options: CamOptions


def compute_maps(
    model: nn.Module, images: Tensor, methods: Sequence[str], *, options: CamOptions | None = None
) -> CamResult:
    """Class activation maps of all classes by all `methods` from one forward per image.

    If memory runs out, the batch size is halved (then blocks and masked images) until it is enough; the maps stay the
    same, and this is logged once.

    Args:
        model: stage 1's Classifier, or a classifier of timm or torchvision (see `as_classifier`). It runs in evaluation
            mode and gets its mode back. In half precision or under autocast everything but the backbone's forward is
            float32.
        images: (B, c, H, W), normalised as in training.
        methods: names of CAM_METHODS.

    Raises:
        UserError: unknown methods, a model that does not fit, features that are not finite, or not enough memory for a
            single image.

    Example:
        >>> import timm
        >>> result = compute_maps(timm.create_model("resnet18", num_classes=3), torch.rand(1, 3, 64, 96), ["layercam"])
        >>> result.maps["layercam"].shape
        torch.Size([1, 3, 2, 3])
    """
    rows = choose_methods(methods)
    classifier = as_classifier(model)
    _check_fit(classifier, methods)
    run = _Run(classifier, options or CamOptions())
    no_autocast = torch.autocast(run.device.type, enabled=False)
    with evaluation_mode(classifier), torch.inference_mode(False), torch.no_grad(), no_autocast:
        if len(images) == 0:
            return run.empty_result(rows)
        return run(images, rows)


class _Stopwatch:
    """Seconds by name since the last lap; waits for the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.start = time.perf_counter()

    def lap(self, name: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.start
        self.start = now


class _Run:
    """One call of `compute_maps`: the model with its float32 head, the options and the stopwatch."""

    def __init__(self, model: "Classifier", options: CamOptions) -> None:
        self.model = model
        self.options = options
        self.head = in_float32(model.head)
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        kind = self.device.type
        self.autocast = torch.autocast(
            kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind)
        )

    def __call__(self, images: Tensor, rows: Sequence[CamMethod]) -> CamResult:
        """All maps of all images, chunk by chunk; a chunk that does not fit into memory is repeated in smaller ones."""
        asked = self.options
        parts: list[CamResult] = []
        start = 0
        while start < len(images):
            part = self.attempt(images, rows, start=start)
            if part is not None:
                parts.append(part)
                start += len(part.logits)
        if self.options != asked:
            log.warning("cam: memory ran out with %s; continued with %s", _sizes(asked), _sizes(self.options))
        return _join(parts, self.options)

    def attempt(self, images: Tensor, rows: Sequence[CamMethod], *, start: int) -> CamResult | None:
        """The next chunk, or None if it does not fit; then the options are smaller and its memory is freed."""
        try:
            return self.chunk(images, rows, start=start)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fitting = smaller(self.options)
            if fitting is None:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise UserError(
                    f"cam: not even one image of {tuple(images.shape[1:])} fits into the memory of {self.device}: "
                    f"{reason}; use fewer methods, a smaller input, or a larger device"
                ) from None
            self.options = fitting
        free_cached()
        return None

    def chunk(self, images: Tensor, rows: Sequence[CamMethod], *, start: int) -> CamResult:
        """All maps of the next `batch_size` images from `start` on."""
        watch = _Stopwatch(self.device)
        images = images[start : start + self.options.batch_size]
        features = self.features(images)
        _check_finite(features, start=start)
        logits = self.head(features).logits
        watch.lap("forward")
        maps = self.gradient_maps(features, [row for row in rows if row.uses_gradients], watch)
        inputs = self.inputs(features, images=images) if not all(row.uses_gradients for row in rows) else None
        for row in rows:
            if inputs is not None and not row.uses_gradients:
                maps[row.name] = row.compute(inputs).float().cpu()
                watch.lap(row.name)
        seconds = {row.name: _seconds_alone(row, watch.seconds) for row in rows}
        return CamResult({row.name: maps[row.name] for row in rows}, logits.cpu(), seconds, self.options)

    def inputs(self, features: Tensor, *, images: Tensor | None = None, gradients: Tensor | None = None) -> CamInputs:
        nothing = features.new_empty(0)
        return CamInputs(
            features,
            nothing if gradients is None else gradients,
            nothing if images is None else images.to(self.device, torch.float32),
            self.head,
            self.model if gradients is not None else self.model_in_float32,
            self.logits_of,
            self.options,
        )

    @cached_property
    def model_in_float32(self) -> "Classifier":
        return in_float32(self.model)

    def features(self, images: Tensor) -> Tensor:
        """Backbone features in float32; only the backbone uses the caller's autocast."""
        with self.autocast:
            features: Tensor = self.model.backbone(images.to(self.device, self.dtype))
        return features.float()

    @cached_property
    def fast_weights(self) -> dict[str, Tensor]:
        """Backbone weights with channels last, with which convolutions on a CPU take a third less time."""
        if self.device.type != "cpu":
            return {}
        kernels = [item for item in self.model.backbone.named_parameters() if item[1].ndim == 4]
        return {name: kernel.to(memory_format=torch.channels_last) for name, kernel in kernels}

    def logits_of(self, images: Tensor) -> Tensor:
        """Logits (n, K) of images (n, c, H, W), for many calls in a row: `fast_weights` without changing the model."""
        with self.autocast:
            images = images.to(self.device, self.dtype)
            features = functional_call(self.model.backbone, self.fast_weights, (images,))
        logits: Tensor = self.head(features.float()).logits
        return logits

    def gradient_maps(self, features: Tensor, rows: Sequence[CamMethod], watch: _Stopwatch) -> dict[str, Tensor]:
        """Maps of the methods that use gradients, in blocks of images and classes."""
        num_classes = self.head.classifier.out_channels
        shape = (len(features), num_classes, *features.shape[-2:])
        maps = {row.name: torch.empty(shape) for row in rows}
        for block in _blocks(features, num_classes, self.options.memory_mib) if rows else ():
            gradients = logit_gradients(self.head, features[block[0]], classes=block[1])
            watch.lap("gradients")
            inputs = self.inputs(features[block[0]], gradients=gradients)
            for row in rows:
                maps[row.name][block] = row.compute(inputs).cpu()
                watch.lap(row.name)
        return maps

    def empty_result(self, rows: Sequence[CamMethod]) -> CamResult:
        """The result for a batch of no images."""
        num_classes = self.head.classifier.out_channels
        maps = {row.name: torch.empty(0, num_classes, 0, 0) for row in rows}
        return CamResult(maps, torch.empty(0, num_classes), {row.name: 0.0 for row in rows}, self.options)


def logit_gradients(head: Head, features: Tensor, *, classes: slice = slice(None)) -> Tensor:
    """Gradients of the logits of `classes` with respect to features (B, C, h, w) -> (B, K, C, h, w).

    Images are independent, so one backward per class serves the batch. No .grad is written.
    """
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        totals = head(leaf).logits.sum(0)[classes]
        gradients = features.new_empty(len(features), len(totals), *features.shape[1:])
        for place, total in enumerate(totals):
            gradients[:, place] = torch.autograd.grad(total, leaf, retain_graph=True)[0]
    return gradients


def _blocks(features: Tensor, num_classes: int, memory_mib: int) -> Iterator[tuple[slice, slice]]:
    """Slices of images and classes whose gradients and intermediate results fit into `memory_mib`."""
    bytes_each = features[0].numel() * 4 * _LIVE_COPIES
    pairs = max(1, memory_mib * 2**20 // bytes_each)
    num_images, num_logits = max(1, pairs // num_classes), min(num_classes, pairs)
    for image in range(0, len(features), num_images):
        for logit in range(0, num_classes, num_logits):
            yield slice(image, image + num_images), slice(logit, logit + num_logits)


def _join(parts: Sequence[CamResult], options: CamOptions) -> CamResult:
    names = parts[0].maps
    return CamResult(
        {name: torch.cat([part.maps[name] for part in parts]) for name in names},
        torch.cat([part.logits for part in parts]),
        {name: sum(part.seconds[name] for part in parts) for name in names},
        options,
    )


def _sizes(options: CamOptions) -> str:
    return ", ".join(f"{name} {getattr(options, name)}" for name in SIZES)


def _check_fit(classifier: "Classifier", methods: Sequence[str]) -> None:
    unfit = [name for name in methods if name in getattr(classifier.head, "unfit_methods", ())]
    if unfit:
        raise UserError(f"cam methods: {', '.join(unfit)} need features without a class token; leave them out")


def _check_finite(features: Tensor, *, start: int) -> None:
    finite = features.isfinite().flatten(1).all(1).tolist()
    broken = [start + place for place, is_finite in enumerate(finite) if not is_finite]
    if broken:
        raise UserError(
            f"cam: the classifier's features of images {broken} of the batch are not finite; "
            "look at these images, or use a model trained in float32 and with clipping"
        )


def _seconds_alone(row: CamMethod, seconds: Mapping[str, float]) -> float:
    shared = ("forward", "gradients") if row.uses_gradients else ("forward",)
    return sum(seconds[name] for name in (*shared, row.name))
