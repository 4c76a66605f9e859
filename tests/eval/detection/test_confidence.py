"""Confidence of scored boxes: exact tiny fits, no fall with the score, and back from JSON."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cxr.coco import CocoBoxes, boxes_table
from cxr.config import UserError
from eval.detection.confidence import START, confidence_figures, finding_prior, fit_confidence, fit_curve, with_hits
from eval.detection.curves import Confidence
from eval.stats.calibration import Curve, Prior
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, truth_of

LESION, EFFUSION = FINDINGS
TRUE = ("wide", LESION, 10, 10, 30, 20)


def many(num_images: int, *, hits: int) -> tuple[CocoBoxes, pd.DataFrame]:
    """One true box and one detection an image, the first `hits` right; right ones have the higher scores."""
    rng = np.random.default_rng(0)
    names = [f"m{index}" for index in range(num_images)]
    base = truth_of()
    images = base.images.iloc[[0] * num_images].assign(image_id=names).reset_index(drop=True)
    real = boxes_table([(name, LESION, 10, 10, 30, 20, float("nan")) for name in names])
    scores = np.where(np.arange(num_images) < hits, rng.uniform(0.3, 0.9, num_images), 0.2)
    rows = [
        (name, LESION, *((10, 10, 30, 20) if index < hits else (40, 30, 50, 40)), scores[index])
        for index, name in enumerate(names)
    ]
    return CocoBoxes(images, real, FINDINGS), boxes_table(rows)


def test_without_tune_boxes_the_confidence_is_the_score() -> None:
    confidence = fit_confidence(boxes_table(), truth_of())
    boxes = boxes_table([("wide", LESION, 0, 0, 9, 9, score) for score in (0.0, 0.2, 0.9, 1.0)])
    np.testing.assert_allclose(confidence.of(boxes), [1e-6, 0.2, 0.9, 1 - 1e-6])
    assert confidence.of(boxes_table()).tolist() == []


def test_boxes_are_scored_where_the_finding_is_and_regions_count_as_nothing() -> None:
    truth = truth_of(TRUE, ("wide", EFFUSION, 0, 0, 60, 40))
    truth = truth.with_boxes(truth.boxes.assign(iscrowd=[0, 1]))
    detections = boxes_table(
        [("wide", LESION, 10, 10, 30, 20, 0.9), ("wide", LESION, 10, 10, 18, 20, 0.8),
         ("wide", LESION, 10, 10, 17.9, 20, 0.7), ("wide", EFFUSION, 0, 0, 60, 40, 0.6),
         ("flat", LESION, 10, 10, 30, 20, 0.5)]
    )  # fmt: skip
    scored = with_hits(detections, truth)
    assert scored["score"].tolist() == [0.9, 0.8, 0.7]
    assert scored["hit"].tolist() == [True, False, False]  # the second lies on a true box that is taken


def test_a_hit_is_what_pairs_off_with_a_free_true_box_best_score_first() -> None:
    truth = truth_of(TRUE, ("wide", LESION, 30, 10, 50, 20))
    rows = [("wide", LESION, 10, 10, 17.9, 20, 0.9), ("wide", LESION, 10, 10, 18, 20, 0.7),
            ("wide", LESION, 10, 10, 30, 20, 0.2), ("wide", LESION, 29, 10, 49, 20, 0.1)]  # fmt: skip
    scored = with_hits(boxes_table(rows), truth)
    assert scored["hit"].tolist() == [False, True, False, True]  # IoU .395, .4, 1 but taken, .9
    backwards = with_hits(boxes_table(rows[::-1]), truth)
    assert backwards["hit"].tolist() == [True, False, True, False]


def test_a_fit_to_equal_scores_balances_hits_and_prior() -> None:
    # Logit 0, so only the offset moves: the slope of log posterior is 3 - 4 * sigmoid(offset) - offset / sd^2.
    curve = fit_curve(np.full(4, 0.5), np.array([1, 1, 1, 0], bool), Prior(START.mean, 1.0, 2.0))
    assert curve.scale == pytest.approx(1)
    assert 3 - 4 * expit(curve.offset) == pytest.approx(curve.offset / 4, abs=1e-6)


def test_a_weak_prior_gives_the_share_of_hits() -> None:
    hits = np.arange(400) < 100
    curve = fit_curve(np.full(400, 0.5), hits, Prior(START.mean, 1.0, 1e4))
    assert expit(curve.offset) == pytest.approx(0.25, abs=1e-6)


def test_scores_that_mislead_give_a_level_curve_not_a_falling_one() -> None:
    scores, hits = np.repeat([0.1, 0.9], 50), np.repeat([True, False], 50)
    curve = fit_curve(scores, hits, START)
    assert curve.scale == 0
    assert curve.apply(np.array([0.1, 0.9])).tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


@pytest.mark.parametrize("hits", [0, 7, 20])
def test_confidence_never_falls_as_the_score_rises(hits: int) -> None:
    truth, detections = many(20, hits=hits)
    confidence = fit_confidence(detections, truth)
    scores = np.linspace(0, 1, 101)
    for finding in FINDINGS:
        values = confidence.of(boxes_table([("m0", finding, 0, 0, 9, 9, score) for score in scores]))
        assert (np.diff(values) >= 0).all()
        assert ((values >= 0) & (values <= 1)).all()


def test_a_finding_without_boxes_takes_the_curve_of_all() -> None:
    truth, detections = many(20, hits=15)
    confidence = fit_confidence(detections, truth)
    box = boxes_table([("m0", EFFUSION, 0, 0, 9, 9, 0.7)])
    assert set(confidence.by_finding) == {LESION}
    assert confidence.of(box) == pytest.approx(confidence.pooled.apply(np.array([0.7])))


def test_a_finding_with_few_boxes_leans_on_the_others() -> None:
    few = fit_curve(np.full(1, 0.5), np.array([True]), finding_prior(Curve(1, -1)))
    lots = fit_curve(np.full(100, 0.5), np.ones(100, bool), finding_prior(Curve(1, -1)))
    assert expit(-1) < expit(few.offset) < 0.7
    assert expit(lots.offset) > 0.95


def test_figures_are_those_of_boxes_that_were_held_out() -> None:
    truth, detections = many(30, hits=15)
    figures = confidence_figures(detections, truth)
    assert (figures.num_boxes, figures.num_hits) == (30, 15)
    assert figures.brier_constant == pytest.approx(0.25)
    assert figures.brier < 0.05  # the score tells all
    assert 0 <= figures.ece < 0.2
    assert figures.metrics() == {"confidence_brier": figures.brier, "confidence_ece": figures.ece}


def test_one_patient_cannot_be_held_out() -> None:
    truth, detections = many(6, hits=3)
    one = CocoBoxes(truth.images.assign(patient_id="p"), truth.boxes, truth.findings)
    figures = confidence_figures(detections, one)
    assert (figures.num_boxes, figures.num_hits) == (6, 3)
    assert np.isnan(figures.brier) and np.isnan(figures.ece)
    assert np.isnan(confidence_figures(boxes_table(), truth).brier)


def test_two_looks_at_one_patient_are_held_out_together() -> None:
    # Each patient's score is its own; with its other image in the fit, the fit would know it.
    truth, detections = many(8, hits=4)
    patients = [f"p{index // 2}" for index in range(8)]
    paired = CocoBoxes(truth.images.assign(patient_id=patients), truth.boxes, truth.findings)
    assert confidence_figures(detections, paired).brier != confidence_figures(detections, truth).brier


def test_where_all_images_are_scored_a_box_without_the_finding_is_no_hit() -> None:
    truth = truth_of(TRUE)
    rows = [("wide", LESION, 10, 10, 30, 20, 0.9), ("flat", LESION, 10, 10, 30, 20, 0.8)]
    scored = with_hits(boxes_table(rows), truth, where="all")
    assert scored[["score", "hit"]].to_numpy().tolist() == [[0.9, True], [0.8, False]]
    affirmed = fit_confidence(boxes_table(rows), truth).pooled
    assert fit_confidence(boxes_table(rows), truth, where="all").pooled.offset < affirmed.offset


def test_what_lies_in_an_ignore_region_of_its_finding_is_not_scored() -> None:
    truth = truth_of(TRUE, ("wide", LESION, 40, 0, 60, 40), ("flat", LESION, 0, 0, 90, 30))
    truth = truth.with_boxes(truth.boxes.assign(iscrowd=[0, 1, 1]))
    rows = [("wide", LESION, 10, 10, 30, 20, 0.9), ("wide", LESION, 37, 0, 42, 40, 0.8),
            ("wide", LESION, 37, 0, 41.9, 40, 0.7), ("flat", LESION, 0, 0, 9, 9, 0.6),
            ("flat", EFFUSION, 0, 0, 9, 9, 0.5)]  # fmt: skip
    scored = with_hits(boxes_table(rows), truth, where="all")
    assert scored["score"].tolist() == [0.9, 0.7, 0.5]  # 2 of 5 pixels inside, then fewer, then another finding
    assert scored["hit"].tolist() == [True, False, False]


def test_score_of_a_confidence_is_the_lowest_that_reaches_it() -> None:
    confidence = Confidence(Curve(scale=2.0, offset=-1.0), {EFFUSION: Curve(scale=0.0, offset=0.0)})
    score = confidence.score_at(LESION, 0.7)
    found = confidence.of(boxes_table([("m0", LESION, 0, 0, 9, 9, score)]))
    assert found == pytest.approx([0.7])
    assert confidence.score_at(LESION, 0.0) == 0
    assert confidence.score_at(LESION, 1.0) == np.inf
    assert (confidence.score_at(EFFUSION, 0.5), confidence.score_at(EFFUSION, 0.51)) == (0, np.inf)


def test_curves_come_back_from_json() -> None:
    truth, detections = many(20, hits=15)
    confidence = fit_confidence(detections, truth)
    again = Confidence.from_dict(json.loads(json.dumps(confidence.as_dict())))
    assert again == confidence
    with pytest.raises(UserError, match="score curves: damaged"):
        Confidence.from_dict({"pooled": {"scale": 1}, "by_finding": {}})
