"""eval.stats.bootstrap: draws of groups, intervals, and that re-weighting equals scoring anew."""

import dataclasses

import numpy as np
import pytest

from cxr.arrays import mean_over_classes
from eval.detection.average_precision import (
    RECALLS,
    ClassMatches,
    average_precision,
    bootstrap_difference,
    bootstrap_mean_ap,
    levels_reached,
    resampled_ap,
)
from eval.detection.coco_ap import evaluate
from eval.stats.bootstrap import percentile_interval, resample_counts
from tests.eval.detection.box_builders import duplicated, random_case, without_ties


def one_class(hits: list[int], images: list[int], num_true: list[int]) -> ClassMatches:
    """Detections by falling score, matched at IoU .4."""
    num = len(hits)
    return ClassMatches(
        finding="Edema",
        ious=(0.4,),
        scores=np.linspace(1, 0.1, num),
        image=np.array(images, dtype=np.int64),
        hit=np.array([hits], dtype=bool).reshape(1, num),
        ignored=np.zeros((1, num), dtype=bool),
        num_true=np.array(num_true, dtype=np.int64),
    )


WEIGHTED = [
    pytest.param([1, 1], 51 / 101, id="as_it_is"),
    pytest.param([2, 0], 1.0, id="only_the_found"),
    pytest.param([0, 2], 0.0, id="only_the_missed"),
    # 3 of 4 true boxes found at precision 1: recall levels 0 to .75
    pytest.param([3, 1], 76 / 101, id="uneven"),
]


@pytest.mark.parametrize(("counts", "expected"), WEIGHTED)
def test_weighted_ap_exact_value(counts: list[int], expected: float) -> None:
    matches = one_class([1, 0], [0, 1], [1, 1])
    assert average_precision(matches, 0.4, counts=np.array([counts]))[0] == pytest.approx(expected)


def test_resample_without_true_box_has_no_ap() -> None:
    matches = one_class([1], [0], [1, 0])
    aps = average_precision(matches, 0.4, counts=np.array([[0, 2], [1, 1]]))
    np.testing.assert_array_equal(aps, [np.nan, 1.0])


def test_no_detections() -> None:
    aps = average_precision(one_class([], [], [1, 0]), 0.4, counts=np.array([[1, 1], [0, 2]]))
    np.testing.assert_array_equal(aps, [0.0, np.nan])


def test_mean_over_classes_leaves_nan_out() -> None:
    values = np.array([[0.2, np.nan, 0.6], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(mean_over_classes(values), [0.4, np.nan])
    assert np.isnan(mean_over_classes(np.zeros((0,))))


def test_reweighting_equals_pycocotools_on_the_drawn_images() -> None:
    truth, predictions = random_case(5, num_images=12, num_classes=4)
    predictions = without_ties(predictions)
    matches = evaluate(truth, predictions).matches
    counts = resample_counts(list(truth.images["image_id"]), num_resamples=5, seed=1)
    fast = resampled_ap(matches, counts, iou=0.4)
    for row, drawn in zip(fast, counts, strict=True):
        slow = evaluate(duplicated(truth, drawn), duplicated(predictions, drawn), ious=(0.4,))
        np.testing.assert_allclose(row, slow.table[0], atol=1e-9)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = random_case(6)
    matches = evaluate(truth, predictions).matches
    counts = resample_counts(list(truth.images["image_id"]), num_resamples=50)
    whole = resampled_ap(matches, counts, iou=0.4)
    monkeypatch.setattr("eval.stats.bootstrap.MAX_CELLS", 100)
    np.testing.assert_array_equal(whole, resampled_ap(matches, counts, iou=0.4))


def searched_ap(matches: ClassMatches, counts: np.ndarray) -> np.ndarray:
    """The plain way: every detection of every resample, recalls looked up one by one."""
    order = np.argsort(-matches.scores, kind="stable")
    weight, is_hit = counts[:, matches.image[order]], matches.hit[0][order]
    num_true = counts @ matches.num_true
    hits = np.cumsum(weight * is_hit, axis=1)
    precision = hits / np.maximum(np.cumsum(weight, axis=1), 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    rows = zip(envelope, hits / np.maximum(num_true, 1)[:, None], strict=True)
    steps = [np.append(e, 0)[np.searchsorted(recall, RECALLS, side="left")].mean() for e, recall in rows]
    return np.where(num_true > 0, steps, np.nan)


@pytest.mark.parametrize("seed", range(5))
def test_sums_between_hits_equal_the_plain_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_images, num = 37, 400
    image, hit = np.sort(rng.integers(num_images, size=num)), rng.uniform(size=num) < 0.04
    found = np.bincount(image[hit], minlength=num_images)
    matches = dataclasses.replace(
        one_class([], [], (found + rng.integers(2, size=num_images)).tolist()),
        scores=rng.permutation(num) / num,
        image=image,
        hit=hit[None],
        ignored=np.zeros((1, num), dtype=bool),
    )
    counts = resample_counts([str(i) for i in range(num_images)], num_resamples=150, seed=seed)
    np.testing.assert_allclose(
        average_precision(matches, 0.4, counts=counts), searched_ap(matches, counts), atol=1e-12
    )


def test_levels_reached_are_those_of_a_search() -> None:
    """At every recall hits / true, also on a level: 29 / 100 is below COCO's level .29, which is rounded up."""
    for num_true in [*range(1, 400), 1000, 9700]:
        hits = np.arange(num_true + 1)
        found = levels_reached(hits, np.full(num_true + 1, num_true))
        np.testing.assert_array_equal(found, np.searchsorted(RECALLS, hits / num_true, side="right"))


def test_no_items_to_draw() -> None:
    assert resample_counts([], num_resamples=3).shape == (3, 0)


def test_whole_groups_are_drawn() -> None:
    counts = resample_counts(["p1", "p2", "p1", "p3"], num_resamples=200, seed=4)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, [0, 1, 3]].sum(axis=1), np.full(200, 3))
    assert counts.mean() == pytest.approx(1.0, abs=0.1)


def test_draws_depend_on_the_seed_alone() -> None:
    first = resample_counts(["a", "b", "c"], num_resamples=20, seed=1)
    np.testing.assert_array_equal(first, resample_counts(["x", "y", "z"], num_resamples=20, seed=1))
    assert (first != resample_counts(["a", "b", "c"], num_resamples=20, seed=2)).any()


def test_percentile_interval_exact_value() -> None:
    interval = percentile_interval(np.array([*np.arange(101.0), np.nan]))
    assert (interval.low, interval.high) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([np.nan])).low)


