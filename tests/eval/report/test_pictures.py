"""eval.report.pictures and eval.report.charts on pictures small enough to check by eye."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.report.charts import Bar, plot_bars, plot_curves
from eval.report.pictures import (
    BLUE,
    GREY,
    ORANGE,
    BoxLayer,
    as_rgb,
    draw_boxes,
    draw_layers,
    grid,
    overlay_map,
    save_jpeg,
    save_png,
    with_words,
)

NAN = float("nan")


def test_as_rgb_clips_and_blackens_what_is_no_number() -> None:
    rgb = as_rgb(np.array([[0.0, 0.5, 1.0], [-1.0, NAN, 7.0]]))
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb[:, :, 0], [[0, 128, 255], [0, 0, 255]])
    np.testing.assert_array_equal(rgb[:, :, 1], rgb[:, :, 2])


def test_no_boxes_leave_the_picture_as_it_is() -> None:
    black = np.zeros((20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_boxes(black, []), black)


def test_captions_lie_over_all_boxes_and_beside_each_other() -> None:
    """Two boxes in the same place: both captions are whole, the later one above, and no line crosses them."""
    black = np.zeros((240, 300, 3), dtype=np.uint8)
    assert draw_layers(black, [], image_wh=(300, 240)) is black
    box = [[60, 100, 200, 180]]
    layers = [BoxLayer(box, ORANGE, ["0.27"]), BoxLayer(box, BLUE, ["0.51"])]
    drawn = draw_layers(black, layers, image_wh=(300, 240))
    above, below = (drawn[rows, 62:80].reshape(-1, 3) for rows in (slice(86, 99), slice(182, 194)))
    assert (above == BLUE).all(axis=1).mean() > 0.3 and not (above == ORANGE).all(axis=1).any()
    assert (below == ORANGE).all(axis=1).mean() > 0.3 and not (below == BLUE).all(axis=1).any()
    across = draw_layers(black, [layers[0], BoxLayer([[70, 20, 90, 230]], BLUE)], image_wh=(300, 240))
    assert not (across[88:99, 63:80] == BLUE).all(axis=2).any()


def test_box_edges_lie_on_its_pixels_and_the_original_stays() -> None:
    black = np.zeros((20, 30, 3), dtype=np.uint8)
    drawn = draw_boxes(black, [[5, 3, 25, 10]], colour=ORANGE)
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 10, 5, 25)
    assert tuple(drawn[3, 15]) == ORANGE
    assert not drawn[6, 15].any()
    assert not black.any()


def test_box_beyond_the_picture_is_drawn_along_its_edge() -> None:
    drawn = draw_boxes(np.zeros((20, 30, 3), dtype=np.uint8), [[-50, -50, 99, 99]])
    assert tuple(drawn[0, 15]) == tuple(drawn[19, 15]) == tuple(drawn[10, 29]) == BLUE


def test_caption_goes_above_the_box_or_below_at_the_upper_edge() -> None:
    black = np.zeros((120, 160, 3), dtype=np.uint8)
    above, below = (
        draw_layers(black, [BoxLayer([[20, y1, 80, y1 + 40]], ORANGE, ["0.87"])], image_wh=(160, 120)) for y1 in (60, 0)
    )
    assert above[47:59, 22:40].any() and not above[102:].any()
    assert below[42:54, 22:40].any() and not below[60:].any()


def test_empty_caption_draws_no_plate() -> None:
    black = np.zeros((120, 160, 3), dtype=np.uint8)
    box = [[20, 60, 80, 100]]
    drawn = draw_layers(black, [BoxLayer(box, BLUE, [""])], image_wh=(160, 120))
    np.testing.assert_array_equal(drawn, draw_boxes(black, box))


def test_lines_are_two_pixels_wide_on_a_larger_picture() -> None:
    drawn = draw_boxes(np.zeros((250, 300, 3), dtype=np.uint8), [[50, 50, 150, 100]])
    assert np.flatnonzero((drawn[:, 100] == BLUE).all(axis=1)).tolist() == [49, 50, 99, 100]


def test_words_lie_on_a_plate_at_the_lower_edge() -> None:
    black = np.zeros((120, 160, 3), dtype=np.uint8)
    drawn = with_words(black, "no box")
    assert (drawn[60:] == GREY).all(axis=2).any() and not drawn[:60].any() and not black.any()


@pytest.mark.parametrize("value", [0.0, 0.4, NAN])
def test_constant_map_on_its_own_range_lays_nothing_over(value: float) -> None:
    gray = np.linspace(0, 1, 12).reshape(3, 4)
    heat = np.full((2, 2), value)
    laid = overlay_map(gray, heat, vmin=value, vmax=value)
    np.testing.assert_array_equal(laid, as_rgb(gray))


def test_map_at_or_under_vmin_lays_nothing_over() -> None:
    gray = np.full((3, 4), 0.5)
    np.testing.assert_array_equal(overlay_map(gray, np.full((3, 4), -2.0)), as_rgb(gray))


def test_scale_is_absolute() -> None:
    """Half of vmax looks alike whether or not the map reaches vmax elsewhere."""
    gray = np.full((2, 4), 0.5)
    weak = overlay_map(gray, np.full((2, 4), 0.5))
    mixed = overlay_map(gray, np.array([[0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1]]))
    np.testing.assert_array_equal(weak[:, :2], mixed[:, :2])
    assert (mixed[:, 2:] != mixed[:, :2]).any()


def test_small_map_is_stretched_over_the_picture() -> None:
    laid = overlay_map(np.full((40, 60), 0.5), np.array([[0.0, 1.0], [0.0, 0.0]]))
    changed = (laid != 128).any(axis=2)
    assert changed[:10, 50:].all()
    assert not changed[30:, :10].any()


def test_grid_without_tiles_is_white() -> None:
    assert (grid([]) == 255).all()


def test_grid_scales_tiles_of_differing_sizes_and_fills_the_last_row() -> None:
    tiles = [np.zeros(size, dtype=np.uint8) for size in ((10, 20, 3), (64, 16, 3), (7, 7, 3))]
    picture = grid(tiles, columns=2, tile_px=40)
    assert picture.shape == (2 * 48, 2 * 48, 3)
    dark = (picture == 0).all(axis=2)
    assert dark[:48, :48].sum() == 40 * 20
    assert dark[:48, 48:].sum() == 10 * 40
    assert dark[48:, :48].sum() == 40 * 40
    assert not dark[48:, 48:].any()


def test_grid_captions_stand_below_the_tiles() -> None:
    tile = np.full((40, 40, 3), 255, dtype=np.uint8)
    plain, captioned = grid([tile], tile_px=80), grid([tile], ["PCAM"], tile_px=80)
    assert captioned.shape[0] > plain.shape[0]
    assert (captioned[: 4 + 80] == 255).all()
    assert (captioned[4 + 80 :] < 128).any()


def test_save_png_makes_the_folder(tmp_path: Path) -> None:
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    path = save_png(tmp_path / "a" / "b.png", rgb)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), rgb)


def test_save_jpeg_keeps_the_picture_but_for_small_differences(tmp_path: Path) -> None:
    rgb = np.full((40, 60, 3), 200, dtype=np.uint8)
    rgb[:, 30:] = ORANGE
    path = save_jpeg(tmp_path / "a" / "b.jpg", rgb)
    assert Image.open(path).format == "JPEG"
    kept = np.asarray(Image.open(path)).astype(int)
    assert np.abs(kept - rgb)[:, :22].max() <= 3
    assert np.abs(kept - rgb)[:, 40:].max() <= 3


def test_boxes_have_a_dark_edge_on_a_bright_picture() -> None:
    drawn = draw_boxes(np.full((60, 90, 3), 255, dtype=np.uint8), [[20, 20, 60, 40]], colour=ORANGE)
    assert tuple(drawn[20, 40]) == ORANGE
    assert tuple(drawn[19, 40]) == tuple(drawn[21, 40]) == (0, 0, 0)


def dark_share(path: Path) -> float:
    return float((np.asarray(Image.open(path).convert("L")) < 250).mean())


@pytest.mark.parametrize("curves", [{}, {"loss": ([], [])}, {"loss": ([1, 2, 3], [0.5, NAN, 0.2])}])
def test_plot_curves_draws(tmp_path: Path, curves: dict[str, tuple[list[float], list[float]]]) -> None:
    path = plot_curves(tmp_path / "p" / "c.png", curves, labels=("x", "y"), y_range=(0, 1))
    assert dark_share(path) > 0


@pytest.mark.parametrize(
    "bars", [[], [Bar("none", None)], [Bar("zero", 0.0, 0.0, 0.0)], [Bar("a", 0.5, 0.4, 0.6, "marked"), Bar("b", 0.1)]]
)
def test_plot_bars_draws(tmp_path: Path, bars: list[Bar]) -> None:
    assert dark_share(plot_bars(tmp_path / "b.png", bars, label="AP")) > 0


def test_more_bars_make_a_taller_picture(tmp_path: Path) -> None:
    few = plot_bars(tmp_path / "few.png", [Bar("a", 0.1)])
    many = plot_bars(tmp_path / "many.png", [Bar(f"m{i}", 0.1) for i in range(12)])
    assert Image.open(many).height > 2 * Image.open(few).height


def test_dashes_leave_gaps_and_stay_inside() -> None:
    blank = np.zeros((40, 60, 3), dtype=np.uint8)
    assert (draw_boxes(blank, np.zeros((0, 4)), dashed=True) == blank).all()
    drawn = draw_boxes(blank, [[5, 5, 200, 30]], colour=GREY, dashed=True)
    top = (drawn[5, 5:60] == GREY).all(axis=1)
    assert 0 < top.sum() < 55
    assert top[0]
    assert not (drawn[:4] == GREY).any() and not (drawn[32:] == GREY).any()
    assert not blank.any()
