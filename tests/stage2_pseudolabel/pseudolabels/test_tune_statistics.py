"""What the tune split tells stage 2: where boxes are, and nothing learnt from the patient's own boxes."""

import numpy as np

from cxr.tables import Exclusion
from stage2_pseudolabel.boxes.bayes import BayesRule
from stage2_pseudolabel.boxes.families import box_candidates
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.makers import BoxMakers
from stage2_pseudolabel.pseudolabels.tune_statistics import has_box, learn_from_tune
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import FRAME, lit_maps, makers
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, truth_of

LESION, EFFUSION = FINDINGS
TRUE = ("wide", LESION, 10, 10, 30, 20)


def test_where_boxes_are() -> None:
    assert has_box(truth_of()).tolist() == [[False, False], [False, False]]
    assert has_box(truth_of(TRUE, TRUE, ("flat", EFFUSION, 0, 0, 9, 9))).tolist() == [[1, 0], [0, 1]]


def test_boxes_of_the_tune_split_are_compared_with_the_true_ones() -> None:
    truth = truth_of(TRUE, ("flat", LESION, 0, 0, 45, 15))
    scored = SplitMaps({"pcam": lit_maps(2)}, np.full((2, 2), 0.5))
    facts = learn_from_tune(makers(), scored, truth)
    assert (facts.calibration.num_boxes, facts.calibration.num_hits) == (2, 1)


def test_images_without_maps_teach_nothing() -> None:
    truth = truth_of(TRUE, ("flat", LESION, 15, 7.5, 45, 15))
    scored = SplitMaps({"pcam": lit_maps(2)}, np.full((2, 2), 0.5), (Exclusion("flat", "lost"),))
    assert learn_from_tune(makers(), scored, truth).calibration.num_boxes == 1


def test_the_tune_splits_own_boxes_are_left_out() -> None:
    # With its own box among the candidates each image would be hit for sure.
    truth = truth_of(TRUE, ("flat", LESION, 60, 3, 90, 12))
    candidates = box_candidates(truth, LESION, FRAME, max_candidates=10)
    rule = BayesRule(candidates, beta=4.0)
    bayes = BoxMakers(FINDINGS, ("pcam", "pcam"), (rule, rule), FRAME)
    facts = learn_from_tune(bayes, SplitMaps({"pcam": lit_maps(2)}, np.full((2, 2), 0.5)), truth)
    assert (facts.calibration.num_boxes, facts.calibration.num_hits) == (2, 0)