def test_interval_encloses_the_estimate_and_narrows_with_more_images() -> None:
    widths = []
    for num_images in (12, 96):
        truth, predictions = random_case(8, num_images=num_images, num_classes=3)
        result = evaluate(truth, predictions, ious=(0.4,))
        interval = bootstrap_mean_ap(result.matches, result.image_ids, num_resamples=300, seed=0)
        assert interval.low < result.mean_ap(0.4) < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < 0.6 * widths[0]


def test_class_without_truth_has_no_interval() -> None:
    result = evaluate(*random_case(2), ious=(0.4,))
    aps = resampled_ap(result.matches, resample_counts(result.image_ids, num_resamples=50), iou=0.4)
    empty, full = percentile_interval(aps[:, 0]), percentile_interval(aps[:, 1])
    assert np.isnan(empty.low)
    assert full.low < full.high


def test_difference_of_a_set_with_itself_is_nothing() -> None:
    result = evaluate(*random_case(1), ious=(0.4,))
    pair = (result.matches, result.matches)
    difference = bootstrap_difference(pair, result.image_ids, num_resamples=50)
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert not difference.is_clear


def test_difference_is_paired() -> None:
    """One set is the other with some boxes lost: clearly worse, though the intervals overlap."""
    truth, predictions = random_case(9, num_images=40)
    fewer = predictions.with_boxes(predictions.boxes[predictions.boxes.index % 6 != 0])
    better, worse = (evaluate(truth, p, ious=(0.4,)) for p in (predictions, fewer))
    options = {"num_resamples": 300, "seed": 0}
    first = bootstrap_mean_ap(better.matches, better.image_ids, **options)
    second = bootstrap_mean_ap(worse.matches, worse.image_ids, **options)
    assert first.low < second.high
    pair = (better.matches, worse.matches)
    difference = bootstrap_difference(pair, better.image_ids, **options)
    assert difference.value == pytest.approx(better.mean_ap(0.4) - worse.mean_ap(0.4))
    assert difference.is_clear
    assert difference.low > 0


def test_a_single_group_has_no_interval() -> None:
    """All its draws would be alike, and an interval of no width would look like certainty."""
    counts = resample_counts(["p1", "p1", "p1"], num_resamples=50)
    assert counts.shape == (0, 3)
    assert np.isnan(percentile_interval(counts[:, 0].astype(float)).high)


def test_boxes_of_a_single_patient_have_no_interval() -> None:
    result = evaluate(*random_case(1), ious=(0.4,))
    groups = ["p1"] * len(result.image_ids)
    assert np.isnan(bootstrap_mean_ap(result.matches, groups).low)
    difference = bootstrap_difference((result.matches, result.matches), groups)
    assert difference.value == 0.0
    assert not difference.is_clear
