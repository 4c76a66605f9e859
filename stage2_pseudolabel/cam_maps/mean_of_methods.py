"""Maps of several CAM methods as one."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from eval.leaderboard.names import methods_of
from stage2_pseudolabel.cam_maps.teacher import mean_maps

Maps = npt.NDArray[np.float32]


def maps_of(maps: Mapping[str, Maps], method: str) -> Maps:
    """The maps (..., h, w) by a method; by several methods as one, also where their boxes are fused, the mean map."""
    methods = methods_of(method)
    return maps[method] if len(methods) == 1 else mean_of_methods([maps[name] for name in methods])


def mean_of_methods(stacks: Sequence[Maps]) -> Maps:
    """(..., h, w) mean of the maps of several methods, each map divided by its own root mean square.

    Methods differ by orders of magnitude, and so do images. Coarser maps are resized to the finest grid. A map of zeros
    adds nothing, and neither does one with a value that is not finite.

    Args:
        stacks: (..., h, w) by each method; h and w may differ between methods.
    """
    shape = stacks[0].shape[:-2]
    flat = [_with_unit_power(maps).reshape(prod(shape), 1, *maps.shape[-2:]) for maps in stacks]
    mean = mean_maps([torch.from_numpy(maps) for maps in flat]).numpy()
    return np.asarray(mean.reshape(*shape, *mean.shape[-2:]), dtype=np.float32)


def _with_unit_power(maps: Maps) -> Maps:
    if not maps.size:
        return maps
    values = maps.astype(np.float64)
    power = np.sqrt(np.square(values).mean(axis=(-2, -1), keepdims=True))
    known = np.isfinite(power) & (power > 0)
    return np.asarray(np.where(known, values / np.where(known, power, 1.0), 0.0), dtype=np.float32)
