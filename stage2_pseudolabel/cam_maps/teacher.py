"""The classifier that computes maps: all its networks, at all picture sizes and flips.

An ensemble counts as one classifier. Its map is the mean over its networks, over the picture sizes of each, and over
flips (the map of a flipped picture is flipped back), whatever rule combines the probabilities.

A member view is one network at one picture size. With several, the maps of each are first divided by a fixed scale
(cam_maps/balance.py); otherwise the view with the largest gradients would dominate. The maps of a single view are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from cxr.config import UserError
from cxr.imaging.pictures import Pictures
from stage1_classify.model.classifier import Classifier
from stage1_classify.model.loading import Member, Trained, with_output_stride
from stage1_classify.model.predict import flipped
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam_maps.alignment import map_shift
from stage2_pseudolabel.cam_maps.sizes import input_sizes
from stage2_pseudolabel.settings.cam import CamOptions
from stage2_pseudolabel.settings.pseudolabel import TeacherSettings

Scales = Mapping[str, Sequence[float]]
"""Method -> what each member view's maps are divided by."""


@dataclass(frozen=True)
class TeacherMaps:
    """Maps of a batch, method -> (B, K, h, w), and the logits (M, B, K) of each network; float32 on the CPU."""

    maps: dict[str, Tensor]
    logits: Tensor


@dataclass(frozen=True)
class MemberView:
    """A network at a size. member: its place. network: the member's own, or its finer twin. size_hw: its input."""

    member: int
    network: Classifier
    size_hw: tuple[int, int]


