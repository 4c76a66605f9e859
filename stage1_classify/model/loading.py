"""Load a finished classifier, one network or an ensemble, for prediction."""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cxr.arrays import Float32s, Floats
from cxr.config import UserError, parse_settings
from cxr.datasets import Tbx11kData
from cxr.imaging.files import Region
from cxr.imaging.pictures import Pictures
from cxr.imaging.settings import InputSettings
from cxr.runs.run_folder import FinishedRun, open_run
from cxr.tables import Dataset
from eval.classification.calibration import Calibration
from stage1_classify.data.hierarchy import make_hierarchy
from stage1_classify.model.backbone import Backbone
from stage1_classify.model.classifier import Classifier, load_classifier
from stage1_classify.model.predict import predict_logits
from stage1_classify.model.probabilities import Probabilities, calibration_of, uncalibrated
from stage1_classify.settings.classifier import Combine, EnsembleSettings, Flip, Stage1Settings

log = logging.getLogger("raybox")

COMBINERS: Mapping[Combine, Callable[[Floats], Floats]] = {
    "mean": lambda each: np.asarray(each.mean(axis=0)),
    "minimum": lambda each: np.asarray(each.min(axis=0)),
    "maximum": lambda each: np.asarray(each.max(axis=0)),
}
"""From the members' probabilities (M, N, K) to those of the ensemble (N, K)."""


@dataclass(frozen=True)
class Member:
    """One network with its input settings and calibration. It is loaded on the CPU, in evaluation mode.

    input: equal in all members, except for mean and standard deviation.
    """

    model: Classifier
    probabilities: Probabilities
    input: InputSettings
    num_channels: int

    def batch(self, pictures: Pictures, indices: Sequence[int]) -> Tensor:
        """(B, num_channels, H, W): the images at `indices` as input of this network."""
        return pictures.normalised_by(self.input).batch(indices, self.num_channels)

    def logits(self, pictures: Pictures, *, flips: Sequence[Flip], progress: bool = False) -> Float32s:
        """(N, K) logits, averaged over `flips`, computed on the network's device."""
        return predict_logits(
            self.model,
            pictures.normalised_by(self.input),
            num_channels=self.num_channels,
            flips=flips,
            progress=progress,
        )


@dataclass(frozen=True)
class Trained:
    """One or several networks that act as one classifier.

    settings: of the first member. All members have the same input size and the same findings in the same order.
    combine: how the members' calibrated probabilities are combined. flips: views of an image over which a member's
    logits are averaged. calibration: of the combined probabilities; the identity for a single run.

    A classifier that was trained on studies predicts an image as a study with one view.
    """

    settings: Stage1Settings
    members: tuple[Member, ...]
    combine: Combine
    flips: tuple[Flip, ...]
    calibration: Calibration

    @property
    def regions(self) -> tuple[Region, ...]:
        """The parts of an image that are the networks' inputs: halves for a classifier that was trained on halves."""
        data = self.settings.data
        halves = isinstance(data, Tbx11kData) and data.layout == "hemithorax"
        return ("left", "right_mirrored") if halves else ("full",)

    def check_for_maps(self) -> "Trained":
        """Itself. UserError if maps of its backbone would not be those of whole images."""
        if self.settings.views.backbones == "by_view":
            raise UserError(
                "views.backbones: the classifier has another backbone for lateral views, but maps come from one; train "
                "it with views.backbones=shared"
            )
        crop_hw = self.settings.input.crop_hw
        if crop_hw is not None:
            raise UserError(
                f"input.crop_hw: the classifier sees only the central {crop_hw} of pictures of "
                f"{self.settings.input.size_hw}, so its maps show a part of the image; train one without crop_hw"
            )
        return self

    def to(self, device: torch.device | str) -> "Trained":
        """Move the networks; returns itself."""
        for member in self.members:
            member.model.to(device)
        return self

    def predict(self, data: Dataset, *, device: torch.device | str = "cpu", progress: bool = False) -> Floats:
        """(N, K) probabilities of the images of `data`, each as a separate case. The networks stay on `device`."""
        pictures = Pictures(data, self.settings.input, progress=progress)
        return self.probabilities_of(self.logits(pictures, device=device, progress=progress))

    def logits(
        self, pictures: Pictures, *, device: torch.device | str = "cpu", progress: bool = False
    ) -> tuple[Float32s, ...]:
        """(N, K) logits of each member, averaged over `flips`. The networks stay on `device`."""
        self.to(device)
        return tuple(member.logits(pictures, flips=self.flips, progress=progress) for member in self.members)

    def raw(self, logits: Sequence[Float32s]) -> Floats:
        """From one (N, K) array of logits per member to the (N, K) probabilities that `calibration` is fitted to."""
        assert len(logits) == len(self.members), f"{len(logits)} arrays for {len(self.members)} members"
        pairs = zip(self.members, logits, strict=True)
        return COMBINERS[self.combine](np.stack([member.probabilities(values) for member, values in pairs]))

    def probabilities_of(self, logits: Sequence[Float32s]) -> Floats:
        """From one (N, K) array of logits per member to the (N, K) calibrated probabilities in [0, 1]."""
        return self.calibration.apply(self.raw(logits))


