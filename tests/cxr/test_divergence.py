"""When a loss has diverged, at exact values around the limit, and what the error says."""

import math

import pytest

from cxr.divergence import LIMIT, LIMIT_ONCE, divergence_error, has_diverged, relative_loss


def test_without_a_constant_loss_there_is_nothing_to_compare_with() -> None:
    assert relative_loss(0.0, 0.0) == relative_loss(5.0, 0.0) == 0
    assert relative_loss(3.0, 1.5) == 2


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (0.0, 1e4, False),  # the first epoch, or the first that is high
        (0.0, 1.1e4, True),
        (30.0, 30.0, False),
        (30.0, 1e4, False),
        (30.1, 30.0, False),
        (30.1, 30.1, True),
        (1e4, 9e3, False),  # falls: recovers from a few huge steps
        (31.0, 900.0, True),
        (1e-4, 1.0, False),  # ten thousand times the loss before
        (6.0, 6.1, False),  # the highest that was seen to learn
        (31.0, math.inf, True),
        (math.inf, math.inf, True),
        (math.nan, 40.0, False),  # what is not finite has a check of its own
        (40.0, math.nan, False),
    ],
)
def test_two_epochs_above_the_limit_that_do_not_fall(before: float, now: float, expected: bool) -> None:
    assert (LIMIT, LIMIT_ONCE) == (30, 1e4)
    assert has_diverged(before, now) is expected


@pytest.mark.parametrize(
    ("best_file", "best_epoch", "kept"),
    [
        (None, None, ""),
        ("best.pt", None, "; no epoch was chosen as the best yet"),
        ("best.pt", 2, "; best.pt holds the best epoch, 2, with 0.5 times"),
        ("best.pt", 1, "; best.pt holds the best epoch, 1"),
    ],
)
def test_the_error_is_one_line_with_epochs_figures_checkpoint_and_setting(
    best_file: str | None, best_epoch: int | None, kept: str
) -> None:
    losses = {2: 0.5, 3: 31.25, 4: 1234.5}
    error = divergence_error("x", losses, best_file=best_file, best_epoch=best_epoch, advice="rate than 0.1")
    (line,) = error.problems
    assert "1.23e+03 times that of constant outputs in epoch 4 (31.2 times in epoch 3), expected at most 30" in line
    assert f"times{kept}; train again" in line
    assert line.endswith("a lower rate than 0.1")


def test_the_first_epoch_has_none_before_it() -> None:
    (line,) = divergence_error("x", {1: 2e6}, advice="rate").problems
    assert "2e+06 times that of constant outputs in epoch 1, expected at most 30 times; train again" in line
