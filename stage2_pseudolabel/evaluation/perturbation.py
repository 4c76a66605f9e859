"""Images of which some pixels are replaced, for the faithfulness of maps."""

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

_TOLERANCE = 2e-4
"""Imputation ends when no equation is off by more (in standard deviations of the image)."""
_MAX_STEPS = 1000
_SMALLEST = 8
"""Shorter side in pixels below which no smaller problem is solved first."""
_TINY = 1e-6
NOISE = 0.01
"""Standard deviation of the noise on imputed pixels, as in ROAD."""


def most_relevant(relevance: Tensor, shares: Tensor) -> Tensor:
    """(S, H, W) bool: the most relevant pixels of a map (H, W), as many as each of the shares (S,) in [0, 1] says.

    Equal values, such as the zeros of a clipped map, are in random order, the same in each call.
    """
    flat = relevance.flatten()
    shuffled = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
    rank = torch.empty(len(flat), dtype=torch.long)
    rank[shuffled[flat[shuffled].argsort(descending=True, stable=True)]] = torch.arange(len(flat))
    counts = (shares * len(flat)).round().long()
    return (rank < counts[:, None]).reshape(len(shares), *relevance.shape)


def blurred(images: Tensor) -> Tensor:
    """(B, c, H, W) after a Gaussian filter whose standard deviation is 1/20 of the shorter side."""
    sigma = min(images.shape[-2:]) / 20
    radius = min(int(3 * sigma), min(images.shape[-2:]) - 1)
    smooth: Tensor = gaussian_blur(images, [2 * radius + 1] * 2, [sigma] * 2)
    return smooth


def imputed(images: Tensor, removed: Tensor, *, noise: float = NOISE) -> Tensor:
    """Noisy linear imputation: each removed pixel becomes the weighted mean of its neighbours, plus noise.

    The four nearest neighbours have twice the weight of the diagonal ones; neighbours beyond the border do not count.
    The equations of all removed pixels are solved together, by conjugate gradients.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods (ROAD), ICML 2022.

    Args:
        images: (B, c, H, W). removed: (B, H, W) bool. An image without a remaining pixel becomes its mean.
    """
    gone = removed[:, None].to(images)
    mean, deviation = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True).clamp(min=_TINY)
    plain = (images - mean) / deviation
    if torch.allclose(plain, plain[:, :1], atol=1e-4):
        plain = plain[:, :1]  # a grey picture, normalised channel by channel
    filled = _filled(plain * (1 - gone), gone) * deviation + mean
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    return torch.where(gone > 0, filled + noise * drawn, images)


def _filled(known: Tensor, gone: Tensor) -> Tensor:
    """The equations solved at half the size first, which gives a start for the full size.

    known: (B, c, H, W), 0 where a pixel is gone. gone: (B, 1, H, W), 1 or 0.
    """
    if min(known.shape[-2:]) <= _SMALLEST:
        start = known.mean((2, 3), keepdim=True) / (1 - gone).mean((2, 3), keepdim=True).clamp(min=_TINY)
        return _solved(known, gone, start.expand_as(known))
    share = functional.avg_pool2d(1 - gone, 2, ceil_mode=True)
    smaller = functional.avg_pool2d(known, 2, ceil_mode=True) / share.clamp(min=_TINY)
    half = _filled(smaller, (share == 0).to(gone))
    start = functional.interpolate(half, known.shape[-2:], mode="bilinear", align_corners=False)
    return _solved(known, gone, start)


def _solved(known: Tensor, gone: Tensor, start: Tensor) -> Tensor:
    """Conjugate gradients from a start (B, c, H, W)."""
    degree = _neighbours(torch.ones_like(gone[:1]))
    solution, direction = gone * start, torch.zeros_like(known)
    residual = gone * (_neighbours(known + solution) - degree * solution)
    power = torch.zeros_like(known[..., :1, :1])
    for _ in range(_MAX_STEPS):
        if residual.abs().max() <= _TOLERANCE:
            break
        before, power = power, residual.square().sum((2, 3), keepdim=True)
        direction = residual + direction * _ratio(power, before)
        product = gone * (degree * direction - _neighbours(direction))
        step = _ratio(power, (direction * product).sum((2, 3), keepdim=True))
        solution, residual = solution + step * direction, residual - step * product
    return known + solution


def _neighbours(values: Tensor) -> Tensor:
    """Weighted sum over the neighbours of each pixel (B, c, H, W): 1/6 for the nearest, 1/12 for the diagonal ones."""
    padded = functional.pad(values, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:] - 4 * values) / 12


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """0 where there is nothing to divide by: an image that is solved."""
    return torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)
