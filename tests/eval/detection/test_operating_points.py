"""eval.detection.operating_points: chosen by hand on tiny cases, read back from JSON, counted on other images."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cxr.config import UserError
from eval.detection.curves import Confidence
from eval.detection.indexed import IndexedDetections
from eval.detection.operating_points import best_f1_point, choose_points, count_at, limited_point
from eval.detection.points import Measured, OperatingPoint, read_points, with_measured
from eval.stats.calibration import Curve
from tests.eval.detection.box_builders import Row, coco_boxes

NAN = float("nan")
EDEMA, MASS = FINDINGS = ("Edema", "Mass")
AS_IT_IS = Confidence(Curve(), {})
TRUE = [("a", EDEMA, 0, 0, 40, 20, NAN), ("b", MASS, 0, 0, 40, 20, NAN)]


def hit(image: str, finding: str, score: float) -> Row:
    return (image, finding, 0, 0, 40, 20, score)


def miss(image: str, finding: str, score: float) -> Row:
    return (image, finding, 100, 50, 140, 70, score)


FOUND = [hit("a", EDEMA, 0.8), miss("b", EDEMA, 0.6), miss("a", MASS, 0.7), hit("b", MASS, 0.5), miss("a", MASS, 0.2)]


def matched(found: list[Row], true: list[Row] = TRUE):
    return IndexedDetections(coco_boxes(true, findings=FINDINGS), coco_boxes(found, findings=FINDINGS)).match((0.4,))


def test_without_detections_nothing_is_shown_by_f1_and_all_from_the_least_confidence_on_by_a_rate() -> None:
    points = {point.name: point for point in choose_points(matched([]), AS_IT_IS)}
    assert points["f1"].scores == {EDEMA: np.inf, MASS: np.inf}
    assert points["half_fp"].scores == points["one_fp"].scores == pytest.approx({EDEMA: 0.05, MASS: 0.05})


def test_best_f1_is_of_each_finding() -> None:
    assert best_f1_point(matched(FOUND), AS_IT_IS).scores == {EDEMA: 0.8, MASS: 0.5}


@pytest.mark.parametrize(("offset", "expected"), [(0.0, 0.5), (-2.9, 0.5), (-3.0, np.inf)])
def test_best_f1_shows_no_box_of_almost_no_confidence(offset: float, expected: float) -> None:
    """A score of .5 means a confidence of .052 and .047."""
    confidence = Confidence(Curve(), {MASS: Curve(scale=1.0, offset=offset)})
    assert best_f1_point(matched(FOUND), confidence).scores == {EDEMA: 0.8, MASS: expected}


def test_of_the_confidences_that_may_be_shown_the_best_f1_is_taken() -> None:
    """The best F1 of all scores is at .01; the best from a confidence of .05 on is at .5."""
    true = [*TRUE, ("a", MASS, 0, 0, 40, 20, NAN)]
    found = [hit("b", MASS, 0.5), hit("a", MASS, 0.01)]
    sure = Confidence(Curve(offset=5.0), {})
    assert best_f1_point(matched(found, true), sure).scores[MASS] == 0.01
    assert best_f1_point(matched(found, true), AS_IT_IS).scores[MASS] == 0.5


@pytest.mark.parametrize(
    ("rate", "between"),
    [
        (0.0, (0.7, 0.8)),
        (0.49, (0.7, 0.8)),
        (0.5, (0.6, 0.7)),
        (1.0, (0.2, 0.5)),
        (1.4, (0.2, 0.5)),
        (1.5, (0.0499, 0.0501)),
    ],
)
def test_a_rate_is_of_all_findings_together(rate: float, between: tuple[float, float]) -> None:
    """Two images: one false box is a rate of a half."""
    scores = limited_point("x", rate, matched(FOUND), AS_IT_IS).scores
    assert scores[EDEMA] == pytest.approx(scores[MASS])
    assert between[0] <= scores[EDEMA] <= between[1]


def test_where_the_first_box_is_one_too_many_none_is_shown() -> None:
    point = limited_point("x", 0.4, matched([miss("a", MASS, 0.7), hit("a", EDEMA, 0.6)]), AS_IT_IS)
    assert point.scores == {EDEMA: np.inf, MASS: np.inf}
    assert point.about.startswith("no box") and "inf" not in point.about


def test_a_point_says_in_words_what_it_shows() -> None:
    about = {rate: limited_point("x", rate, matched(FOUND), AS_IT_IS).about for rate in (0.5, 1.0, 1.5)}
    assert about[0.5].endswith("for all findings: at most 0.5 false positives per image on tune")
    assert about[1.0].endswith("at most 1 false positive per image on tune")
    assert about[1.5] == "one confidence (0.050) for all findings: at most 1.5 false positives per image on tune"


def test_boxes_of_equal_confidence_are_shown_together_or_not_at_all() -> None:
    found = [hit("a", EDEMA, 0.8), miss("a", MASS, 0.5), hit("b", MASS, 0.5)]
    assert 0.5 < limited_point("x", 0.4, matched(found), AS_IT_IS).scores[MASS] < 0.8
    assert limited_point("x", 0.5, matched(found), AS_IT_IS).scores[MASS] == pytest.approx(0.05)


def test_a_rate_shows_no_box_of_almost_no_confidence() -> None:
    """The best score, .8, means a confidence of .01."""
    unsure = Confidence(Curve(offset=-6.0), {})
    assert min(limited_point("x", 100.0, matched(FOUND), unsure).scores.values()) > 0.8


def test_findings_are_weighed_by_confidence_not_by_score() -> None:
    """A score of Mass means more than it says: its right box of .2 goes before the false one of Edema of .6."""
    confidence = Confidence(Curve(), {MASS: Curve(scale=1.0, offset=3.0)})
    found = [miss("b", EDEMA, 0.6), hit("b", MASS, 0.2)]
    point = limited_point("x", 0.0, matched(found), confidence)
    assert point.scores[MASS] <= 0.2
    assert point.scores[EDEMA] > 0.6


def test_ignore_regions_count_as_nothing() -> None:
    truth = coco_boxes([*TRUE, ("b", EDEMA, 100, 50, 140, 70, NAN)], findings=FINDINGS)
    truth = truth.with_boxes(truth.boxes.assign(iscrowd=[0, 0, 1]))
    matches = IndexedDetections(truth, coco_boxes(FOUND, findings=FINDINGS)).match((0.4,))
    assert 0.5 <= limited_point("x", 0.4, matches, AS_IT_IS).scores[EDEMA] <= 0.8
    counts = count_at(OperatingPoint("x", "", {EDEMA: 0.0}), matches, 2)
    assert counts.shown.tolist() == [[1, 0], [0, 0]]


def test_figures_at_a_point() -> None:
    counts = count_at(OperatingPoint("x", "", {EDEMA: 0.7, MASS: 0.2}), matched(FOUND), 2)
    values = {measure.name: measure.values(2).tolist() for measure in counts.measures()}
    assert values == {
        "sensitivity": [1, 1],
        "precision": [1, pytest.approx(1 / 3)],
        "false_positives_per_image": [0, 1],
        "f1_score": [1, 0.5],
    }
    pooled = {measure.name: measure.values(2).tolist() for measure in counts.pooled().measures()}
    assert pooled == {
        "sensitivity": [1],
        "precision": [0.5],
        "false_positives_per_image": [1],
        "f1_score": [pytest.approx(2 / 3)],
    }
    second = {measure.name: measure.resampled(np.array([[0, 2]]))[0] for measure in counts.measures()}
    assert second["sensitivity"].tolist() == [pytest.approx(NAN, nan_ok=True), 1]
    assert second["f1_score"].tolist() == [pytest.approx(NAN, nan_ok=True), 1]
    assert second["precision"].tolist() == [pytest.approx(NAN, nan_ok=True), 1]
    assert second["false_positives_per_image"].tolist() == [0, 0]


SCORE = st.integers(0, 20).map(lambda number: number / 20)
BOXES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(FINDINGS), SCORE, st.booleans()), max_size=12)
SLOPE = st.floats(0.2, 3)


@example([("a", EDEMA, 1.0, False), ("a", MASS, 1.0, False)], 0.5, 1.0, 2.0)
@given(BOXES, st.sampled_from([0.0, 0.5, 1.0, 2.0]), SLOPE, SLOPE)
@settings(max_examples=60, deadline=None)
def test_a_point_keeps_its_rate_on_the_images_it_was_chosen_on(
    rows: list[tuple[str, str, float, bool]], rate: float, first: float, second: float
) -> None:
    found = [(hit if right else miss)(image, finding, score) for image, finding, score, right in rows]
    confidence = Confidence(Curve(), {EDEMA: Curve(first, 0.5), MASS: Curve(second, -0.5)})
    point = limited_point("x", rate, matched(found), confidence)
    counts = count_at(point, matched(found), 2).pooled()
    assert (counts.shown - counts.hits).sum() / 2 <= rate


def test_a_table_is_shown_from_the_score_of_its_finding_on() -> None:
    point = OperatingPoint("x", "", {EDEMA: 0.7})
    boxes = coco_boxes([hit("a", EDEMA, 0.7), hit("a", EDEMA, 0.69), hit("a", MASS, 1.0)], findings=FINDINGS).boxes
    assert point.shows(boxes).tolist() == [True, False, False]
    assert point.shows(boxes[:0]).tolist() == []


def test_figures_of_the_test_split_are_added_by_their_names() -> None:
    point = OperatingPoint("f1", "", {EDEMA: 0.25, MASS: np.inf})
    assert with_measured({"f1": point}, {}) == {"f1": point}
    rate = "false_positives_per_image/f1"
    metrics = {rate: 0.5, f"{rate}/low": 0.25, f"{rate}/high": 1.0, "sensitivity/f1/mass": 0.0}
    assert with_measured({"f1": point}, metrics)["f1"].measured == Measured(0.5, 0.25, 1.0)  # mass is never shown
    missed = with_measured({"f1": point}, metrics | {"sensitivity/f1/edema": 0.0})["f1"].measured
    assert missed is not None and missed.never_found == (EDEMA,)


def test_points_come_back_from_json() -> None:
    point = OperatingPoint("f1", "by hand", {EDEMA: 0.25, MASS: np.inf})
    text = json.dumps({"f1": point.as_dict()}, allow_nan=False)
    assert read_points(json.loads(text)) == {"f1": point}
    measured = replace(point, measured=Measured(0.5, 0.25, None, (MASS,)))
    assert read_points(json.loads(json.dumps({"f1": measured.as_dict()}))) == {"f1": measured}
    assert read_points({}) == {}
    with pytest.raises(UserError, match="operating points: damaged"):
        read_points({"f1": {"scores": {}}})