def load_trained(run_dir: Path) -> Trained:
    """The classifier of a finished stage 1 run or ensemble.

    Raises:
        UserError: what `open_run` raises, or a file of the run is damaged.
    """
    run = open_run(run_dir, stage="stage1")
    if not is_ensemble(run):
        return _single(run)
    settings = parse_settings(EnsembleSettings, run.settings, source=f"run {run_dir}")
    folders = [run_dir / folder for folder in run.manifest["members"]]
    together = assemble(folders, settings)
    return replace(together, calibration=calibration_of(run, num_findings=len(together.settings.findings)))


def first_member(run_dir: Path) -> Member:
    """The network of a finished stage 1 run; of an ensemble, the first one. UserError as `load_trained`."""
    members = load_trained(run_dir).members
    if len(members) > 1:
        log.info("%s is an ensemble of %d networks; the first is taken", run_dir, len(members))
    return members[0]


def is_ensemble(run: FinishedRun) -> bool:
    """Whether ensemble.py made the run."""
    return "members" in run.manifest


def assemble(folders: Sequence[Path], settings: EnsembleSettings) -> Trained:
    """Combine finished runs (no ensembles) to one classifier that is not calibrated yet."""
    parts = [_single(open_run(folder, stage="stage1")) for folder in folders]
    first = parts[0].settings
    cache = {"cache_dir": first.input.cache_dir}  # all members use the cache of the first
    each = (part.members[0] for part in parts)
    members = tuple(replace(member, input=member.input.model_copy(update=cache)) for member in each)
    return Trained(first, members, settings.combine, tuple(settings.flips), uncalibrated(len(first.findings)))


def with_output_stride(member: Member, output_stride: Literal[8, 16]) -> Classifier:
    """The member's network with finer maps: same weights and device, other logits.

    Strides of the last stages become dilations (Yu and Koltun 2016, arXiv:1511.07122), which keeps receptive fields.

    Raises:
        UserError: timm does not support this for the backbone, or its map is already as fine.
    """
    backbone = member.model.backbone
    changes = {"output_stride": output_stride, "pretrained": False, "weights": None}
    finer = Backbone(backbone.settings.model_copy(update=changes), member.input.net_hw)
    finer.load_state_dict(backbone.state_dict())
    finer = finer.to(next(backbone.parameters()).device).eval()
    blank = torch.zeros(1, member.num_channels, *member.input.net_hw, device=next(backbone.parameters()).device)
    with torch.no_grad():
        before, after = (tuple(network(blank).shape[-2:]) for network in (backbone, finer))
    if after[0] <= before[0] or after[1] <= before[1]:
        raise UserError(
            f"output_stride: got {output_stride}, with which the map of {backbone.settings.name!r} is {after}, not "
            f"finer than {before} without it; leave it out"
        )
    twin = deepcopy(member.model)
    twin.backbone = finer
    return twin.eval()


def _single(run: FinishedRun) -> Trained:
    model, settings = load_classifier(run.dir)
    hierarchy = make_hierarchy(settings.hierarchy, settings.findings)
    calibration = calibration_of(run, num_findings=len(settings.findings))
    member = Member(model, Probabilities(hierarchy, calibration), settings.input, settings.backbone.in_channels)
    return Trained(settings, (member,), "mean", ("none",), uncalibrated(len(settings.findings)))
