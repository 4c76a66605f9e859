import numpy as np
import pytest
from stage2_builders import truth_of

from stage2_pseudolabel.bayes_rule import BayesRule, Candidates
from stage2_pseudolabel.tuning import Frame, box_candidates

# A map of 2 x 4 cells: three candidates on the left half (two alike), one on the right.
LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
CANDIDATES = Candidates(np.array([LEFT, LEFT, RIGHT]), ("a", "b", "c"))
BRIGHT_RIGHT = np.array([[0, 0, 5, 5], [0, 0, 5, 5]], dtype=np.float32)


def test_no_candidates_no_boxes() -> None:
    boxes, evidence = BayesRule(Candidates(np.zeros((0, 4)), ()), beta=1).boxes(BRIGHT_RIGHT)
    assert boxes.shape == (0, 4)
    assert evidence.shape == (0,)


def test_beta_0_is_the_prior_whatever_the_map_shows() -> None:
    boxes, evidence = BayesRule(CANDIDATES, beta=0).boxes(BRIGHT_RIGHT)
    np.testing.assert_allclose(boxes, [LEFT])
    np.testing.assert_allclose(evidence, [2 / 3])


def test_evidence_exact_posterior() -> None:
    # standardised map: -1 left, +1 right; posterior of RIGHT e^b / (e^b + 2 e^-b)
    boxes, evidence = BayesRule(CANDIDATES, beta=1).boxes(BRIGHT_RIGHT)
    np.testing.assert_allclose(boxes, [RIGHT])
    np.testing.assert_allclose(evidence, [np.e / (np.e + 2 / np.e)])


@pytest.mark.parametrize("cam", [np.zeros((2, 4)), np.full((2, 4), -3.0), np.full((2, 4), np.nan)])
def test_a_map_without_evidence_leaves_the_prior(cam: np.ndarray) -> None:
    boxes, evidence = BayesRule(CANDIDATES, beta=8).boxes(cam.astype(np.float32))
    np.testing.assert_allclose(boxes, [LEFT])
    np.testing.assert_allclose(evidence, [2 / 3])


def test_the_second_box_explains_what_the_first_does_not() -> None:
    boxes, evidence = BayesRule(CANDIDATES, beta=0, max_boxes=3).boxes(BRIGHT_RIGHT)
    np.testing.assert_allclose(boxes, [LEFT, RIGHT])
    np.testing.assert_allclose(evidence, [2 / 3, 1 / 3])


def test_an_image_on_the_tune_split_does_not_vote_for_its_own_box() -> None:
    boxes, evidence = BayesRule(CANDIDATES, beta=0).boxes(BRIGHT_RIGHT, exclude="a")
    np.testing.assert_allclose(evidence, [0.5])
    assert len(boxes) == 1
    alone = BayesRule(Candidates(np.array([LEFT]), ("a",)), beta=0)
    assert len(alone.boxes(BRIGHT_RIGHT, exclude="a")[0]) == 0


def test_coverage_counts_parts_of_cells() -> None:
    candidates = Candidates(np.array([[0.125, 0.0, 0.5, 0.5]]), ("a",))
    # half of the first cell and the whole second of the upper row
    np.testing.assert_allclose(candidates.coverage((2, 4)), [[1 / 3, 2 / 3, 0, 0, 0, 0, 0, 0]])


def test_utility_needs_more_than_a_touch() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.45], [0, 0, 1, 0.2]])
    utility = Candidates(boxes, ("a", "b", "c")).utility
    np.testing.assert_allclose(utility[0], [1, 0.5, 0])


def test_candidates_are_the_tune_splits_boxes_in_shares_of_the_map() -> None:
    truth = truth_of(("wide", "Lung Lesion", 15, 10, 30, 20), ("flat", "Lung Lesion", 0, 0, 90, 30))
    frame = Frame((32, 48), keep_aspect=False)
    candidates = box_candidates(truth, "Lung Lesion", frame, max_candidates=9)
    np.testing.assert_allclose(candidates.boxes, [[0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1]])
    assert candidates.owners == ("wide", "flat")
    assert len(box_candidates(truth, "Lung Lesion", frame, max_candidates=1).owners) == 1
    assert box_candidates(truth, "Edema", frame, max_candidates=9).boxes.shape == (0, 4)
