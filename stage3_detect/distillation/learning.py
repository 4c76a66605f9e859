"""The epochs of a distillation: the student learns the teacher's features of the same augmented pictures."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from cxr.config import UserError
from cxr.divergence import divergence_error, has_diverged, relative_loss
from cxr.imaging.cache import PictureCache
from cxr.metrics import Metrics
from cxr.progress import track
from cxr.runs.torch_files import save_torch
from cxr.tracking import Tracker
from stage3_detect.distillation.augment import augment
from stage3_detect.distillation.student import Student
from stage3_detect.distillation.teacher import Teacher
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.settings.detector import Stage3Settings

CHECKPOINT = "last.pt"
_WARMUP_SHARE = 0.05

Indices = npt.NDArray[np.int64]

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class DistillationData:
    """The pictures, (H, W) uint8 by row, and the rows to learn from and those held out."""

    pictures: PictureCache
    train: Indices
    held_out: Indices
    device: torch.device
    batch_size: int

    def batches(self, rows: Indices) -> Iterator[Tensor]:
        """The pictures of these rows in order, (B, 1, H, W) in [0, 1] on the device, in batches of about one size."""
        for part in np.array_split(rows, self.num_batches(rows)) if len(rows) else []:
            levels = np.stack([self.pictures[row] for row in part])
            grey = torch.from_numpy(levels)[:, None].to(self.device).float() / 255
            yield grey.contiguous(memory_format=torch.channels_last)

    def num_batches(self, rows: Indices) -> int:
        """How many batches `batches` gives."""
        return math.ceil(len(rows) / self.batch_size)


@dataclass(frozen=True)
class Distillation:
    """What a distillation consists of. precision: fp32 or bf16."""

    student: Student
    teacher: Teacher
    data: DistillationData
    settings: Stage3Settings
    precision: str

    def pairs(self, pictures: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Predicted features and the teacher's, float32, for each tap."""
        kind = self.data.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16"):
            targets, predictions = self.teacher(pictures), self.student(pictures)
        return [(found.float(), wanted.float()) for found, wanted in zip(predictions, targets, strict=True)]


@dataclass(frozen=True)
class Progress:
    """The state after a finished epoch. shares: see `explained`. relative_loss: see `cxr.divergence`."""

    epoch: int = 0
    shares: Metrics = field(default_factory=dict)
    relative_loss: float = 0.0


def learn(job: Distillation, folder: Path) -> Metrics:
    """Train the student, and resume in the epoch after the last checkpoint in `folder`.

    Returns:
        the share of the variance that the student explains on the held-out images, by tap; see `explained`.

    Raises:
        UserError: the loss is no longer a number, or diverges; the epoch is not saved.
    """
    settings = job.settings.distillation
    optimizer = torch.optim.AdamW(job.student.trained_parameters(), weight_decay=settings.weight_decay)
    tracker = Tracker(folder, job.settings.tracking)
    progress = _resume(folder / CHECKPOINT, job.student, optimizer)
    for epoch in range(progress.epoch, settings.num_epochs):
        begin = time.perf_counter()
        loss, constant_loss = _train_epoch(job, optimizer, epoch)
        shares = explained(job)
        seconds = round(time.perf_counter() - begin, 2)
        tracker.log(epoch + 1, {"loss": loss, **shares, "seconds": seconds})
        before, progress = progress, Progress(epoch + 1, shares, relative_loss(loss, constant_loss))
        if has_diverged(before.relative_loss, progress.relative_loss):
            losses = {done.epoch: done.relative_loss for done in (before, progress) if done.epoch}
            advice = f"distillation.learning_rate than {settings.learning_rate:g}"
            raise divergence_error("distillation", losses, advice=advice)
        _save(folder / CHECKPOINT, job.student, optimizer, progress)
        title = f"epoch {epoch + 1} of {settings.num_epochs}"
        log.info("stage3: distillation: %s  loss %.4g  R2 %s  %.3g s", title, loss, shares_text(shares), seconds)
    tracker.finish()
    return progress.shares


