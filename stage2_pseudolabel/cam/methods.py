"""The CAM methods, one row each.

A method is a pure function that returns maps (B, K, h, w). Its row says what it takes from `CamInputs`, so a new method
is one function and one row here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

from cxr.config import UserError
from cxr.labels import nearest
from stage2_pseudolabel.cam.ablation import ablationcam
from stage2_pseudolabel.cam.dff import dff
from stage2_pseudolabel.cam.eigen import eigencam, eigengradcam
from stage2_pseudolabel.cam.fullgrad import fullgrad
from stage2_pseudolabel.cam.fusion import layercamfusion
from stage2_pseudolabel.cam.gradient import gradcam, gradcamelementwise, gradcamplusplus, hirescam, layercam, xgradcam
from stage2_pseudolabel.cam.pcam import pcam
from stage2_pseudolabel.cam.score import scorecam, scorecambudget

if TYPE_CHECKING:
    from stage1_classify.model.classifier import Classifier
    from stage1_classify.model.heads import Head
    from stage2_pseudolabel.settings.cam import CamOptions

Group = Literal["one_pass", "head", "own_pass", "forward"]
"""What a method costs. one_pass: the forward and the gradients that all methods of this group share. head: evaluations
of the head, none of the backbone. own_pass: a forward of its own, and backwards through stages of the backbone or all
of it. forward: many forwards of the whole model."""


class CamInputs(Protocol):
    """What the engine offers a method for a batch of B images, all float32 and on the device of the model."""

    @property
    def features(self) -> Tensor:
        """(B, C, h, w), what the head takes."""

    @property
    def gradients(self) -> Tensor:
        """(B, K, C, h, w), of each logit with respect to the features; for rows with `uses_gradients` alone."""

    @property
    def images(self) -> Tensor:
        """(B, c, H, W), normalised."""

    @property
    def head(self) -> "Head": ...

    @property
    def model(self) -> "Classifier": ...

    @property
    def forward(self) -> Callable[[Tensor], Tensor]:
        """Images -> logits, for many forwards in a row."""

    @property
    def options(self) -> "CamOptions": ...


@dataclass(frozen=True)
class CamMethod:
    """One method: `compute` calls the documented `function` with what it takes of the inputs."""

    name: str
    group: Group
    function: Callable[..., Tensor]
    paper: str
    compute: Callable[[CamInputs], Tensor]
    uses_gradients: bool = False


def _of_gradients(name: str, function: Callable[[Tensor, Tensor], Tensor], paper: str) -> CamMethod:
    return CamMethod(
        name, "one_pass", function, paper, lambda x: function(x.features, x.gradients), uses_gradients=True
    )


def _eigencam(x: CamInputs) -> Tensor:
    return eigencam(x.features, x.head.classifier.out_channels)


def _ablationcam(x: CamInputs) -> Tensor:
    return ablationcam(
        x.features,
        x.head,
        ablation_value=x.options.ablation_value,
        ablation_denominator=x.options.ablation_denominator,
        memory_mib=x.options.memory_mib,
    )


def _layercamfusion(x: CamInputs) -> Tensor:
    return layercamfusion(
        x.images,
        x.model,
        layercam_stages=x.options.layercam_stages,
        layercam_gamma=x.options.layercam_gamma,
        memory_mib=x.options.memory_mib,
    )


def _fullgrad(x: CamInputs) -> Tensor:
    map_hw = None if x.options.fullgrad_size == "image" else (x.features.shape[-2], x.features.shape[-1])
    return fullgrad(x.images, x.model, map_hw=map_hw, memory_mib=x.options.memory_mib)


def _scorecam(x: CamInputs) -> Tensor:
    return scorecam(x.features, x.images, forward=x.forward, scorecam_batch_size=x.options.scorecam_batch_size)


def _scorecambudget(x: CamInputs) -> Tensor:
    return scorecambudget(
        x.features,
        x.images,
        forward=x.forward,
        scorecam_budget=x.options.scorecam_budget,
        scorecam_batch_size=x.options.scorecam_batch_size,
    )


def _dff(x: CamInputs) -> Tensor:
    return dff(x.features, x.head, dff_components=x.options.dff_components)


_LAYERCAM = "https://ieeexplore.ieee.org/document/9462463"
_ROWS = (
    _of_gradients("gradcam", gradcam, "https://arxiv.org/abs/1610.02391"),
    _of_gradients("hirescam", hirescam, "https://arxiv.org/abs/2011.08891"),
    _of_gradients("gradcamelementwise", gradcamelementwise, "https://github.com/jacobgil/pytorch-grad-cam"),
    _of_gradients("gradcamplusplus", gradcamplusplus, "https://arxiv.org/abs/1710.11063"),
    _of_gradients("xgradcam", xgradcam, "https://arxiv.org/abs/2008.02312"),
    _of_gradients("layercam", layercam, _LAYERCAM),
    CamMethod("eigencam", "one_pass", eigencam, "https://arxiv.org/abs/2008.00299", _eigencam),
    _of_gradients("eigengradcam", eigengradcam, "https://arxiv.org/abs/2008.00299"),
    CamMethod("pcam", "head", pcam, "https://arxiv.org/abs/2005.14480", lambda x: pcam(x.features, x.head)),
    CamMethod("ablationcam", "head", ablationcam, "https://doi.org/10.1109/WACV45572.2020.9093360", _ablationcam),
    CamMethod("dff", "head", dff, "https://arxiv.org/abs/1806.10206", _dff),
    CamMethod("layercamfusion", "own_pass", layercamfusion, _LAYERCAM, _layercamfusion),
    CamMethod("fullgrad", "own_pass", fullgrad, "https://arxiv.org/abs/1905.00780", _fullgrad),
    CamMethod("scorecambudget", "forward", scorecambudget, "https://arxiv.org/abs/1910.01279", _scorecambudget),
    CamMethod("scorecam", "forward", scorecam, "https://arxiv.org/abs/1910.01279", _scorecam),
)
CAM_METHODS: Mapping[str, CamMethod] = {row.name: row for row in _ROWS}
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
