"""eval.detection.matching: exact matches on tiny cases, then pycocotools as the reference."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.coco import CocoBoxes, boxes_table
from cxr.config import UserError
from eval.detection import matching
from eval.detection.average_precision import average_precisions
from eval.detection.indexed import IndexedDetections, TruthIndex
from eval.detection.matching import IOUS, Detections, TrueBoxes, place_in_group
from tests.eval.detection.box_builders import NAN, coco_boxes, random_case
from tests.eval.detection.coco_reference import reference_ap, reference_matches

IMAGES = ("a", "b", "c")
FINDINGS = ("Edema", "Fracture")

Found = tuple[str, str, float, float, float, float, float]


def with_crowds(rows: list[Found], crowds: list[int]) -> CocoBoxes:
    truth = coco_boxes([], images=IMAGES, findings=FINDINGS)
    return truth.with_boxes(boxes_table(rows).assign(iscrowd=crowds))


def assert_equal_to_pycocotools(truth: CocoBoxes, predictions: CocoBoxes) -> None:
    ious = (*IOUS, 1.0)
    boxes, expected = IndexedDetections(truth, predictions), reference_matches(truth, predictions, ious)
    for own, other in zip(boxes.match(ious), expected, strict=True):
        assert own.finding == other.finding
        for name in ("scores", "image", "hit", "ignored", "num_true"):
            np.testing.assert_array_equal(getattr(own, name), getattr(other, name), err_msg=name)
    aps = reference_ap(truth, predictions, (0.4,))[0]
    for found, true, ap in zip(boxes.by_class, boxes.true.by_class, aps, strict=True):
        own_ap = average_precisions(found, true, num_sets=1, ious=(0.4,))[0, 0, 0]
        np.testing.assert_allclose(own_ap, ap, atol=1e-12)


def hits(truth: CocoBoxes, predictions: CocoBoxes, iou: float = 0.4) -> list[bool]:
    return IndexedDetections(truth, predictions).match((iou,))[0].hit[0].tolist()


def test_nothing_at_all() -> None:
    matches = IndexedDetections(coco_boxes([], images=()), coco_boxes([], images=())).match((0.4, 0.5))[0]
    assert (matches.hit.shape, len(matches.scores), len(matches.num_true)) == ((2, 0), 0, 0)
    assert IndexedDetections(coco_boxes([], findings=()), coco_boxes([], findings=())).matches == ()


@pytest.mark.parametrize(("left_over", "expected"), [((0, 100), [True, True]), ((100, 200), [True, False])])
def test_of_equal_overlaps_the_later_true_box_is_taken(left_over: tuple[float, float], expected: list[bool]) -> None:
    truth = coco_boxes([("a", "Edema", 0, 0, 100, 50, NAN), ("a", "Edema", 100, 0, 200, 50, NAN)])
    both = ("a", "Edema", 0, 0, 200, 50, 0.9)
    found = coco_boxes([both, ("a", "Edema", left_over[0], 0, left_over[1], 50, 0.8)])
    assert hits(truth, found) == expected
    assert_equal_to_pycocotools(truth, found)


def test_each_true_box_is_found_once() -> None:
    twice = [("a", "Edema", 10, 20, 110, 60, NAN)] * 2
    found = [("a", "Edema", 10, 20, 110, 60, 0.9)] * 3
    assert hits(coco_boxes(twice), coco_boxes(found)) == [True, True, False]


@pytest.mark.parametrize(("gap", "expected"), [(1e-12, True), (1e-8, False)])
def test_a_threshold_of_1_forgives_rounding(gap: float, expected: bool) -> None:
    truth = coco_boxes([("a", "Edema", 0, 0, 100, 50, NAN)])
    found = coco_boxes([("a", "Edema", 0, 0, 100 * (1 - gap), 50, 0.9)])
    assert hits(truth, found, iou=1.0) == [expected]
    assert_equal_to_pycocotools(truth, found)


def test_a_true_box_goes_before_a_region_of_higher_overlap() -> None:
    truth = with_crowds([("a", "Edema", 0, 0, 200, 90, NAN), ("a", "Edema", 0, 0, 50, 90, NAN)], [1, 0])
    found = coco_boxes(
        [("a", "Edema", 0, 0, 100, 90, 0.9), ("a", "Edema", 0, 0, 100, 90, 0.8)], images=IMAGES, findings=FINDINGS
    )
    matches = IndexedDetections(truth, found).match((0.5, 0.6))[0]
    np.testing.assert_array_equal(matches.hit, [[True, False], [False, False]])
    np.testing.assert_array_equal(matches.ignored, [[False, True], [True, True]])
    np.testing.assert_array_equal(matches.num_true, [1, 0, 0])


def test_the_cap_keeps_the_best_of_an_image() -> None:
    truth = coco_boxes([("a", "Edema", 10, 20, 110, 60, NAN)])
    found = coco_boxes([("a", "Edema", 10, 20, 110, 60, 0.1), ("a", "Edema", 0, 0, 9, 9, 0.9)])
    assert IndexedDetections(truth, found).match((0.4,), max_detections=1)[0].scores.tolist() == [0.9]


def test_predictions_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(UserError, match="finite score"):
        IndexedDetections(coco_boxes([]), coco_boxes([("a", "Edema", 0, 0, 9, 9, NAN)]))


@pytest.mark.parametrize("seed", range(3))
def test_random_boxes_agree_with_pycocotools(seed: int) -> None:
    assert_equal_to_pycocotools(*random_case(seed))


def test_more_than_100_detections_of_an_image_agree_with_pycocotools() -> None:
    rng = np.random.default_rng(4)
    corners = rng.uniform((0, 0, 20, 10), (90, 60, 90, 50), size=(400, 4))
    rows = [
        (IMAGES[i % 2], "Edema", x, y, x + w, y + h, round(float(score), 1))
        for i, ((x, y, w, h), score) in enumerate(zip(corners, rng.uniform(size=400), strict=True))
    ]
    truth = with_crowds([(*row[:6], NAN) for row in rows[::9]], [i % 4 == 0 for i in range(len(rows[::9]))])
    assert_equal_to_pycocotools(truth, coco_boxes(rows, images=IMAGES, findings=FINDINGS))


# A coarse grid of corners, so that boxes repeat, IoUs tie and thresholds are met exactly; also boxes without area.
boxes = st.tuples(
    st.sampled_from(IMAGES), st.sampled_from(FINDINGS), *[st.integers(0, 5)] * 2, *[st.integers(0, 4)] * 2
).map(lambda r: (r[0], r[1], 30.0 * r[2], 20.0 * r[3], 30.0 * (r[2] + r[4]), 20.0 * (r[3] + r[5])))
true_rows = st.lists(st.tuples(boxes, st.sampled_from([0, 0, 0, 1])), max_size=14)
found_rows = st.lists(st.tuples(boxes, st.sampled_from([0.0, 0.2, 0.5, 0.9])), max_size=24)


@settings(max_examples=100, deadline=None)
@given(true_rows, found_rows)
def test_ties_crowds_and_empty_images_agree_with_pycocotools(
    true: list[tuple[tuple[object, ...], int]], found: list[tuple[tuple[object, ...], float]]
) -> None:
    truth = with_crowds([(*box, NAN) for box, _ in true], [crowd for _, crowd in true])
    predictions = coco_boxes([(*box, score) for box, score in found], images=IMAGES, findings=FINDINGS)
    assert_equal_to_pycocotools(truth, predictions)


def test_inverted_boxes_agree_with_pycocotools() -> None:
    true = [("a", "Edema", 10, 20, 5, 60, NAN), ("a", "Edema", 10, 20, 50, 60, NAN)]
    found = [("a", "Edema", 30, 20, 20, 60, 0.9), ("a", "Edema", 10, 20, 50, 60, 0.8)]
    assert_equal_to_pycocotools(coco_boxes(true), coco_boxes(found))


def test_blocks_of_pairs_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = random_case(5)
    whole = IndexedDetections(truth, predictions).matches
    monkeypatch.setattr(matching, "MAX_PAIRS", 7)
    for own, other in zip(IndexedDetections(truth, predictions).matches, whole, strict=True):
        np.testing.assert_array_equal(own.hit, other.hit)


def as_sets(sets: list[Detections], num_images: int) -> Detections:
    return Detections(
        np.concatenate([one.image + s * num_images for s, one in enumerate(sets)]),
        np.concatenate([one.boxes for one in sets]),
        np.concatenate([one.scores for one in sets]),
    )


@pytest.mark.parametrize("with_regions", [False, True])
def test_several_sets_at_once_score_as_each_alone(with_regions: bool) -> None:
    truth, first = random_case(1)
    if with_regions:
        truth = truth.with_boxes(truth.boxes.assign(iscrowd=np.arange(len(truth.boxes)) % 3 == 0))
    second = first.with_boxes(first.boxes.assign(score=1 - first.boxes["score"], x1=first.boxes["x1"] + 9))
    sets, ious = [first, first.with_boxes(boxes_table()), second], (0.3, 0.4, 0.5)
    expected = [reference_ap(truth, one, ious) for one in sets]
    found = [IndexedDetections(truth, one).by_class for one in sets]
    for k, of_class in enumerate(zip(*found, strict=True)):
        together = as_sets(list(of_class), len(truth.images))
        aps = average_precisions(together, TruthIndex(truth).by_class[k], num_sets=3, ious=ious)
        np.testing.assert_allclose(aps[..., 0].T, np.array(expected)[:, :, k], atol=1e-12)


def test_the_best_of_an_image_score_as_if_the_others_were_not_there() -> None:
    truth, found = random_case(2)
    both = pd.concat([found.boxes, found.boxes.assign(score=found.boxes["score"] / 2, x2=found.boxes["x2"] + 5)])
    ranked = both.sort_values("score", ascending=False, kind="stable").groupby(["image_id", "finding"], sort=False)
    boxes = IndexedDetections(truth, truth.with_boxes(both))
    for k, of_class in enumerate(boxes.by_class):
        aps = average_precisions(of_class, boxes.true.by_class[k], num_sets=1, ious=(0.3, 0.5), counts=(2, 1))
        for column, count in enumerate((2, 1)):
            few = truth.with_boxes(ranked.head(count).sort_index(kind="stable"))
            expected = reference_ap(truth, few, (0.3, 0.5))[:, k]
            np.testing.assert_allclose(aps[:, 0, column], expected, atol=1e-12)


def test_a_class_without_true_boxes_has_no_ap() -> None:
    none = TrueBoxes(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0, dtype=bool), 2)
    found = Detections(np.array([0, 3]), np.ones((2, 4)), np.array([0.5, 0.2]))
    assert np.isnan(average_precisions(found, none, num_sets=2, ious=(0.4,))).all()


def test_places_within_groups() -> None:
    assert place_in_group(np.zeros(0, dtype=np.int64)).tolist() == []
    assert place_in_group(np.array([4, 4, 7, 9, 9, 9])).tolist() == [0, 1, 0, 0, 1, 2]