class Teacher:
    """The classifier `trained`, of one network or several, with the options of its maps.

    Raises:
        UserError: a network does not accept pictures of the sizes of `settings.scales`, or no `settings.output_stride`.
    """

    def __init__(self, trained: Trained, options: CamOptions, settings: TeacherSettings | None = None) -> None:
        self.trained, self.options = trained, options
        self.settings = settings or TeacherSettings()
        self.member_views = tuple(
            MemberView(place, network, size_hw)
            for place, member in enumerate(trained.members)
            for network in [_map_network(member, self.settings)]
            for size_hw in input_sizes(network, (member.num_channels, *member.input.size_hw), self.settings)
        )
        self._fitting = dict.fromkeys(self.member_views, options)  # smaller once memory has run out

    @property
    def findings(self) -> tuple[str, ...]:
        """The maps' columns."""
        return tuple(self.trained.settings.findings)

    def inputs(self, pictures: Pictures, indices: Sequence[int]) -> list[Tensor]:
        """The pictures at `indices` as each network accepts them, (B, channels, H, W)."""
        return [member.batch(pictures, indices) for member in self.trained.members]

    def maps(self, inputs: Sequence[Tensor], methods: Sequence[str], *, scales: Scales | None = None) -> TeacherMaps:
        """Maps by every method, averaged over the member views; `inputs` has one batch per network.

        scales: see `balance.member_view_scales`; None: maps are not scaled.
        """
        view_maps, logits = self.each_member_view(inputs, methods)
        maps = {}
        for method in methods:
            of_each = [1.0] * len(view_maps) if scales is None else scales[method]
            pairs = zip(view_maps, of_each, strict=True)
            maps[method] = mean_maps([maps_of[method] / scale for maps_of, scale in pairs])
        return TeacherMaps(maps, logits)

    def each_member_view(
        self, inputs: Sequence[Tensor], methods: Sequence[str]
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Maps of each member view, averaged over flips, and the logits (M, B, K) of each network at its own size."""
        view_maps, logits = [], [torch.empty(0)] * len(inputs)
        for view in self.member_views:
            images = inputs[view.member]
            maps, own_logits = self._view_maps(view, images, methods)
            view_maps.append(maps)
            if self._is_plain(view):
                logits[view.member] = own_logits
        for place, values in enumerate(logits):
            if not values.numel():
                logits[place] = self._plain_logits(place, inputs[place])
        return view_maps, torch.stack(logits)

    def logits(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (M, B, K) of each network at its own size, averaged over flips; float32 on the CPU."""
        return torch.stack([self._plain_logits(place, images) for place, images in enumerate(inputs)])

    def are_finite(self, inputs: Sequence[Tensor]) -> Tensor:
        """(B,) bool: are the features of these pictures finite, for all member views and flips?"""
        finite = torch.ones(len(inputs[0]), dtype=torch.bool)
        networks = [(view.network, inputs[view.member], view.size_hw) for view in self.member_views]
        for member, images in zip(self.trained.members, inputs, strict=True):
            networks.append((member.model, images, (images.shape[-2], images.shape[-1])))
        for (network, images, size_hw), flip in product(networks, self.trained.flips):
            finite &= _finite_features(network, flipped(resized(images, size_hw), flip))
        return finite

    def shift_hw(self) -> tuple[float, float]:
        """(down, right): how many pixels of the networks' input the mean map lies too far down and right.

        It is the mean of `map_shift` over member views; a map that is flipped back is shifted to the other side.
        """
        shifts = [_shift_of(view, self.trained.members[view.member]) for view in self.member_views]
        signs = [-1.0 if flip == "horizontal" else 1.0 for flip in self.trained.flips]
        down = sum(shift[0] for shift in shifts) / len(shifts)
        right = sum(shift[1] for shift in shifts) / len(shifts)
        return down, right * sum(signs) / len(signs)

    def _view_maps(self, view: MemberView, images: Tensor, methods: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """A member view's maps and logits (B, K), averaged over flips."""
        flips = self.trained.flips
        sized = resized(images, view.size_hw)
        results = []
        for flip in flips:
            options = self._fitting[view]
            results.append(compute_maps(view.network, flipped(sized, flip), methods, options=options))
            self._fitting[view] = results[-1].options
        pairs = list(zip(results, flips, strict=True))
        maps = {method: mean_maps([flipped(result.maps[method], flip) for result, flip in pairs]) for method in methods}
        return maps, torch.stack([result.logits for result in results]).mean(0)

    def _is_plain(self, view: MemberView) -> bool:
        """Whether a member view is the network as it was trained, whose logits count."""
        member = self.trained.members[view.member]
        return view.network is member.model and view.size_hw == member.input.size_hw

    @torch.no_grad()
    def _plain_logits(self, place: int, images: Tensor) -> Tensor:
        """Logits (B, K) of a network as it was trained, averaged over flips."""
        model = self.trained.members[place].model
        results = [model(_like_weights(flipped(images, flip), model)) for flip in self.trained.flips]
        return torch.stack([one.float() for one in results]).mean(0).cpu()


def mean_maps(maps: Sequence[Tensor]) -> Tensor:
    """Mean of stacks of maps (B, K, h, w); coarser ones are resized bilinearly to the largest grid."""
    height, width = (max(stack.shape[axis] for stack in maps) for axis in (-2, -1))
    return torch.stack([resized(stack, (height, width)) for stack in maps]).mean(0)


def resized(stack: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Pictures or maps (B, C, H, W) resized bilinearly, with antialiasing where they shrink."""
    if tuple(stack.shape[-2:]) == size_hw:
        return stack
    shrinks = stack.shape[-2] > size_hw[0] or stack.shape[-1] > size_hw[1]
    sized: Tensor = functional.interpolate(stack, size_hw, mode="bilinear", align_corners=False, antialias=shrinks)
    return sized


def _map_network(member: Member, settings: TeacherSettings) -> Classifier:
    if settings.output_stride is None:
        return member.model
    try:
        return with_output_stride(member, settings.output_stride)
    except UserError as error:
        raise UserError([f"teacher.output_stride: {problem}" for problem in error.problems]) from None


def _shift_of(view: MemberView, member: Member) -> tuple[float, float]:
    """In pixels of the network's input at its own size."""
    shift = map_shift(view.network.backbone)
    (height, width), size_hw = member.input.size_hw, view.size_hw
    return shift * height / size_hw[0], shift * width / size_hw[1]


@torch.no_grad()
def _finite_features(network: Classifier, images: Tensor) -> Tensor:
    features: Tensor = network.backbone(_like_weights(images, network))
    return features.isfinite().flatten(1).all(1).cpu()


def _like_weights(images: Tensor, network: Classifier) -> Tensor:
    parameter = next(network.parameters())
    return images.to(parameter.device, parameter.dtype)
