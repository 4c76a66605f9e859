"""Words of place to sides and zones, by hand."""

import pytest

from cxr.labels import FINDINGS
from stage1_classify.reports.places import WITHOUT_SIDE, Place, merged, most_exact


@pytest.mark.parametrize(
    ("names", "places"),
    [
        ([], []),
        (["L"], [("L", "")]),
        (["- lower"], [("", "lower")]),
        (["L", "- lower"], [("L", "lower")]),
        (["- lower", "L"], [("L", "lower")]),
        (["L", "R"], [("B", "")]),
        (["B", "R"], [("B", "")]),
        (["B lower", "R"], [("B", "lower"), ("R", "")]),
        (["R", "- upper", "L", "- lower"], [("R", "upper"), ("L", "lower")]),
        (["R", "- upper", "- lower"], [("R", "upper"), ("R", "lower")]),
        (["L middle", "L"], [("L", "middle")]),
        (["L", "L"], [("L", "")]),
    ],
)
def test_merged_places(names: list[str], places: list[tuple[str, str]]) -> None:
    assert merged(names) == [Place(*place) for place in places]


@pytest.mark.parametrize(
    ("places", "exact"),
    [
        ([], []),
        ([("L", ""), ("L", "lower")], [("L", "lower")]),
        ([("", "lower"), ("R", "lower")], [("R", "lower")]),
        ([("B", "lower"), ("B", ""), ("L", "")], [("B", "lower")]),
        ([("L", ""), ("R", "lower")], [("L", ""), ("R", "lower")]),
        ([("L", "upper"), ("L", "lower"), ("L", "upper")], [("L", "upper"), ("L", "lower")]),
        ([("B", ""), ("B", "")], [("B", "")]),
    ],
)
def test_the_most_exact_places(places: list[tuple[str, str]], exact: list[tuple[str, str]]) -> None:
    assert most_exact([Place(*place) for place in places]) == exact


def test_findings_without_a_side_are_the_projects() -> None:
    assert set(FINDINGS) >= WITHOUT_SIDE
