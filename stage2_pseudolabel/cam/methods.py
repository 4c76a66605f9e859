"""The CAM methods, one row each.

A method is a function that returns maps (B, K, h, w). Its parameters are named after the fields of `CamInputs` and
`CamOptions`, from which it gets its values. So a new method is one function and one row here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from cxr.config import UserError
from cxr.labels import nearest
from stage2_pseudolabel.cam.ablation import ablationcam
from stage2_pseudolabel.cam.dff import dff
from stage2_pseudolabel.cam.eigen import eigencam, eigengradcam
from stage2_pseudolabel.cam.fullgrad import fullgrad
from stage2_pseudolabel.cam.fusion import layercamfusion
from stage2_pseudolabel.cam.gradient import (
    gradcam,
    gradcamelementwise,
    gradcamplusplus,
    hirescam,
    layercam,
    pcam,
    xgradcam,
)
from stage2_pseudolabel.cam.score import scorecam, scorecambudget

if TYPE_CHECKING:
    from stage1_classify.model.classifier import Classifier
    from stage1_classify.model.heads import Head
    from stage2_pseudolabel.settings.cam import CamOptions

Group = Literal["one_pass", "head", "own_pass", "forward"]
"""What a method costs. one_pass: the forward and the gradients that all methods of this group share. head: evaluations
of the head, none of the backbone. own_pass: a separate forward, and backwards through stages of the backbone or all
of it. forward: many forwards of the whole model."""


@dataclass(frozen=True)
class CamInputs:
    """What the engine offers a method for a batch of B images, all float32 and on the device of the model.

    features: (B, C, h, w), the input of the head. gradients: (B, K, C, h, w), of each logit with respect to the
    features; only for methods with `uses_gradients`. images: (B, c, H, W), normalised; not for these methods.
    forward: images -> logits, for many forwards in a row.
    """

    features: Tensor
    gradients: Tensor
    images: Tensor
    head: "Head"
    model: "Classifier"
    forward: Callable[[Tensor], Tensor]
    options: "CamOptions"

    @property
    def num_classes(self) -> int:
        return self.head.classifier.out_channels

    @property
    def map_hw(self) -> tuple[int, int] | None:
        """Size that FullGrad's maps are averaged down to."""
        return None if self.options.fullgrad_size == "image" else (self.features.shape[-2], self.features.shape[-1])


@dataclass(frozen=True)
class CamMethod:
    """One method: its name, cost, function and paper."""

    name: str
    group: Group
    function: Callable[..., Tensor]
    paper: str

    @property
    def uses_gradients(self) -> bool:
        return "gradients" in signature(self.function).parameters

    def compute(self, inputs: CamInputs) -> Tensor:
        """Maps (B, K, h, w)."""
        names = signature(self.function).parameters
        return self.function(
            **{name: getattr(inputs if hasattr(inputs, name) else inputs.options, name) for name in names}
        )


_LAYERCAM = "https://ieeexplore.ieee.org/document/9462463"
CAM_METHODS: Mapping[str, CamMethod] = {
    row.name: row
    for row in (
        CamMethod("gradcam", "one_pass", gradcam, "https://arxiv.org/abs/1610.02391"),
        CamMethod("hirescam", "one_pass", hirescam, "https://arxiv.org/abs/2011.08891"),
        CamMethod("gradcamelementwise", "one_pass", gradcamelementwise, "https://github.com/jacobgil/pytorch-grad-cam"),
        CamMethod("gradcamplusplus", "one_pass", gradcamplusplus, "https://arxiv.org/abs/1710.11063"),
        CamMethod("xgradcam", "one_pass", xgradcam, "https://arxiv.org/abs/2008.02312"),
        CamMethod("layercam", "one_pass", layercam, _LAYERCAM),
        CamMethod("eigencam", "one_pass", eigencam, "https://arxiv.org/abs/2008.00299"),
        CamMethod("eigengradcam", "one_pass", eigengradcam, "https://arxiv.org/abs/2008.00299"),
        CamMethod("pcam", "head", pcam, "https://arxiv.org/abs/2005.14480"),
        CamMethod("ablationcam", "head", ablationcam, "https://doi.org/10.1109/WACV45572.2020.9093360"),
        CamMethod("dff", "head", dff, "https://arxiv.org/abs/1806.10206"),
        CamMethod("layercamfusion", "own_pass", layercamfusion, _LAYERCAM),
        CamMethod("fullgrad", "own_pass", fullgrad, "https://arxiv.org/abs/1905.00780"),
        CamMethod("scorecambudget", "forward", scorecambudget, "https://arxiv.org/abs/1910.01279"),
        CamMethod("scorecam", "forward", scorecam, "https://arxiv.org/abs/1910.01279"),
    )
}
"""Name -> method."""


def choose_methods(names: Sequence[str]) -> list[CamMethod]:
    """Rows of the named methods, in that order.

    Raises:
        UserError: a name that is not in CAM_METHODS, all of them at once with the nearest known one.
    """
    known = list(CAM_METHODS)
    problems = [f"cam methods: no method {name!r}{nearest(name, known)}" for name in names if name not in CAM_METHODS]
    if problems:
        raise UserError(problems)
    return [CAM_METHODS[name] for name in dict.fromkeys(names)]
