"""Sensitivity at seven rates by hand, ties, ignored detections, resamples against copied images."""

import numpy as np
import pytest

from eval.detection.average_precision import evaluate
from eval.detection.froc import RATES, froc_curve, froc_measure, mean_sensitivity, sensitivity_at
from eval.detection.matching import ClassMatches
from tests.eval.detection.box_builders import coco_boxes, duplicated, random_case, without_ties

NAN = float("nan")


def one_class(
    hits: list[int], scores: list[float], images: list[int], num_true: list[int], ignored: list[int] | None = None
) -> ClassMatches:
    """Detections of images, matched at IoU .4."""
    num = len(hits)
    return ClassMatches(
        finding="Edema",
        ious=(0.4,),
        scores=np.array(scores, dtype=np.float64),
        image=np.array(images, dtype=np.int64),
        hit=np.array([hits], dtype=bool).reshape(1, num),
        ignored=np.array([ignored or [0] * num], dtype=bool).reshape(1, num),
        num_true=np.array(num_true, dtype=np.int64),
    )


CASES = [
    pytest.param([], [], 0.0, id="no_detections"),
    pytest.param([0, 0], [0.9, 0.8], 0.0, id="none_right"),
    pytest.param([1, 1], [0.9, 0.8], 1.0, id="no_false_alarm"),
    # second true box at 2 false alarms in 4 images: half found at 1/8 and 1/4, all from 1/2 on
    pytest.param([1, 0, 0, 1], [0.9, 0.8, 0.7, 0.6], (2 * 0.5 + 5) / 7, id="second_at_one_half"),
    # a third false alarm has the score of the second hit and is called with it: 3/4 an image
    pytest.param([1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.6], (3 * 0.5 + 4) / 7, id="tie_after_the_hit"),
    pytest.param([1, 0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.6], (3 * 0.5 + 4) / 7, id="tie_before_the_hit"),
    pytest.param([1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5], (2 * 0.5 + 5) / 7, id="alarms_after_the_last_hit"),
    pytest.param([1] + [0] * 33 + [1], np.linspace(1, 0, 35), 0.5, id="more_than_8_an_image"),
    pytest.param([1] + [0] * 32 + [1], np.linspace(1, 0, 34), (6 * 0.5 + 1) / 7, id="exactly_8_an_image"),
]


@pytest.mark.parametrize(("hits", "scores", "expected"), CASES)
def test_exact_value(hits: list[int], scores: list[float], expected: float) -> None:
    images = sorted(i % 4 for i in range(len(hits)))
    measure = froc_measure([one_class(hits, scores, images, [1, 1, 0, 0])])
    assert (measure.name, measure.findings) == ("froc", ("Edema",))
    assert measure.values(4)[0] == pytest.approx(expected)


def test_weights_of_images() -> None:
    """Image 0: found first. Image 1: a false alarm, then its true box. Image 2: normal and silent."""
    matches = one_class([1, 0, 1], [0.9, 0.8, 0.7], [0, 1, 1], [1, 1, 0])
    counts = np.array([[1, 1, 1], [2, 1, 1], [1, 0, 9], [0, 0, 5], [0, 1, 7]])
    # false alarms an image 1/3, 1/4, 0, 0, 1/8
    expected = [(2 * 0.5 + 5) / 7, (2 / 3 + 6) / 7, 1.0, NAN, 1.0]
    np.testing.assert_allclose(froc_measure([matches]).resampled(counts)[:, 0], expected)


def test_detection_on_an_ignored_region_is_no_false_alarm() -> None:
    matches = one_class([0, 1], [0.9, 0.8], [0, 0], [1, 0], ignored=[1, 0])
    assert froc_measure([matches]).values(2)[0] == 1.0


def test_no_classes_and_no_images() -> None:
    assert froc_measure([]).values(3).shape == (0,)
    assert np.isnan(froc_measure([one_class([], [], [], [])]).values(0)).all()


def test_resample_is_the_value_of_the_drawn_images() -> None:
    truth, predictions = random_case(2, num_images=11)
    predictions = without_ties(predictions)
    counts = np.array([[2, 0, 1, 1, 0, 3, 1, 1, 0, 0, 2]])
    found = froc_measure(evaluate(truth, predictions).matches).resampled(counts)[0]
    drawn = evaluate(duplicated(truth, counts[0]), duplicated(predictions, counts[0]))
    np.testing.assert_allclose(found, froc_measure(drawn.matches).values(11), atol=1e-12)
    assert np.isnan(found[0])  # class 0 has no true box
    assert found[1] > 0.5


def test_curve_has_a_point_for_each_score() -> None:
    curve = froc_curve(one_class([1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.6], [0, 0, 1, 1, 2], [1, 1, 0, 0]))
    np.testing.assert_array_equal(curve.threshold, [np.inf, 0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(curve.false_positives, [0, 0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve.sensitivity, [0, 0.5, 0.5, 0.5, 1.0])


def test_curve_of_a_class_without_detections_or_true_boxes() -> None:
    empty = froc_curve(one_class([], [], [], [1]))
    assert (empty.threshold.tolist(), empty.sensitivity.tolist()) == ([np.inf], [0.0])
    assert np.isnan(froc_curve(one_class([0], [0.5], [0], [0])).sensitivity).all()


def test_measure_follows_the_curve() -> None:
    """At each rate the highest sensitivity of a point whose false alarms do not exceed it."""
    result = evaluate(*random_case(6), ious=(0.4,))
    values = froc_measure(result.matches).values(len(result.image_ids))
    for value, matches in zip(values[1:], result.matches[1:], strict=True):
        curve = froc_curve(matches)
        at = [curve.sensitivity[curve.false_positives <= 2.0**power].max() for power in range(-3, 4)]
        assert value == pytest.approx(np.mean(at))


def test_boxes_of_the_first_class_do_not_count_for_the_second() -> None:
    kinds = {"findings": ("Edema", "Fracture")}
    truth = coco_boxes([("a", "Edema", 0, 0, 90, 40, NAN), ("b", "Fracture", 0, 0, 50, 20, NAN)], **kinds)
    found = coco_boxes([("a", "Edema", 0, 0, 90, 40, 0.5), ("b", "Edema", 0, 0, 50, 20, 0.5)], **kinds)
    matches = evaluate(truth, found, ious=(0.4,)).matches
    # one false alarm of Edema in two images
    np.testing.assert_allclose(froc_measure(matches).values(2), [5 / 7, 0.0])


def test_sensitivity_at_a_rate_is_that_of_the_lowest_threshold_within_it() -> None:
    curve = froc_curve(one_class([1, 0, 0, 1], [0.9, 0.8, 0.7, 0.6], [0, 1, 2, 3], [1, 0, 0, 1]))
    assert sensitivity_at(curve, np.array([0, 0.2, 0.25, 0.49, 0.5, 8])).tolist() == [0.5, 0.5, 0.5, 0.5, 1, 1]
    none = froc_curve(one_class([0], [0.9], [0], [1]))
    assert sensitivity_at(none, np.array([0.5, 1])).tolist() == [0, 0]


def test_mean_sensitivity_at_the_seven_rates_averages_to_froc() -> None:
    matches = evaluate(*random_case(1)).matches
    at_rates = mean_sensitivity(matches, RATES)
    per_class = froc_measure(matches).values(23)
    assert at_rates.mean() == pytest.approx(np.nanmean(per_class))
    assert np.isnan(mean_sensitivity([], RATES)).all()
