"""Images grouped into cases: which views, in which order, with which labels; logits summed exactly."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError
from cxr.tables import Dataset, empty_boxes, image_table
from stage1_classify.data.studies import SURPLUS, make_cases, sum_views

NAN = float("nan")


def data_of(*rows: tuple[str, str, str], labels: list[float] | None = None) -> Dataset:
    """A data set of rows (patient, study, view), named i0, i1, ... in table order; one finding, 1 throughout."""
    ids = [f"i{number}" for number in range(len(rows))]
    patients, studies, views = zip(*rows, strict=True) if rows else ((), (), ())
    images = image_table(image_id=ids, path=ids, patient_id=list(patients), study_id=list(studies), view=list(views))
    values = [1.0] * len(rows) if labels is None else labels
    return Dataset("tiny", Path(), images, pd.DataFrame({"Edema": values}, index=ids), empty_boxes())


FRONTAL, LATERAL, UNKNOWN = ("a", "1", "frontal"), ("a", "1", "lateral"), ("a", "1", "")


@pytest.mark.parametrize("max_views", [None, 1, 2])
def test_no_images_no_cases(max_views: int | None) -> None:
    cases = make_cases(data_of(), max_views)
    assert len(cases) == 0
    assert sum_views(np.zeros((0, 3), np.float32), cases.views).shape == (0, 3)


def test_without_studies_each_image_is_a_case() -> None:
    data = data_of(LATERAL, FRONTAL)
    cases = make_cases(data, None)
    assert cases.views == ((0,), (1,))
    assert cases.first is data
    assert cases.left_out == ()


def test_a_study_is_what_shares_patient_and_study() -> None:
    data = data_of(("a", "1", "frontal"), ("b", "1", "frontal"), ("a", "1", "lateral"), ("a", "2", "frontal"))
    assert make_cases(data, 2).views == ((0, 2), (1,), (3,))


def test_images_without_a_study_are_cases_of_their_own() -> None:
    """Also where a study bears the number of their row."""
    data = data_of(("a", "", "frontal"), ("a", "", "frontal"), ("a", "0", "frontal"), ("", "", ""))
    assert make_cases(data, 3).views == ((0,), (1,), (2,), (3,))


def test_frontals_come_first_then_laterals_then_unknown_ones() -> None:
    cases = make_cases(data_of(UNKNOWN, LATERAL, FRONTAL, LATERAL, FRONTAL), 5)
    assert cases.views == ((2, 4, 1, 3, 0),)
    assert cases.left_out == ()


@pytest.mark.parametrize(
    ("max_views", "views", "left_out"),
    [
        (1, (2,), ["i0", "i1", "i3", "i4", "i5"]),
        (2, (2, 1), ["i0", "i3", "i4", "i5"]),
        (3, (2, 3, 1), ["i0", "i4", "i5"]),
        (4, (2, 3, 4, 1), ["i0", "i5"]),
        (5, (2, 3, 4, 1, 5), ["i0"]),
        (6, (2, 3, 4, 1, 5, 0), []),
    ],
)
def test_a_frontal_and_a_lateral_are_taken_before_further_ones(
    max_views: int, views: tuple[int, ...], left_out: list[str]
) -> None:
    cases = make_cases(data_of(UNKNOWN, LATERAL, FRONTAL, FRONTAL, FRONTAL, LATERAL), max_views)
    assert cases.views == (views,)
    assert [item.what for item in cases.left_out] == left_out
    assert {item.reason for item in cases.left_out} <= {SURPLUS}


def test_unknown_views_fill_up() -> None:
    assert make_cases(data_of(UNKNOWN, UNKNOWN, FRONTAL), 2).views == ((2, 0),)


def test_cases_are_in_table_order_of_their_first_views() -> None:
    data = data_of(LATERAL, ("b", "1", "frontal"), FRONTAL, ("c", "", "lateral"), ("b", "1", "lateral"))
    cases = make_cases(data, 2)
    assert cases.views == ((1, 4), (2, 0), (3,))
    assert cases.first.images["image_id"].tolist() == ["i1", "i2", "i3"]
    assert cases.first.labels.index.tolist() == ["i1", "i2", "i3"]


def test_labels_that_differ_within_a_study_are_told() -> None:
    rows = [(f"p{number // 2}", "s", ["frontal", "lateral"][number % 2]) for number in range(50)]
    labels = [1.0, NAN] + [0.0, 1.0] * 24
    with pytest.raises(UserError) as error:
        make_cases(data_of(*rows, labels=labels), 2)
    *shown, total = error.value.problems
    assert len(shown) == 20
    assert shown[0] == "views.max_views: study 's': Edema is 1 for i0 and nan for i1"
    assert "labels of 25 studies of tiny differ" in total
    assert "max_views: null" in total


def test_equal_labels_include_not_mentioned_and_uncertain_ones() -> None:
    rows = [FRONTAL, LATERAL, ("b", "1", "frontal"), ("b", "1", "lateral")]
    assert len(make_cases(data_of(*rows, labels=[NAN, NAN, -1, -1]), 2)) == 2


def test_labels_of_views_that_are_left_out_do_not_matter() -> None:
    assert make_cases(data_of(LATERAL, FRONTAL, labels=[0, 1]), 1).views == ((1,),)


def test_logits_of_a_case_are_the_sum_of_its_views() -> None:
    logits = np.array([[1, 10], [2, 20], [4, 40], [8, 80]], dtype=np.float32)
    got = sum_views(logits, ((3,), (2, 0), (1, 0, 2)))
    np.testing.assert_array_equal(got, [[8, 80], [5, 50], [7, 70]])
    assert got.dtype == np.float32


def test_single_views_keep_their_logits() -> None:
    logits = np.array([[0.1, -3], [7, 2]], dtype=np.float32)
    np.testing.assert_array_equal(sum_views(logits, ((0,), (1,))), logits)
