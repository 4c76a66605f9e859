import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError
from cxr.tables import NOT_ASKED
from stage1_classify.data.targets import evaluation_targets, three_class_columns, training_targets
from stage1_classify.settings.classifier import LabelSettings

NAN = float("nan")
PINNED = [0.8485822, 0.5917556]
"""The first draws for seed 5, Edema, image0 and image1: they must never change."""
LABELS = pd.DataFrame({"Edema": [1, 0, -1, NAN], "Fracture": [-1, -1, -1, -1]}, dtype=float)


def test_nothing() -> None:
    assert training_targets(LABELS.iloc[:0], LabelSettings(), seed=0).shape == (0, 2)


@pytest.mark.parametrize(("policy", "value"), [("ignore", NAN), ("zeros", 0), ("ones", 1), ("three_class", -1)])
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


@pytest.mark.parametrize("policy", ["smooth_ones", "smooth_zeros"])
def test_the_range_is_a_setting(policy: str) -> None:
    settings = LabelSettings.model_validate({"uncertain": policy, f"{policy}_range": [0.4, 0.4]})
    np.testing.assert_allclose(training_targets(LABELS, settings, seed=0)[:, 1], 0.4, rtol=1e-6)


def test_draws_depend_on_seed_finding_and_image_alone() -> None:
    settings = LabelSettings(uncertain="smooth_ones")
    drawn = training_targets(LABELS, settings, seed=0)[:, 1]
    more = pd.DataFrame({"Edema": -1.0, "Pneumonia": -1.0, "Fracture": -1.0}, index=[3, 7, 1, 0, 2])
    again = training_targets(more, settings, seed=0)
    np.testing.assert_array_equal(again[[3, 2, 4, 0], 2], drawn)
    assert not (again[:, 1] == again[:, 2]).any()
    assert not (training_targets(LABELS, settings, seed=1)[:, 1] == drawn).any()


def test_draws_are_uniform_and_the_same_on_every_machine() -> None:
    many = pd.DataFrame({"Edema": -1.0}, index=[f"image{number}" for number in range(2000)])
    drawn = training_targets(many, LabelSettings(uncertain="smooth_ones"), seed=5)[:, 0]
    assert drawn.mean() == pytest.approx(0.7, abs=0.01)  # five standard deviations
    assert np.quantile(drawn, 0.25) == pytest.approx(0.625, abs=0.02)
    np.testing.assert_allclose(drawn[:2], PINNED, rtol=1e-6)


def test_self_training_takes_the_teachers_probability_of_uncertain_labels_alone() -> None:
    settings = LabelSettings.model_validate(
        {"uncertain": "zeros", "uncertain_by_finding": {"Fracture": "self_train"}, "teacher": "run"}
    )
    teacher = np.array([[NAN, 0.1], [NAN, 0.2], [0.9, 0.3], [NAN, 0.4]])
    got = training_targets(LABELS, settings, seed=0, teacher=teacher)
    np.testing.assert_allclose(got, [[1, 0.1], [0, 0.2], [0, 0.3], [0, 0.4]], rtol=1e-6)


def test_self_training_needs_a_teacher_for_each_label() -> None:
    settings = LabelSettings.model_validate({"uncertain": "self_train", "teacher": "run"})
    with pytest.raises(AssertionError, match="without a teacher"):
        training_targets(LABELS, settings, seed=0)
    with pytest.raises(AssertionError, match="Edema: the teacher lacks some"):
        training_targets(LABELS, settings, seed=0, teacher=np.full((4, 2), np.nan))


def test_columns_of_three_classes() -> None:
    settings = LabelSettings.model_validate({"uncertain": "three_class", "uncertain_by_finding": {"Edema": "ones"}})
    assert three_class_columns(["Edema", "Fracture", "Pneumonia"], settings) == [1, 2]
    assert three_class_columns(["Edema", "Fracture"], LabelSettings()) == []


def test_a_finding_may_have_its_own_policy() -> None:
    settings = LabelSettings.model_validate({"uncertain": "zeros", "uncertain_by_finding": {"Fracture": "ones"}})
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


def test_uncertain_labels_never_reach_the_evaluation() -> None:
    settings = LabelSettings(uncertain="three_class")
    assert np.isnan(evaluation_targets(LABELS, settings)[:, 1]).all()


@pytest.mark.parametrize("bounds", [[0.9, 0.1], [-0.1, 0.5], [0.5, 1.1]])
@pytest.mark.parametrize("name", ["smooth_ones_range", "smooth_zeros_range"])
def test_ranges_of_smoothed_labels_lie_within_0_and_1(name: str, bounds: list[float]) -> None:
    with pytest.raises(ValueError, match=rf"{name}: expected \[low, high\]"):
        LabelSettings.model_validate({name: bounds})


@pytest.mark.parametrize("not_mentioned", ["zeros", "ignore"])
@pytest.mark.parametrize("uncertain", ["ones", "zeros", "three_class"])
def test_what_was_not_asked_is_masked_whatever_the_policies(not_mentioned: str, uncertain: str) -> None:
    settings = LabelSettings.model_validate({"not_mentioned": not_mentioned, "uncertain": uncertain})
    labels = pd.DataFrame({"Edema": [NOT_ASKED, 1.0, NOT_ASKED], "Fracture": [0.0, NOT_ASKED, NOT_ASKED]})
    expected = np.array([[np.nan, 0], [1, np.nan], [np.nan, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(training_targets(labels, settings, seed=0), expected)
    np.testing.assert_array_equal(evaluation_targets(labels, settings), expected)
