import numpy as np
import pytest

from stage2_pseudolabel.boxes.bayes import BayesRule, Candidates, posterior_boxes
from stage2_pseudolabel.boxes.rule import first_boxes

# A map of 2 x 4 cells: three candidates, two alike on the left half, one on the right.
LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
CANDIDATES = Candidates(np.array([LEFT, LEFT, RIGHT]), ("a", "b", "c"))
BRIGHT_RIGHT = np.array([[[0, 0, 5, 5], [0, 0, 5, 5]]], dtype=np.float32)
NOTHING_SAID = np.stack([np.zeros((2, 4)), np.full((2, 4), -3.0), np.full((2, 4), np.nan)]).astype(np.float32)


def test_no_candidates_no_boxes() -> None:
    found = BayesRule(Candidates(np.zeros((0, 4)), ()), beta=1).find(BRIGHT_RIGHT)
    assert found.boxes.shape == (0, 4)
    assert found.evidence.shape == found.image.shape == (0,)


def test_no_maps_no_boxes() -> None:
    assert len(BayesRule(CANDIDATES, beta=1).find(BRIGHT_RIGHT[:0])) == 0


def test_beta_0_is_the_prior_whatever_the_map_shows() -> None:
    found = BayesRule(CANDIDATES, beta=0).find(BRIGHT_RIGHT)
    np.testing.assert_allclose(found.boxes, [LEFT])
    np.testing.assert_allclose(found.evidence, [2 / 3])


def test_evidence_exact_posterior() -> None:
    # standardised map: -1 left, +1 right; posterior of RIGHT e^b / (e^b + 2 e^-b)
    found = BayesRule(CANDIDATES, beta=1).find(BRIGHT_RIGHT)
    np.testing.assert_allclose(found.boxes, [RIGHT])
    np.testing.assert_allclose(found.evidence, [np.e / (np.e + 2 / np.e)])


def test_a_map_without_evidence_leaves_the_prior_and_does_not_disturb_the_others() -> None:
    maps = np.concatenate([NOTHING_SAID, BRIGHT_RIGHT])
    found = BayesRule(CANDIDATES, beta=8).find(maps)
    assert found.image.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found.boxes, [LEFT, LEFT, LEFT, RIGHT])
    np.testing.assert_allclose(found.evidence[:3], [2 / 3] * 3)


def test_a_very_large_beta_is_certain_and_finite() -> None:
    found = BayesRule(CANDIDATES, beta=1e6).find(BRIGHT_RIGHT)
    np.testing.assert_allclose(found.boxes, [RIGHT])
    np.testing.assert_allclose(found.evidence, [1])


def test_the_second_box_explains_what_the_first_does_not() -> None:
    found = BayesRule(CANDIDATES, beta=0, max_boxes=3).find(BRIGHT_RIGHT)
    np.testing.assert_allclose(found.boxes, [LEFT, RIGHT])
    np.testing.assert_allclose(found.evidence, [2 / 3, 1 / 3])
    np.testing.assert_array_equal(first_boxes(found, 1).boxes, [LEFT])


def test_an_image_on_the_tune_split_does_not_vote_for_its_own_box() -> None:
    maps = np.repeat(BRIGHT_RIGHT, 3, axis=0)
    found = BayesRule(CANDIDATES, beta=0).find(maps, patients=["a", "c", "x"])
    np.testing.assert_allclose(found.evidence, [0.5, 1, 2 / 3])
    alone = BayesRule(Candidates(np.array([LEFT]), ("a",)), beta=3)
    assert alone.find(maps[:2], patients=["a", "b"]).image.tolist() == [1]


def test_the_box_is_the_mean_of_the_candidates_that_agree_with_the_best() -> None:
    # IoU of the first two .6 and more: worth 1 to each other; the third is apart and has no say
    boxes = np.array([[0.0, 0.0, 0.4, 1.0], [0.1, 0.0, 0.4, 1.0], [0.6, 0.0, 1.0, 1.0]])
    candidates = Candidates(boxes, ("a", "b", "c"))
    found = posterior_boxes(np.log([[1.0, 3.0, 2.0]]), candidates, beta=1, max_boxes=2)
    np.testing.assert_allclose(found.boxes, [[0.075, 0, 0.4, 1], boxes[2]])
    np.testing.assert_allclose(found.evidence, [4 / 6, 2 / 6])


