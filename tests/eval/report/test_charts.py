"""eval.report.charts: what is drawn, read back from the pixels; the empty case of each first."""

from pathlib import Path

import numpy as np
import pytest

from eval.report.charts import Bar, plot_bars, plot_curves, plot_heat_map, plot_histogram, plot_steps
from tests.eval.report.chart_pixels import count, pixels

NAN = float("nan")


ORANGE, BLUE, BARS = (213, 94, 0), (0, 114, 178), (127, 168, 201)
VIOLET, EMPTY = (45, 0, 75), (223, 228, 232)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 3)])
def test_heat_map_of_any_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    names = ([f"row {i}" for i in range(shape[0])], [f"column {i}" for i in range(shape[1])])
    picture = pixels(plot_heat_map(tmp_path / "h.png", np.full(shape, -1.0), names))
    assert (count(picture, VIOLET) > 1000) == (shape != (0, 0))


def test_heat_map_puts_rows_and_columns_where_they_belong(tmp_path: Path) -> None:
    values = np.zeros((2, 3))
    values[0, 2] = -1
    picture = pixels(plot_heat_map(tmp_path / "h.png", values, (["a", "b"], ["x", "y", "z"])))
    rows, columns = np.nonzero(np.abs(picture.astype(int) - VIOLET).max(axis=2) <= 12)
    assert rows.mean() < picture.shape[0] / 2
    assert columns.mean() > picture.shape[1] * 2 / 3


def test_heat_map_cell_without_a_number_is_grey(tmp_path: Path) -> None:
    names = (["a"], ["x", "y"])
    without = pixels(plot_heat_map(tmp_path / "h.png", np.array([[0.5, NAN]]), names))
    full = pixels(plot_heat_map(tmp_path / "f.png", np.array([[0.5, 0.1]]), names))
    assert count(without, EMPTY, 2) > 2000 > count(full, EMPTY, 2)


def test_heat_map_without_its_diagonal_has_white_cells_there(tmp_path: Path) -> None:
    names, nothing = (["a", "b"], ["a", "b"]), np.full((2, 2), NAN)
    whole = count(pixels(plot_heat_map(tmp_path / "w.png", nothing, names)), EMPTY, 2)
    half = count(pixels(plot_heat_map(tmp_path / "h.png", nothing, names, has_diagonal=False)), EMPTY, 2)
    assert half == pytest.approx(whole / 2, rel=0.05)


def test_histogram_without_counts(tmp_path: Path) -> None:
    picture = pixels(plot_histogram(tmp_path / "n.png", [0, 1], {"": [0]}))
    assert count(picture, BARS) == 0


def bar_heights(picture: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """Pixels of the colour in each column of the picture, runs of columns as one bar."""
    heights = (np.abs(picture.astype(int) - colour).max(axis=2) <= 12).sum(axis=0)
    starts = np.flatnonzero((heights[1:] > 0) & (heights[:-1] == 0)) + 1
    return [int(heights[start + 5]) for start in starts]


def test_bars_are_as_high_as_their_counts(tmp_path: Path) -> None:
    picture = pixels(plot_histogram(tmp_path / "n.png", [-0.5, 0.5, 1.5, 2.5], {"": [10, 40, 20]}))
    heights = bar_heights(picture, BARS)
    assert len(heights) == 3
    assert heights[1] / heights[0] == pytest.approx(4, rel=0.1)
    assert heights[2] / heights[0] == pytest.approx(2, rel=0.1)


def test_groups_of_a_histogram_stand_upon_each_other(tmp_path: Path) -> None:
    counts = {"female": [10, 30], "male": [20, 0]}
    picture = pixels(plot_histogram(tmp_path / "n.png", [0, 10, 20], counts))
    orange = np.abs(picture.astype(int) - ORANGE).max(axis=2) <= 12
    blue = np.abs(picture.astype(int) - BLUE).max(axis=2) <= 12
    plot = slice(0, int(picture.shape[1] * 0.7))
    assert np.nonzero(orange[:, plot])[0].max() <= np.nonzero(blue[:, plot])[0].max()
    column = int(np.nonzero(orange[:, plot])[1].mean())
    assert np.nonzero(orange[:, column])[0].max() <= np.nonzero(blue[:, column])[0].min()


def test_bars_of_a_single_image_have_no_interval(tmp_path: Path) -> None:
    known = plot_bars(tmp_path / "known.png", [Bar("a", 0.5), Bar("b", None)])
    drawn = plot_bars(tmp_path / "drawn.png", [Bar("a", 0.5, NAN, NAN), Bar("b", NAN, NAN, NAN)])
    assert (pixels(drawn) == pixels(known)).all()


def grid_lines(picture: np.ndarray) -> int:
    """Vertical lines of the grid: runs of columns that are mostly of its colour."""
    faint = (np.abs(picture.astype(int) - EMPTY).max(axis=2) <= 12).mean(axis=0) > 0.5
    return int(np.diff(faint.astype(int), prepend=0).clip(min=0).sum())


def test_epochs_have_no_ticks_between_them(tmp_path: Path) -> None:
    curves = {"AP": ([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])}
    whole = pixels(plot_curves(tmp_path / "whole.png", curves, x_ticks="whole"))
    any_ticks = pixels(plot_curves(tmp_path / "any.png", curves))
    assert grid_lines(whole) == 3
    assert grid_lines(any_ticks) > 3
    plot_curves(tmp_path / "none.png", {}, x_ticks="whole")


def test_rates_double_from_tick_to_tick(tmp_path: Path) -> None:
    rates = [0.125, 0.25, 0.5, 1.0, 8.0]
    picture = pixels(plot_curves(tmp_path / "r.png", {"a": (rates, [0.1, 0.2, 0.3, 0.4, 0.5])}, x_ticks=rates))
    faint = (np.abs(picture.astype(int) - EMPTY).max(axis=2) <= 12).mean(axis=0) > 0.5
    starts = np.flatnonzero(np.diff(faint.astype(int), prepend=0) > 0)
    steps = np.diff(starts)
    assert len(starts) == 5
    np.testing.assert_allclose(steps, steps[0] * np.array([1, 1, 1, 3]), atol=3)
    plot_curves(tmp_path / "unknown.png", {"a": (rates, [NAN] * 5)}, x_ticks=rates)


def test_steps_draw_points_where_there_are_any(tmp_path: Path) -> None:
    nothing = pixels(plot_steps(tmp_path / "empty.png", [], {}))
    assert count(nothing, BLUE) == 0
    places = ["0", "25", "all"]
    point = Bar("a", 0.5, 0.4, 0.6)
    one = pixels(plot_steps(tmp_path / "one.png", places, {"a": [None, None, None], "b": [None, point, None]}))
    two = pixels(plot_steps(tmp_path / "two.png", places, {"a": [None, None, None], "b": [None, point, point]}))
    level = pixels(plot_steps(tmp_path / "level.png", places, {"a": [point] * 3}, levels={"b": 0.5}))
    assert count(two, ORANGE) > count(one, ORANGE) + 100
    assert count(level, ORANGE) > 500
