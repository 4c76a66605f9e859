"""Moving-average labels: L <- a L + (1 - a) P, exactly, and only where training has seen a certain label."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stage1_classify.training.moving_labels import MovingLabels
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings, targets
from tests.stage1_classify.training.train_builders import PLAIN, trainer

NAN = float("nan")


def test_without_an_observation_nothing_moves() -> None:
    moving = MovingLabels(targets([1, NAN]), share=0.75)
    moving.end_epoch()
    np.testing.assert_array_equal(moving.targets, targets([1, NAN]))


def test_exact_values() -> None:
    """Case 0 is seen twice, with P of .5 and .75 for its first finding; case 1 is not seen."""
    given = targets([1, 0], [1, 1], [NAN, -1])
    moving = MovingLabels(given, share=0.75)
    logits = torch.logit(torch.tensor([[0.5, 0.2, 0.9], [0.5, 0.5, 0.9]]))
    moving.observe(torch.tensor([0, 2]), logits)
    moving.observe(torch.tensor([0]), torch.logit(torch.tensor([[0.75, 0.2, 0.9]])))
    np.testing.assert_array_equal(moving.targets, given)
    moving.end_epoch()
    np.testing.assert_allclose(moving.targets, targets([0.90625, 0.05], [1, 1], [NAN, -1]), rtol=1e-6)
    moving.end_epoch()
    np.testing.assert_allclose(moving.targets[0], [0.90625, 0.05], rtol=1e-6)


@pytest.mark.parametrize("after_epochs", [0, 1])
def test_the_second_epoch_learns_from_the_moved_targets(tmp_path: Path, after_epochs: int) -> None:
    settings = stage1_settings(
        patch_folder(tmp_path / "data"),
        labels={"moving_share": 0.6, "moving_after_epochs": after_epochs},
        optimizer={"learning_rate": 1e-12},  # the probabilities stay those of the start
        augment=PLAIN,
    )
    ours = trainer(settings, tmp_path / "run")
    before = ours._train.targets
    ours.train_epoch()
    ours.end_epoch({"val/auroc": 0.5})
    ours._prepare_data(1)
    learned = torch.stack([ours._items[case].targets for case in range(len(before))]).numpy()
    if after_epochs:
        np.testing.assert_array_equal(learned, before)
        return
    images = torch.cat([ours._items[case].images for case in range(len(before))])
    with torch.no_grad():
        probabilities = torch.sigmoid(ours.model.eval()(images)).numpy()
    seen = (learned != before).any(axis=1)
    assert seen.sum() == len(ours._sampler) * settings.train.batch_size
    np.testing.assert_allclose(learned[seen], (0.6 * before + 0.4 * probabilities)[seen], rtol=1e-4)
