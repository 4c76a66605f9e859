"""A trained classifier of one or several networks: exact arithmetic of their probabilities."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.config import UserError
from cxr.imaging.pictures import Pictures
from eval.classification.calibration import Calibration
from eval.stats.calibration import Curve
from stage1_classify.data.hierarchy import Hierarchy
from stage1_classify.model.classifier import Classifier
from stage1_classify.model.loading import COMBINERS, Member, Trained
from stage1_classify.model.predict import predict_logits
from stage1_classify.model.probabilities import Probabilities, uncalibrated
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

FLAT = Hierarchy((-1, -1))


@pytest.fixture
def models(tmp_path: Path) -> list[Classifier]:
    settings = stage1_settings(patch_folder(tmp_path, num_images=6))
    torch.manual_seed(0)
    both = [Classifier(settings).eval() for _ in range(2)]
    for model in both:
        torch.nn.init.normal_(model.head.classifier.weight)
    return both


def trained(root: Path, models: list[Classifier], **changes: object) -> Trained:
    settings = stage1_settings(root)
    plain = Probabilities(FLAT, uncalibrated(2))
    members = tuple(Member(model, plain, settings.input, 1) for model in models)
    values = {"combine": "mean", "flips": ("none",), "calibration": uncalibrated(2)} | changes
    return Trained(settings, members, **values)


def logits_of(*odds: list[float]) -> np.ndarray:
    return np.log(np.array(odds)).astype(np.float32)


@pytest.mark.parametrize(
    ("combine", "expected"), [("mean", [[0.65, 0.5]]), ("minimum", [[0.5, 0.25]]), ("maximum", [[0.8, 0.75]])]
)
def test_combining_two_members_exact_value(
    tmp_path: Path, models: list[Classifier], combine: str, expected: list[list[float]]
) -> None:
    """Odds 4 and 1/3 are probabilities .8 and .25; odds 1 and 3 are .5 and .75."""
    both = trained(tmp_path, models, combine=combine)
    logits = [logits_of([4, 1 / 3]), logits_of([1, 3])]
    np.testing.assert_allclose(both.probabilities_of(logits), expected, rtol=1e-6)
    nothing = np.zeros((0, 2), dtype=np.float32)
    assert both.probabilities_of([nothing, nothing]).shape == (0, 2)


def test_every_rule_is_there() -> None:
    assert set(COMBINERS) == {"mean", "minimum", "maximum"}


def test_each_member_has_its_own_probabilities_and_the_ensemble_another_calibration(
    tmp_path: Path, models: list[Classifier]
) -> None:
    """Member 0 halves finding 0 (its parent has .5), member 1 squares the odds; their mean is then calibrated."""
    squared = Calibration("temperature", (Curve(scale=2.0), Curve(scale=2.0)))
    settings = stage1_settings(tmp_path)
    members = (
        Member(models[0], Probabilities(Hierarchy((1, -1)), uncalibrated(2)), settings.input, 1),
        Member(models[1], Probabilities(FLAT, squared), settings.input, 1),
    )
    last = Calibration("platt", (Curve(offset=float(np.log(2.0))), Curve(reason="too few")))
    both = Trained(settings, members, "mean", ("none",), last)
    logits = [logits_of([4, 1]), logits_of([3, 1])]
    np.testing.assert_allclose(both.raw(logits), [[(0.4 + 0.9) / 2, 0.5]], rtol=1e-6)
    odds = 2 * 0.65 / 0.35
    np.testing.assert_allclose(both.probabilities_of(logits), [[odds / (1 + odds), 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"input": {"crop_hw": [16, 16]}}, "crop_hw"), ({"views": {"backbones": "by_view"}}, "backbones")],
)
def test_classifiers_whose_maps_are_not_of_whole_images_are_refused(
    tmp_path: Path, models: list[Classifier], changes: dict[str, object], message: str
) -> None:
    whole = trained(tmp_path, models)
    assert whole.check_for_maps() is whole
    with pytest.raises(UserError, match=message):
        replace(whole, settings=stage1_settings(tmp_path, **changes)).check_for_maps()


def test_predict_is_what_the_members_say_of_each_image(tmp_path: Path, models: list[Classifier]) -> None:
    both = trained(tmp_path, models, combine="maximum", flips=("none", "horizontal"))
    data = both.settings.data.read()
    pictures = Pictures(data, both.settings.input)
    each = [predict_logits(model, pictures, num_channels=1, flips=both.flips) for model in models]
    predicted = both.predict(data)
    assert predicted.shape == (6, 2)
    np.testing.assert_allclose(predicted, both.probabilities_of(each), rtol=1e-6)
    alone = trained(tmp_path, models[:1], flips=both.flips).predict(data)
    assert (predicted >= alone).all()
    assert (predicted > alone).any()
    assert both.predict(data.select([])).shape == (0, 2)


def test_each_member_has_its_own_normalisation_and_channels(tmp_path: Path, models: list[Classifier]) -> None:
    settings = stage1_settings(tmp_path)
    other = settings.input.model_copy(update={"mean": [0.0, 0.5, 1.0], "std": [1.0]})
    pictures = Pictures(settings.data.read(), settings.input)
    plain = Probabilities(FLAT, uncalibrated(2))
    one = Member(models[0], plain, settings.input, 1).batch(pictures, [2])
    three = Member(models[1], plain, other, 3).batch(pictures, [2])
    assert (one.shape, three.shape) == ((1, 1, 32, 48), (1, 3, 32, 48))
    grey = one * 0.25 + 0.5
    expected = grey - torch.tensor([0.0, 0.5, 1.0])[:, None, None]
    torch.testing.assert_close(three, expected, rtol=0, atol=1e-6)