def shares_text(shares: Mapping[str, float | None]) -> str:
    """For example `backbone_8 .312, backbone_16 .401`."""
    shown = {name: "unknown" if value is None else f"{value:.3f}" for name, value in shares.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


@torch.no_grad()
def explained(job: Distillation) -> Metrics:
    """1 - (squared error) / (variance of the teacher's features around their mean per channel), on the held-out
    images without augmentation. 1 is perfect, 0 is as good as the mean; None without held-out images."""
    job.student.eval()
    moments = [Moments() for _ in job.student.names]
    for pictures in job.data.batches(job.data.held_out):
        for own, (found, wanted) in zip(moments, job.pairs(pictures), strict=True):
            own.add(found, wanted)
    return {name: own.share_explained() for name, own in zip(job.student.names, moments, strict=True)}


@dataclass
class Moments:
    """Sums over pictures and cells, per channel: squared errors, targets and their squares."""

    count: int = 0
    errors: Any = 0.0
    sums: Any = 0.0
    squares: Any = 0.0

    def add(self, found: Tensor, wanted: Tensor) -> None:
        self.count += wanted.numel() // wanted.shape[1]
        self.errors += (found - wanted).square().sum((0, 2, 3)).double().cpu()
        self.sums += wanted.sum((0, 2, 3)).double().cpu()
        self.squares += wanted.square().sum((0, 2, 3)).double().cpu()

    def share_explained(self) -> float | None:
        """None without pictures, or if the targets do not vary."""
        if not self.count:
            return None
        variance = float((self.squares - self.sums**2 / self.count).sum())
        return 1 - float(self.errors.sum()) / variance if variance > 0 else None


def _train_epoch(job: Distillation, optimizer: torch.optim.Optimizer, epoch: int) -> tuple[float, float]:
    """One pass over the training images in random order; returns the mean loss, and that of predictions of 0."""
    settings = job.settings.distillation
    seed = np.random.SeedSequence([job.settings.seed, epoch]).generate_state(1, np.uint32)
    generator = torch.Generator().manual_seed(int(seed[0]))
    rows = job.data.train[torch.randperm(len(job.data.train), generator=generator).numpy()]
    num_batches = job.data.num_batches(rows)
    title = f"distillation, epoch {epoch + 1} of {settings.num_epochs}"
    batches = track(job.data.batches(rows), title, total=num_batches, images_in=len)
    totals = np.zeros(2)
    job.student.train()
    for number, pictures in enumerate(batches):
        progress = (epoch + (number + 1) / num_batches) / settings.num_epochs
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(progress)
        totals += _step(job, augment(pictures, job.settings.augment, generator), optimizer)
    loss, constant_loss = (totals / num_batches).tolist()
    return loss, constant_loss


def _step(job: Distillation, pictures: Tensor, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    pairs = job.pairs(pictures)
    loss = torch.stack([smooth_l1_loss(found, wanted) for found, wanted in pairs]).mean()
    constant_loss = torch.stack([smooth_l1_loss(torch.zeros_like(wanted), wanted) for _, wanted in pairs]).mean()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UserError(
            f"distillation: the loss is {value}; lower distillation.learning_rate "
            f"({job.settings.distillation.learning_rate}) or set train.precision to fp32"
        )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value, float(constant_loss)


def learning_rate_factor(progress: float) -> float:
    """Share of the highest learning rate at `progress` in (0, 1]: a linear rise, then a cosine to 0."""
    if progress < _WARMUP_SHARE:
        return progress / _WARMUP_SHARE
    return (1 + math.cos(math.pi * (progress - _WARMUP_SHARE) / (1 - _WARMUP_SHARE))) / 2


def _save(path: Path, student: Student, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    state = {"student": student.state_dict(), "optimizer": optimizer.state_dict()}
    save_torch(path, {**state, **asdict(progress)})


def _resume(path: Path, student: Student, optimizer: torch.optim.Optimizer) -> Progress:
    """Load a checkpoint; returns its progress, or that of the start without one."""
    if not path.is_file():
        return Progress()
    try:
        state = read_checkpoint(path, what="distillation", advice="it starts from the beginning")
    except UserError as error:
        log.warning("stage3: %s", "; ".join(error.problems))
        return Progress()
    student.load_state_dict(state.pop("student"))
    optimizer.load_state_dict(state.pop("optimizer"))
    log.info("stage3: distillation: resuming after epoch %d", state["epoch"])
    return Progress(**state)
