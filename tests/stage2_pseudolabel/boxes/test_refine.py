import numpy as np
import pytest

from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.refine import RefinedRule, refined

HEIGHT, WIDTH = 60, 100
LESION = (40, 20, 60, 40)  # pixels: x1, y1, x2, y2
SCALE = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])


def picture() -> np.ndarray:
    """A bright square on a dark ground, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH))
    x1, y1, x2, y2 = LESION
    noise[y1:y2, x1:x2] += 120
    return np.clip(noise + 60, 0, 255).astype(np.uint8)


def cam() -> np.ndarray:
    """6 x 10 cells of 10 pixels; high on the lesion's four cells and a little on the row above."""
    values = np.zeros((6, 10), dtype=np.float32)
    values[2:4, 4:6] = 4
    values[1, 4:6] = 2
    return values


@pytest.mark.parametrize("refine", ["grabcut", "watershed"])
def test_a_box_too_large_is_fitted_to_what_the_picture_shows(refine: str) -> None:
    given = np.array([36, 14, 64, 44]) / SCALE
    fitted = refined(given, picture(), cam(), refine=refine) * SCALE
    np.testing.assert_allclose(fitted, LESION, atol=2)
    again = refined(given, picture(), cam(), refine=refine) * SCALE
    np.testing.assert_array_equal(fitted, again)


@pytest.mark.parametrize("refine", ["grabcut", "watershed"])
def test_a_box_is_kept_where_there_is_nothing_to_fit(refine: str) -> None:
    grey = np.full((HEIGHT, WIDTH), 90, dtype=np.uint8)
    tiny = np.array([50, 30, 52, 31]) / SCALE
    np.testing.assert_array_equal(refined(tiny, picture(), cam(), refine=refine), tiny)
    everything = np.array([0.0, 0.0, 1.0, 1.0])
    for values in (cam(), np.zeros((6, 10), np.float32), np.full((6, 10), np.nan, np.float32)):
        np.testing.assert_array_equal(refined(everything, grey, values, refine=refine), everything)


@pytest.mark.parametrize("refine", ["grabcut", "watershed"])
def test_a_fit_of_quite_another_size_is_not_believed(refine: str) -> None:
    dot = np.full((HEIGHT, WIDTH), 60, dtype=np.uint8)
    dot[28:32, 48:52] = 250
    given = np.array([20, 10, 80, 50]) / SCALE
    fitted = refined(given, dot, cam(), refine=refine)
    area = (fitted[2] - fitted[0]) * (fitted[3] - fitted[1])
    assert area >= 0.3 * 0.6 * (40 / 60)


def test_the_rule_keeps_order_and_evidence_and_asks_for_its_rows_pictures() -> None:
    maps = np.stack([np.zeros((6, 10), np.float32), cam()])
    inner = ComponentRule("relative", 0.3)
    asked: list[int] = []

    def picture_of(row: int) -> np.ndarray:
        asked.append(row)
        return picture()

    rule = RefinedRule(inner, refine="watershed")
    before, after = inner.find(maps), rule.find(maps, picture_of=picture_of)
    assert asked == [1]
    np.testing.assert_array_equal(after.image, before.image)
    np.testing.assert_array_equal(after.evidence, before.evidence)
    assert np.abs(after.boxes * SCALE - LESION).max() < np.abs(before.boxes * SCALE - LESION).max()
    assert rule.kind == "relative"
    assert rule.as_dict()["refine"] == "watershed"
    assert str(rule).endswith("watershed")


def test_refining_by_nothing_needs_no_picture() -> None:
    maps = cam()[None]
    inner = ComponentRule("relative", 0.3)
    rule = RefinedRule(inner, refine="none")
    np.testing.assert_array_equal(rule.find(maps).boxes, inner.find(maps).boxes)
    assert str(rule) == str(inner)
