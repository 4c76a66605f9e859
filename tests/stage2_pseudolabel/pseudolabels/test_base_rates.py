"""Base rates of findings, and the likelihood ratio that a box must reach."""

import numpy as np
import pandas as pd
import pytest

from stage2_pseudolabel.pseudolabels.base_rates import base_rates, too_unlikely

NAN = float("nan")


@pytest.mark.parametrize(
    ("column", "zeros", "masked"),
    [
        ([], NAN, NAN),
        ([-1, -1], NAN, NAN),
        ([NAN, -1], 0.0, NAN),
        ([1, NAN, NAN, -1, 0], 0.25, 0.5),
        ([1, NAN], 0.5, 1.0),
    ],
)
def test_uncertain_labels_do_not_count_and_blank_ones_as_in_training(
    column: list[float], zeros: float, masked: float
) -> None:
    table = pd.DataFrame({"Edema": np.array(column, dtype=float)})
    np.testing.assert_array_equal(base_rates(table, not_mentioned="zeros"), [zeros])
    np.testing.assert_array_equal(base_rates(table, not_mentioned="ignore"), [masked])


@pytest.mark.parametrize(
    ("rate", "minimum", "probability", "expected"),
    [
        (0.02, 1, 0.019, True),
        (0.02, 1, 0.02, False),
        (0.5, 1, 0.49, True),
        (0.5, 3, 0.74, True),  # odds of 3
        (0.5, 3, 0.75, False),
        (0.02, 3, 0.057, True),  # odds of 3 / 49
        (0.02, 3, 0.058, False),
        (0.02, 0, 0.0, False),
        (NAN, 1, 0.0, False),
        (0.0, 1, 0.0, False),
        (1.0, 1, 0.0, False),
    ],
)
def test_probabilities_are_compared_with_the_base_rate_as_odds(
    rate: float, minimum: float, probability: float, expected: bool
) -> None:
    assert too_unlikely(np.array([[probability]]), np.array([rate]), minimum).tolist() == [[expected]]
