"""Pixels that are removed, and what takes their place; pytorch-grad-cam's imputation is the reference."""

import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from stage2_pseudolabel.evaluation.perturbation import NOISE, blurred, imputed, most_relevant


def picture(*, channels: int, seed: int = 0, num: int = 1) -> torch.Tensor:
    """Smooth structure and noise, 40 x 28."""
    torch.manual_seed(seed)
    coarse = torch.nn.functional.interpolate(torch.randn(num, channels, 5, 4), (40, 28), mode="bicubic")
    return coarse + 0.1 * torch.randn(num, channels, 40, 28)


def test_a_share_of_nought_removes_nothing_and_one_removes_all() -> None:
    removed = most_relevant(torch.rand(3, 4), torch.tensor([0.0, 0.25, 1.0]))
    assert removed.flatten(1).sum(1).tolist() == [0, 3, 12]


def test_the_highest_values_go_first_and_each_share_holds_the_smaller_ones() -> None:
    values = torch.tensor([[5.0, 1.0, 3.0], [0.0, 4.0, 2.0]])
    removed = most_relevant(values, torch.tensor([1 / 6, 0.5]))
    assert removed[0].nonzero().tolist() == [[0, 0]]
    assert removed[1].nonzero().tolist() == [[0, 0], [0, 2], [1, 1]]


def test_equal_values_are_in_one_random_order() -> None:
    removed = most_relevant(torch.zeros(20, 30), torch.tensor([0.5]))[0]
    assert 100 < removed[:10].sum() < 200
    assert (removed == most_relevant(torch.ones(20, 30), torch.tensor([0.5]))[0]).all()


def test_blurring_keeps_the_mean_and_takes_the_detail() -> None:
    images = picture(channels=1) + 3
    smooth = blurred(images)
    assert smooth.mean() == pytest.approx(float(images.mean()), abs=0.1)
    assert smooth.diff(dim=3).abs().mean() < 0.75 * images.diff(dim=3).abs().mean()


def test_what_is_not_removed_stays_and_a_gap_is_bridged() -> None:
    """A plane is the solution of the equations within the image."""
    ramp = torch.arange(12.0).expand(1, 1, 9, 12) / 12
    removed = torch.zeros(1, 9, 12, dtype=torch.bool)
    removed[0, 2:7, 3:9] = True
    torch.testing.assert_close(imputed(ramp, removed, noise=0), ramp, atol=2e-3, rtol=0)
    nothing = torch.zeros_like(removed)
    torch.testing.assert_close(imputed(ramp, nothing), ramp)


def test_an_image_without_a_remaining_pixel_becomes_its_mean() -> None:
    images = picture(channels=2)
    filled = imputed(images, torch.ones(1, 40, 28, dtype=torch.bool), noise=0)
    torch.testing.assert_close(filled, images.mean((2, 3), keepdim=True).expand_as(images), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # pytorch-grad-cam gives tensors to numpy
@pytest.mark.parametrize(("channels", "alike"), [(1, False), (3, False), (3, True)])
def test_it_is_the_imputation_of_pytorch_grad_cam(channels: int, alike: bool) -> None:
    """Also where the channels differ only in scale and offset, which takes a shorter way."""
    images = picture(channels=channels, num=2)
    if alike:
        images = torch.cat([images[:, :1], 2 * images[:, :1] + 1, images[:, :1] / 3], dim=1)
    coarse = torch.nn.functional.interpolate(torch.randn(2, 1, 4, 3), (40, 28), mode="bilinear")[:, 0]
    removed = torch.stack([coarse[0] > coarse[0].quantile(0.3), torch.rand(40, 28) < 0.6])
    ours = imputed(images, removed, noise=0)
    for one, image, gone in zip(ours, images, removed, strict=True):
        torch.testing.assert_close(one, NoisyLinearImputer(noise=0)(image, (~gone).float()), atol=0.03, rtol=0)


def test_noise_lies_on_the_removed_pixels_alone() -> None:
    images = picture(channels=1)
    removed = torch.zeros(1, 40, 28, dtype=torch.bool)
    removed[0, :20] = True
    difference = imputed(images, removed) - imputed(images, removed, noise=0)
    assert (difference[0, 0, 20:] == 0).all()
    assert float(difference[0, 0, :20].std()) == pytest.approx(NOISE, rel=0.15)
