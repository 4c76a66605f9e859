"""ScoreCAM, exact and by budget, and the rank correlation between the two."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from stage2_pseudolabel.cam.agreement import rank_correlation
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.score import cluster_centres, interpolate, scorecam, scorecambudget
from stage2_pseudolabel.settings.cam import CamOptions
from tests.stage2_pseudolabel.cam.cam_models import build_classifier, random_images


class Summing:
    """A "model" whose logit is the sum of the masked image's pixels; it counts what it is shown."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, batch: Tensor) -> Tensor:
        self.calls.append(len(batch))
        return batch.sum((1, 2, 3))[:, None]


def test_scorecam_exact_value():
    features = torch.tensor([[[[0.0, 1.0, 2.0]], [[0.0, 0.0, 4.0]]]])
    images = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    # Masks (0, .5, 1) and (0, 0, 1); masked sums 4 and 3.
    weights = torch.softmax(torch.tensor([4.0, 3.0]), 0)
    maps = scorecam(features, images, forward=Summing())
    torch.testing.assert_close(maps[0, 0], weights[0] * features[0, 0] + weights[1] * features[0, 1])


@pytest.mark.parametrize("method", [scorecam, scorecambudget])
def test_all_constant_channels_are_asked_once(method):
    model = Summing()
    features = torch.zeros(1, 9, 2, 3)
    features[0, 4] = torch.arange(6.0).reshape(2, 3)
    features[0, 7] = 5.0
    method(features, torch.ones(1, 1, 4, 6), forward=model)
    assert model.calls == [2]


def test_a_budget_of_all_masks_that_differ_is_exact():
    features = torch.rand(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    features[:, 3:] = features[:, :3]  # the same masks again
    images = torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(1))
    exact = scorecam(features, images, forward=Summing())
    model = Summing()
    torch.testing.assert_close(scorecambudget(features, images, forward=model, scorecam_budget=3), exact)
    assert model.calls == [3, 3]


def test_the_budget_is_kept_and_clusters_share_what_their_centre_says():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.tensor([[0.0, 1.0, 0.0, 0.2], [1.0, 0.0, 0.3, 0.0], [0.0, 0.2, 1.0, 0.9]])
    masks = kinds.repeat_interleave(20, 0) + 0.01 * torch.rand(60, 4, generator=generator)
    features = masks.reshape(1, 60, 2, 2)
    images = torch.rand(1, 1, 6, 8, generator=generator)
    model = Summing()
    few = scorecambudget(features, images, forward=model, scorecam_budget=3)
    assert sum(model.calls) == 3
    exact = scorecam(features, images, forward=Summing())
    assert float((few - exact).abs().max() / exact.max()) < 0.02


def test_scorecambudget_ranks_the_positions_nearly_as_scorecam_does():
    model, images = build_classifier("narrow_efficientnet"), random_images(2)  # 256 channels
    options = CamOptions(scorecam_budget=16)
    maps = compute_maps(model, images, ["scorecam", "scorecambudget"], options=options).maps
    again = compute_maps(model, images, ["scorecambudget"], options=options).maps["scorecambudget"]
    assert torch.equal(again, maps["scorecambudget"])
    assert rank_correlation(maps["scorecam"], maps["scorecambudget"]) > 0.95


def test_interpolation_gives_the_centres_values_and_between_them_something_between():
    centres, values = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [5.0], [3.0]])
    points = torch.tensor([[0.0], [0.5], [1.0], [2.0]])
    read = interpolate(points, centres, values)[:, 0]
    assert torch.equal(read, torch.tensor([1.0, 1.0, 5.0, 3.0]))  # most points are centres: no width
    near = interpolate(points + 0.05, centres, values)[:, 0]
    torch.testing.assert_close(near[[0, 2, 3]], values[:, 0], atol=0.15, rtol=0)
    assert 1.0 < near[1] < 5.0


def test_cluster_centres_are_the_means_of_clusters():
    points = torch.tensor([[0.0, 0.0], [9.0, 9.0], [0.0, 2.0], [9.0, 7.0]])
    centres = cluster_centres(points, 2)
    torch.testing.assert_close(centres[centres[:, 0].argsort()], torch.tensor([[0.0, 1.0], [9.0, 8.0]]))


def test_rank_correlation_of_no_maps_is_not_a_number():
    assert np.isnan(rank_correlation(np.zeros((0, 3, 2, 4)), np.zeros((0, 3, 2, 4))))
    assert np.isnan(rank_correlation(np.zeros((2, 3, 2, 4)), np.ones((2, 3, 2, 4))))


def test_rank_correlation_exact_value():
    # Ranks 1 2 3 4 against 1 2 4 3: 1 - 6 * 2 / (4 * 15) = .8. The second image is constant in one and left out.
    first = np.array([[[[1.0, 2.0], [3.0, 4.0]]], [[[1.0, 2.0], [3.0, 4.0]]]])
    second = np.array([[[[0.1, 0.2], [9.0, 0.3]]], [[[7.0, 7.0], [7.0, 7.0]]]])
    assert rank_correlation(first, second) == pytest.approx(0.8)
    assert rank_correlation(first[:1], -first[:1]) == pytest.approx(-1)


def test_rank_correlation_is_scipy_s_with_ties():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 3, 2, 4, 5))
    expected = [spearmanr(first[n, k].ravel(), second[n, k].ravel()).statistic for n in range(3) for k in range(2)]
    assert rank_correlation(torch.from_numpy(first), second) == pytest.approx(np.mean(expected))