def test_many_betas_share_one_evidence_matrix() -> None:
    evidence = BayesRule(CANDIDATES, beta=0).evidence(BRIGHT_RIGHT)
    np.testing.assert_allclose(evidence, [[-1, -1, 1]])
    for beta in (0.0, 1.0, 4.0):
        again = posterior_boxes(evidence, CANDIDATES, beta=beta, max_boxes=2)
        rule = BayesRule(CANDIDATES, beta=beta, max_boxes=2).find(BRIGHT_RIGHT)
        np.testing.assert_array_equal(again.boxes, rule.boxes)
        np.testing.assert_array_equal(again.evidence, rule.evidence)


def test_coverage_counts_parts_of_cells() -> None:
    candidates = Candidates(np.array([[0.125, 0.0, 0.5, 0.5]]), ("a",))
    # half of the first cell and the whole second of the upper row
    np.testing.assert_allclose(candidates.coverage((2, 4)), [[1 / 3, 2 / 3, 0, 0, 0, 0, 0, 0]])


def test_ring_is_the_inside_minus_the_surroundings() -> None:
    # the second and third cell of the upper row; the ring goes half a box to the sides, cut above, half a cell below
    candidates = Candidates(np.array([[0.25, 0.0, 0.75, 0.5]]), ("a",))
    ring = np.array([[1, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]]) / 4
    inside = np.array([[0, 0.5, 0.5, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(candidates.coverage((2, 4), "ring"), [(inside - ring).ravel()])


def test_a_box_that_fills_the_map_has_no_ring() -> None:
    candidates = Candidates(np.array([[0.0, 0.0, 1.0, 1.0]]), ("a",))
    np.testing.assert_array_equal(candidates.coverage((2, 4), "ring"), np.zeros((1, 8)))


def test_the_negatives_mean_is_taken_away_first() -> None:
    background = BRIGHT_RIGHT[0] + np.array([[0, 0, 0, 0], [0, 0, 0, -5]], dtype=np.float32)
    evidence = BayesRule(CANDIDATES, beta=0, background=background).evidence(BRIGHT_RIGHT)
    # what is left is one cell of eight: mean 1/8, deviation sqrt(7)/8
    np.testing.assert_allclose(evidence, np.array([[-1, -1, 1]]) / np.sqrt(7))
    rule = BayesRule(CANDIDATES, beta=0, background=BRIGHT_RIGHT[0])
    np.testing.assert_array_equal(rule.evidence(BRIGHT_RIGHT), 0)


def test_similarity_adds_the_correlation_with_the_candidates_own_map() -> None:
    bright_left = BRIGHT_RIGHT[:, :, ::-1]
    own = np.concatenate([bright_left, BRIGHT_RIGHT, NOTHING_SAID[:1]])
    split = np.concatenate([BRIGHT_RIGHT + 1, own])
    candidates = Candidates(CANDIDATES.boxes, CANDIDATES.patients, (1, 2, 3)).with_maps(split)
    evidence = BayesRule(candidates, beta=0, similarity=0.5).evidence(BRIGHT_RIGHT)
    np.testing.assert_allclose(evidence, [[-1.5, -0.5, 1]])
    rule = BayesRule(candidates, beta=2, similarity=0.5)
    weights = np.exp([-3, -1, 2])
    np.testing.assert_allclose(rule.find(BRIGHT_RIGHT).evidence, [weights[2] / weights.sum()])
    assert "mean + 0.5 similarity" in str(rule)
    assert rule.as_dict()["similarity"] == 0.5


def test_utility_needs_more_than_a_touch() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.45], [0, 0, 1, 0.2]])
    utility = Candidates(boxes, ("a", "b", "c")).utility
    np.testing.assert_allclose(utility[0], [1, 0.5, 0])


def test_a_rule_says_what_it_is() -> None:
    rule = BayesRule(CANDIDATES, beta=1.5, max_boxes=2, contrast="ring", background=BRIGHT_RIGHT[0])
    assert rule.kind == "bayes"
    assert rule.as_dict()["background"] == "negatives"
    assert "beta 1.5 on ring, 3 candidates, up to 2, minus" in str(rule)


@pytest.mark.parametrize("contrast", ["mean", "ring"])
def test_the_place_of_the_evidence_decides(contrast: str) -> None:
    places = np.array([[x, y, x + 0.25, y + 0.5] for x in (0, 0.25, 0.5, 0.75) for y in (0, 0.5)])
    candidates = Candidates(places, tuple("abcdefgh"))
    maps = np.eye(8, dtype=np.float32).reshape(8, 2, 4)
    found = BayesRule(candidates, beta=3, contrast=contrast).find(maps)
    middle = np.floor(found.boxes[:, :2] * [4, 2])
    np.testing.assert_array_equal(middle, [[i % 4, i // 4] for i in range(8)])
