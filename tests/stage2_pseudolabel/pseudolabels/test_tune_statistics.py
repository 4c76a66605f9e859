"""Statistics of boxes on the tune split; the true boxes of the same patient are not used."""

import numpy as np

from cxr.tables import Exclusion
from stage2_pseudolabel.boxes.bayes import BayesRule
from stage2_pseudolabel.boxes.families import box_candidates
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors
from stage2_pseudolabel.pseudolabels.tune_statistics import tune_statistics
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import FRAME, lit_maps, predictors
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, truth_of

LESION, EFFUSION = FINDINGS
TRUE = ("wide", LESION, 10, 10, 30, 20)


def test_without_true_boxes_there_is_nothing_to_fit() -> None:
    scored = SplitMaps({"pcam": lit_maps(2)}, np.full((2, 2), 0.5))
    assert tune_statistics(predictors(), scored, truth_of()).calibration.num_boxes == 0


def test_boxes_of_the_tune_split_are_compared_with_the_true_ones() -> None:
    truth = truth_of(TRUE, ("flat", LESION, 0, 0, 45, 15))
    scored = SplitMaps({"pcam": lit_maps(2)}, np.full((2, 2), 0.5))
    found = tune_statistics(predictors(), scored, truth)
    assert (found.calibration.num_boxes, found.calibration.num_hits) == (2, 1)


def test_images_without_maps_do_not_count() -> None:
    truth = truth_of(TRUE, ("flat", LESION, 15, 7.5, 45, 15))
    scored = SplitMaps({"pcam": lit_maps(2)}, np.full((2, 2), 0.5), (Exclusion("flat", "lost"),))
    assert tune_statistics(predictors(), scored, truth).calibration.num_boxes == 1


def test_the_tune_splits_own_boxes_are_not_used() -> None:
    # With its own box among the candidates each image would be hit for sure.
    truth = truth_of(TRUE, ("flat", LESION, 60, 3, 90, 12))
    candidates = box_candidates(truth, LESION, FRAME, max_candidates=10)
    rule = BayesRule(candidates, beta=4.0)
    bayes = BoxPredictors(FINDINGS, ("pcam", "pcam"), (rule, rule), FRAME)
    found = tune_statistics(bayes, SplitMaps({"pcam": lit_maps(2)}, np.full((2, 2), 0.5)), truth)
    assert (found.calibration.num_boxes, found.calibration.num_hits) == (2, 0)
