import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError
from stage1_classify.config import LabelSettings
from stage1_classify.targets import evaluation_targets, training_targets

NAN = float("nan")
LABELS = pd.DataFrame({"Edema": [1, 0, -1, NAN], "Fracture": [-1, -1, -1, -1]}, dtype=float)


def test_nothing() -> None:
    assert training_targets(LABELS.iloc[:0], LabelSettings(), seed=0).shape == (0, 2)


@pytest.mark.parametrize(("policy", "value"), [("ignore", NAN), ("zeros", 0), ("ones", 1)])
def test_uncertain_becomes_what_the_policy_says(policy: str, value: float) -> None:
    settings = LabelSettings.model_validate({"uncertain": policy})
    np.testing.assert_array_equal(training_targets(LABELS, settings, seed=0)[:, 0], [1, 0, value, 0])


@pytest.mark.parametrize(("policy", "low", "high"), [("smooth_ones", 0.55, 0.85), ("smooth_zeros", 0, 0.3)])
def test_smoothed_policies_draw_from_their_range(policy: str, low: float, high: float) -> None:
    settings = LabelSettings.model_validate({"uncertain": policy})
    drawn = training_targets(LABELS, settings, seed=0)[:, 1]
    assert ((drawn >= low) & (drawn <= high)).all()
    assert len(set(drawn.tolist())) == 4
    np.testing.assert_array_equal(drawn, training_targets(LABELS, settings, seed=0)[:, 1])


def test_a_finding_may_have_its_own_policy() -> None:
    settings = LabelSettings.model_validate(
        {"uncertain": "zeros", "uncertain_by_finding": {"Fracture": "ones"}}
    )
    np.testing.assert_array_equal(training_targets(LABELS, settings, seed=0)[2], [0, 1])


def test_policy_of_an_unknown_finding_is_an_error() -> None:
    settings = LabelSettings.model_validate({"uncertain_by_finding": {"Edem": "ones"}})
    with pytest.raises(UserError, match="'Edem'"):
        training_targets(LABELS, settings, seed=0)


def test_not_mentioned_may_be_masked() -> None:
    settings = LabelSettings(not_mentioned="ignore")
    np.testing.assert_array_equal(training_targets(LABELS, settings, seed=0)[:, 0], [1, 0, NAN, NAN])


def test_evaluation_holds_certain_labels_only() -> None:
    settings = LabelSettings(uncertain="ones")
    np.testing.assert_array_equal(evaluation_targets(LABELS, settings)[:, 0], [1, 0, NAN, 0])
