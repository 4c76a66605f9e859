"""The CAM methods, one row each.

A method is a pure function, and the names of its parameters say what the engine hands it: `features`
(B, C, h, w), `gradients` (B, K, C, h, w), `images` (B, c, H, W), `head`, `model`, `forward` (images ->
logits), `num_classes` K, `map_hw`, or any field of CamOptions. It returns maps (B, K, h, w). So a new
method is one function and one row here.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cxr.config import UserError
from cxr.labels import nearest
from stage2_pseudolabel.cam.ablation import ablationcam
from stage2_pseudolabel.cam.eigen import eigencam, eigengradcam
from stage2_pseudolabel.cam.fusion import layercamfusion
from stage2_pseudolabel.cam.gradient import (
    gradcam,
    gradcamelementwise,
    gradcamplusplus,
    hirescam,
    layercam,
    xgradcam,
)
from stage2_pseudolabel.cam.library import dff, fullgrad
from stage2_pseudolabel.cam.pcam import pcam
from stage2_pseudolabel.cam.score import scorecam, scorecambudget

Group = Literal["one_pass", "head", "stages", "forward", "library"]


@dataclass(frozen=True)
class CamMethod:
    """One method. `group` tells its cost: one forward for all ("one_pass"), head evaluations without the
    backbone ("head"), a forward of its own and backwards through the last stages ("stages"), many forwards of the model
    ("forward"), pytorch-grad-cam ("library")."""

    name: str
    group: Group
    function: Callable[..., Tensor]
    paper: str

    @property
    def needs(self) -> tuple[str, ...]:
        """What the engine hands to the function: the names of its parameters."""
        return tuple(inspect.signature(self.function).parameters)


_ROWS = (
    CamMethod("gradcam", "one_pass", gradcam, "https://arxiv.org/abs/1610.02391"),
    CamMethod("hirescam", "one_pass", hirescam, "https://arxiv.org/abs/2011.08891"),
    CamMethod(
        "gradcamelementwise",
        "one_pass",
        gradcamelementwise,
        "https://github.com/jacobgil/pytorch-grad-cam",
    ),
    CamMethod("gradcamplusplus", "one_pass", gradcamplusplus, "https://arxiv.org/abs/1710.11063"),
    CamMethod("xgradcam", "one_pass", xgradcam, "https://arxiv.org/abs/2008.02312"),
    CamMethod("layercam", "one_pass", layercam, "https://ieeexplore.ieee.org/document/9462463"),
    CamMethod("eigencam", "one_pass", eigencam, "https://arxiv.org/abs/2008.00299"),
    CamMethod("eigengradcam", "one_pass", eigengradcam, "https://arxiv.org/abs/2008.00299"),
    CamMethod("pcam", "head", pcam, "https://arxiv.org/abs/2005.14480"),
    CamMethod("ablationcam", "head", ablationcam, "https://doi.org/10.1109/WACV45572.2020.9093360"),
    CamMethod("layercamfusion", "stages", layercamfusion, "https://ieeexplore.ieee.org/document/9462463"),
    CamMethod("scorecambudget", "forward", scorecambudget, "https://arxiv.org/abs/1910.01279"),
    CamMethod("scorecam", "forward", scorecam, "https://arxiv.org/abs/1910.01279"),
    CamMethod("fullgrad", "library", fullgrad, "https://arxiv.org/abs/1905.00780"),
    CamMethod("dff", "library", dff, "https://arxiv.org/abs/1806.10206"),
)
CAM_METHODS: Mapping[str, CamMethod] = {row.name: row for row in _ROWS}


def choose_methods(names: Sequence[str]) -> list[CamMethod]:
    """Rows of the named methods, in that order.

    Raises:
        UserError: a name that is not in CAM_METHODS, all of them at once with the nearest known one.
    """
    known = list(CAM_METHODS)
    problems = [
        f"cam methods: no method {name!r}{nearest(name, known)}" for name in names if name not in CAM_METHODS
    ]
    if problems:
        raise UserError(problems)
    return [CAM_METHODS[name] for name in dict.fromkeys(names)]
