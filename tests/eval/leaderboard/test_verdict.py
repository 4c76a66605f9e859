"""Sentences about a leaderboard: names, figures and which way a difference goes; not their wording."""

from eval.leaderboard.verdict import (
    about_intervals,
    against,
    against_human,
    against_strongest_prior,
    comparison_sentence,
    verdict_block,
)
from eval.stats.bootstrap import Estimate
from tests.eval.leaderboard.board_builders import ap40, board_of, entry

NAN = float("nan")


def test_a_significant_difference_says_which_one_finds_more() -> None:
    sentence = comparison_sentence("the detector", "its CAM teacher", (0.44, 0.24), Estimate(0.2, 0.15, 0.25))
    assert sentence == (
        "The detector finds more lesions than its CAM teacher: AP40 .44 against .24, difference .20 [.15, .25]."
    )
    assert "fewer lesions" in comparison_sentence("a", "b", (0.2, 0.4), Estimate(-0.2, -0.25, -0.15))


def test_other_differences_are_not_significant() -> None:
    sentence = comparison_sentence("the detector", "its CAM teacher", (0.53, 0.49), Estimate(0.04, -0.02, 0.09))
    assert sentence == (
        "The detector and its CAM teacher do not differ significantly: "
        "AP40 .53 against .49, difference .04 [-.02, .09]."
    )
    unknown = comparison_sentence("a", "b", (0.5, NAN), Estimate(NAN, NAN, NAN))
    assert unknown == "A and b do not differ significantly: AP40 .50 against unknown, difference unknown."


def test_the_teacher_is_named_with_its_method_and_the_strongest_prior_is_chosen() -> None:
    priors = [entry(f"prior_{name}", value, kind="prior") for name, value in (("mean_box", 0.1), ("no_map", 0.2))]
    board = board_of(entry("detector", 0.4, spread=0.02), entry("teacher", 0.3), *priors, teacher="pcam")
    assert "its CAM teacher (PCAM): AP40 .40 against .30" in against(board, "teacher")
    (sentence,) = against_strongest_prior(board)
    assert "the prior that uses no map: AP40 .40 against .20" in sentence
    assert against_strongest_prior(board_of(entry("detector", 0.4))) == []


def test_the_human_ceiling_is_compared_paired_where_it_can_be() -> None:
    main = entry("detector", 0.4)
    assert against_human(board_of(main)) == []
    (paired,) = against_human(board_of(main, human=ap40(0.6, 0.02)))
    assert "AP40 .40 against .60, difference -.20" in paired
    tune = {"tune_ap40/human": 0.6, "tune_ap40/human/low": 0.5, "tune_ap40/human/high": 0.7}
    (by_interval,) = against_human(board_of(main, more=tune))
    assert ".60 [.50, .70] on the tune split" in by_interval and "is below" in by_interval


def test_intervals_and_what_holm_takes_back() -> None:
    assert "single patient" in about_intervals(board_of(entry("detector", 0.4, size=0)))
    others = [entry(name, 0.3) for name in ("teacher", "a", "b")]
    board = board_of(entry("detector", 0.4, spread=0.02), *others)
    assert "3 comparisons" in about_intervals(board) and "its CAM teacher, a and b" in about_intervals(board)
    assert "comparisons" not in about_intervals(board_of(entry("detector", 0.4), entry("teacher", 0.4)))


def test_the_first_sentence_is_the_main_result() -> None:
    assert verdict_block(["One.", "Two.", "Three."]).body == "One.\n\nTwo. Three."
