"""A mode of torch in which networks keep ramps and take plain means (see alignment.py).

Every convolution, linear layer and pooling takes the mean of what it sees, normalisations give back what they get,
tokens attend to themselves, and what lies beyond a border is the ramp within it, continued. What stays as it is, such
as activations, gates and sums, does no harm where all values lie far above 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Given = dict[str, Any]
"""A call's arguments by name."""


class Ramps(TorchFunctionMode):
    """The mode. A call that it knows is answered by `_REPLACEMENTS`, any other as always."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        known = _REPLACEMENTS.get(getattr(func, "__name__", "").rstrip("_"))
        if known is None:
            return func(*args, **(kwargs or {}))
        names, replacement = known
        return replacement({**dict(zip(names.split(), args, strict=False)), **(kwargs or {})})


class Axis(NamedTuple):
    """How windows lie along one axis: `size` values, `spread` apart, begun every `step`, of values continued by
    `before` and `after`; with `whole` false the last window may reach beyond them."""

    size: int
    step: int
    spread: int
    before: int
    after: int
    whole: bool = True


def _conv2d(given: Given) -> Tensor:
    """The mean over each kernel, (B, C, H, W) to (B, D, h, w)."""
    images, weight, groups = _tensor(given, "input"), _tensor(given, "weight"), int(given.get("groups", 1))
    grouped = images.unflatten(1, (groups, -1)).mean(2)
    means = _window_means(grouped, {**given, "kernel_size": tuple(weight.shape[-2:])})
    repeats = weight.shape[0] // groups
    return means[:, :, None].expand(-1, -1, repeats, -1, -1).flatten(1, 2).contiguous()


def _pool(given: Given) -> Tensor:
    return _window_means(
        _tensor(given, "input"), {**given, "stride": given.get("stride") or given["kernel_size"]}
    )


def _linear(given: Given) -> Tensor:
    """(..., C) to (..., D): the mean, everywhere."""
    values, weight = _tensor(given, "input"), _tensor(given, "weight")
    return values.mean(-1, keepdim=True).expand(*values.shape[:-1], weight.shape[0]).contiguous()


def _pad(given: Given) -> Tensor:
    """Pairs from the last axis on, as torch has it."""
    values, pad = _tensor(given, "input"), given["pad"]
    for place in range(len(pad) // 2):
        values = _continued(values, -1 - place, pad[2 * place], pad[2 * place + 1])
    return values


def _attention(given: Given) -> Tensor:
    """As if each token looked at itself; where queries are other tokens than values, as always."""
    query, key, value = (_tensor(given, name) for name in ("query", "key", "value"))
    return value if query.shape == value.shape else functional.scaled_dot_product_attention(query, key, value)


def _unchanged(given: Given) -> Tensor:
    return _tensor(given, "input")


def _tensor(given: Given, name: str) -> Tensor:
    tensor = given[name]
    assert isinstance(tensor, Tensor)
    return tensor


_POOL = "input kernel_size stride padding"

_REPLACEMENTS: Mapping[str, tuple[str, Callable[[Given], Tensor]]] = {
    "conv2d": ("input weight bias stride padding dilation groups", _conv2d),
    "linear": ("input weight bias", _linear),
    "max_pool2d": (f"{_POOL} dilation ceil_mode", _pool),
    "avg_pool2d": (f"{_POOL} ceil_mode", _pool),
    "pad": ("input pad", _pad),
    "scaled_dot_product_attention": ("query key value", _attention),
    **dict.fromkeys(
        ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"), ("input", _unchanged)
    ),
    **dict.fromkeys(("relu6", "hardtanh"), ("input", _unchanged)),  # they cut off what is far above 0
}
"""Name of torch's function -> names of its arguments in order, and what is done instead."""


def _window_means(values: Tensor, given: Given) -> Tensor:
    """(B, C, H, W) to (B, C, h, w), for the arguments of a convolution or a pooling."""
    for place in (-2, -1):
        values = _axis_means(values, place, _axis(given, place))
    return values


def _axis(given: Given, place: int) -> Axis:
    size = _of(given["kernel_size"], place)
    spread = _of(given.get("dilation", 1), place)
    padding, reach = given.get("padding", 0), spread * (size - 1)
    if padding == "valid":
        before = after = 0
    elif padding == "same":
        before, after = reach // 2, reach - reach // 2
    else:
        before = after = _of(padding, place)
    return Axis(
        size, _of(given.get("stride", 1), place), spread, before, after, not given.get("ceil_mode", False)
    )


def _of(pair: int | Sequence[int], place: int) -> int:
    """For the rows (-2) or the columns (-1) of one number for both, or one each."""
    return pair if isinstance(pair, int) else int(pair[place if len(pair) > 1 else 0])


def _axis_means(values: Tensor, place: int, axis: Axis) -> Tensor:
    reach = axis.spread * (axis.size - 1)
    room = values.shape[place] + axis.before + axis.after - reach - 1
    beyond = 0 if axis.whole else -room % axis.step
    values = _continued(values, place, axis.before, axis.after + beyond)
    length = (room + beyond) // axis.step * axis.step + 1
    taken = [values.narrow(place, axis.spread * index, length) for index in range(axis.size)]
    strided = [part[..., :: axis.step] if place == -1 else part[..., :: axis.step, :] for part in taken]
    return torch.stack(strided).mean(0)


def _continued(values: Tensor, place: int, before: int, after: int) -> Tensor:
    """Longer by so many values (shorter where below 0), which repeat the outermost steps; a single value has none."""
    cut = values.narrow(place, max(0, -before), values.shape[place] - max(0, -before) - max(0, -after))
    size = cut.shape[place]
    first, second = cut.narrow(place, 0, 1), cut.narrow(place, min(1, size - 1), 1)
    last, next_to_last = cut.narrow(place, size - 1, 1), cut.narrow(place, max(0, size - 2), 1)
    parts = [cut]
    if before > 0:
        parts.insert(0, first + (first - second) * _counted(before, place, like=cut).flip(place))
    if after > 0:
        parts.append(last + (last - next_to_last) * _counted(after, place, like=cut))
    return torch.cat(parts, dim=place)


def _counted(count: int, place: int, *, like: Tensor) -> Tensor:
    """1 to `count` along an axis."""
    shape = [1] * like.ndim
    shape[place] = count
    return torch.arange(1, count + 1, dtype=like.dtype, device=like.device).view(shape)
