"""One reader against the others: exact counts, the AP of one point, what a reader who saw nothing costs."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.readers import ReaderSettings
from eval.detection.average_precision import RECALLS
from eval.detection.pairing import box_pairs, match_greedily
from eval.readers.human import HumanCounts, human_counts

COLUMNS = ["image_id", "finding", "x1", "y1", "x2", "y2", "reader"]
UNION = ReaderSettings(rule="union")

# R1 and R2 agree (IoU 2/3); R3 boxes another place.
ROWS = [("a", "Edema", 0, 0, 10, 4, "R1"), ("a", "Edema", 2, 0, 12, 4, "R2"), ("a", "Edema", 50, 0, 60, 4, "R3")]


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


def counts(*rows: tuple[object, ...], readings: pd.DataFrame | None = None, **settings: Any) -> list[list[float]]:
    """Hits, marked and true boxes of Edema, on images a and b."""
    chosen = ReaderSettings(**settings)
    found = human_counts(table(*rows), ["a", "b"], findings=["Edema"], settings=chosen, readings=readings)
    return [values[:, 0].tolist() for values in (found.hits, found.marked, found.true)]


@pytest.mark.parametrize("rule", ["majority", "union", "wbf", "em"])
def test_without_readers_there_is_no_figure(rule: Any) -> None:
    settings = ReaderSettings(rule=rule)
    for boxes in (table(), table(("a", "Edema", 0, 0, 10, 4, ""))):
        measure = human_counts(boxes, ["a", "b"], findings=["Edema", "Mass"], settings=settings).ap()
        assert measure.name == "ap40"
        assert measure.findings == ("Edema", "Mass")
        assert np.isnan(measure.values(2)).all()
    assert human_counts(table(), [], findings=[], settings=settings).ap().values(0).shape == (0,)


def test_a_lone_reader_has_no_others() -> None:
    assert counts(("a", "Edema", 0, 0, 10, 4, "R1"), rule="union") == [[0, 0], [0, 0], [0, 0]]


def test_each_reader_in_turn_against_the_others() -> None:
    # R1: of the others' two boxes one found; R2 alike; R3: the others' one box, not found.
    assert counts(*ROWS, rule="union") == [[2, 0], [3, 0], [5, 0]]


def test_the_others_need_their_own_majority() -> None:
    # R1 and R2: the two others agree about nothing. R3: both others agree, elsewhere.
    assert counts(*ROWS, rule="majority") == [[0, 0], [3, 0], [1, 0]]


def test_more_votes_than_there_are_others_mean_all_others() -> None:
    assert counts(*ROWS, rule="union", min_votes=3) == counts(*ROWS, rule="majority")
    assert counts(*ROWS[:2], rule="union", min_votes=2) == [[2, 0], [2, 0], [2, 0]]


def test_a_reader_who_drew_nothing_misses_what_the_others_drew() -> None:
    # Told of a third reader: for R1 and R2 one other of two drew, for the third both did, and were missed.
    assert counts(*ROWS[:2], rule="majority", num_readers=3) == [[0, 0], [2, 0], [1, 0]]
    readings = pd.DataFrame([("a", "R1"), ("a", "R2"), ("a", "R9")], columns=["image_id", "reader"])
    assert counts(*ROWS[:2], rule="majority", readings=readings) == [[0, 0], [2, 0], [1, 0]]


def test_by_rule_single_the_chosen_reader_is_the_truth_and_not_scored() -> None:
    other = ("b", "Edema", 0, 0, 10, 4, "R2")  # an image that R1 did not read
    assert counts(*ROWS, other, rule="single", reader="R1") == [[1, 0], [2, 0], [2, 0]]


def test_a_second_box_on_the_same_thing_is_wrong() -> None:
    assert counts(*ROWS[:2], ("a", "Edema", 0, 0, 9, 4, "R1"), rule="union") == [[2, 0], [3, 0], [3, 0]]


def test_only_asked_images_and_findings_count_but_all_readers_do() -> None:
    rows = [*ROWS[:2], ("a", "Mass", 0, 0, 10, 4, "R3"), ("c", "Edema", 0, 0, 9, 9, "R1"),
            ("c", "Edema", 0, 0, 9, 9, "R2")]  # fmt: skip
    # R3 of image a, who marked another finding, misses the Edema of both others.
    assert counts(*rows, rule="majority") == [[0, 0], [2, 0], [1, 0]]


def test_ap_of_one_point_is_precision_times_the_levels_that_are_reached() -> None:
    found = HumanCounts(
        ("reached", "missed", "none marked", "no truth"),
        np.array([[2.0, 0, 0, 0], [0, 0, 0, 0]]),
        np.array([[3.0, 1, 0, 2], [1, 0, 0, 0]]),
        np.array([[5.0, 2, 1, 0], [0, 0, 0, 0]]),
    )
    once = found.ap().values(2)
    np.testing.assert_allclose(once, [2 / 4 * 41 / 101, 0, 0, np.nan])
    without_second = found.ap().resampled(np.array([[1, 0]]))[0]
    assert without_second[0] == pytest.approx(2 / 3 * (RECALLS <= 2 / 5).sum() / 101)
    np.testing.assert_allclose(found.precision().values(2), [0.5, 0, np.nan, 0])
    np.testing.assert_allclose(found.recall().values(2), [0.4, 0, 0, np.nan])


def test_readers_who_agree_exactly_reach_one() -> None:
    rows = [("b", "Edema", 5, 5, 30, 20, f"R{k}") for k in range(3)]
    measure = human_counts(table(*rows), ["a", "b"], findings=["Edema"], settings=ReaderSettings()).ap()
    assert measure.values(2).tolist() == [1]


def test_pairs_match_by_falling_overlap_whatever_the_order() -> None:
    # The first box overlaps both, the second one only the first truth: by row order it would go without.
    own = table(("a", "Edema", 3, 0, 13, 4, "R1"), ("a", "Edema", 0, 0, 10, 4, "R1"))
    truth = table(("a", "Edema", 0, 0, 10, 4, "R2"), ("a", "Edema", 6, 0, 16, 4, "R2"))
    for boxes in (own, own[::-1].reset_index(drop=True)):
        pairs = box_pairs(boxes, truth, by=("image_id", "finding"))
        assert match_greedily(pairs, iou=0.5).tolist() == [0, 1]
        assert len(match_greedily(pairs, iou=0.6)) == 1
    assert match_greedily(box_pairs(own[:0], truth, by=("image_id",)), iou=0.5).tolist() == []
