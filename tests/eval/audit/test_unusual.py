"""Images that are far from the others are found; a set of equal images has none."""

import pandas as pd
import pytest

from eval.audit.image_facts import COLUMNS
from eval.audit.unusual import measure_table, unusual_images

PLAIN = {
    "hash": "",
    "height": 300,
    "width": 400,
    "range": 1.0,
    "mean": 0.5,
    "contrast": 0.2,
    "black": 0.1,
    "white": 0.0,
}


def facts(*changes: dict[str, float], num: int = 8) -> pd.DataFrame:
    """Equal images 0, 1, ..., with these changes of the first ones."""
    rows = [PLAIN | (changes[row] if row < len(changes) else {}) for row in range(num)]
    return pd.DataFrame(rows, columns=list(COLUMNS), index=[str(row) for row in range(num)])


def test_no_images() -> None:
    assert unusual_images(facts(num=0)).empty
    assert measure_table(facts(num=0)).rows[0] == ["height in pixels", None, None, None, None, None]


def test_equal_images_are_not_unusual() -> None:
    assert unusual_images(facts()).empty
    assert unusual_images(facts({"mean": 0.53}, {"height": 301})).empty


CHANGES = [
    ({"mean": 0.9}, "mean", 0.9, 20.0),
    ({"white": 0.1}, "white", 0.1, 5.0),
    ({"height": 900, "width": 1200}, "width", 1200, 160.0),
    ({"width": 300}, "aspect", 1.0, 100 / 3),
]


@pytest.mark.parametrize(("change", "measure", "value", "distance"), CHANGES)
def test_the_furthest_measure_is_named(change: dict[str, float], measure: str, value: float, distance: float) -> None:
    """Distances count in the least interquartile range: .02 for grey levels, 5 pixels, .01 for the aspect."""
    found = unusual_images(facts(change))
    assert found[["image_id", "measure", "value"]].to_numpy().tolist() == [["0", measure, value]]
    assert found["distance"].tolist() == [pytest.approx(distance)]


def test_the_furthest_image_comes_first() -> None:
    found = unusual_images(facts({"mean": 0.8}, {"mean": 0.9}, num=16))
    assert found["image_id"].tolist() == ["1", "0"]
