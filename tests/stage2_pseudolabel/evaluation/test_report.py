"""Report of stage 2: its tables, its pictures, and how maps lie over radiographs that are not square."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.coco import boxes_table
from cxr.imaging.geometry import Resize
from eval.leaderboard.leaderboard import Leaderboard
from eval.leaderboard.tables import further_tables, main_table
from eval.report.blocks import Figure, PictureRows, Table, Text, Verdict, read_report
from eval.report.pictures import GREEN, ORANGE
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.sample_size import SizePoint
from stage2_pseudolabel.evaluation.evaluate import Evaluation, compare_rules
from stage2_pseudolabel.evaluation.example_files import write_examples
from stage2_pseudolabel.evaluation.gallery import (
    Example,
    Tile,
    clearest_row,
    in_own_shape,
    map_over,
    ranked_examples,
    render_tiles,
    shown_findings,
)
from stage2_pseudolabel.evaluation.leaderboard import CamEntry, make_leaderboard, score_entry
from stage2_pseudolabel.evaluation.report import write_cam_report
from stage2_pseudolabel.evaluation.report_tables import (
    chosen_table,
    rank_correlation_line,
    readers_table,
    rules_table,
    tune_boxes_table,
)
from stage2_pseudolabel.evaluation.split_data import SplitData
from tests.stage2_pseudolabel.evaluation.leaderboard_builders import (
    EFFUSION,
    HALF,
    LESION,
    NAN,
    NET_HW,
    ON_FLAT,
    ON_WIDE,
    lit_maps,
    plain_entry,
    sampled,
    split_data,
    tuned,
)
from tests.stage2_pseudolabel.stage2_builders import truth_of

WRONG = boxes_table([("wide", LESION, 40, 30, 50, 40, 0.9)])


Made = tuple[Leaderboard[CamEntry], SplitData]


def small_board(root: Path, *, readers: dict[str, list[str]] | None = None) -> Made:
    """PCAM with perfect boxes, a worse method, and a prior."""
    maps = {"pcam": lit_maps(), "gradcam": np.roll(lit_maps(), 2, axis=2)}
    test = split_data(root, maps, readers=readers)
    entries = [
        score_entry(name, test, test.detect((HALF, HALF), (name,) * 2), tuned=tuned(tune, NAN), methods=(name,) * 2)
        for name, tune in {"gradcam": 0.2, "pcam": 0.6}.items()
    ]
    entries.append(score_entry("prior_mean_box", test, test.truth.with_boxes(WRONG)))
    return make_leaderboard(entries, test), test


TWO_OF_TWO = "1.000 [0.294, 1.000]"
"""Two of two boxes, found in every resample: sin(asin(sqrt(2.375 / 2.75)) - 1.96 / sqrt(4 x 2 + 2))^2 is .294."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return small_board(tmp_path_factory.mktemp("board"), readers={"seniors": ["wide"]})


# --- tables ---


def test_leaderboard_table_ranks_by_test_and_marks_the_chosen(made: Made) -> None:
    rows = made[0].rows({"ms_per_image/pcam": 12.34, "peak_mib/pcam": 5.0})
    table = main_table(rows, title="Leaderboard")
    assert [row[0] for row in table.rows] == ["PCAM (chosen)", "GradCAM", "prior: mean box"]
    assert table.highlight == 0
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    assert shown["AP40 [95 %]"] == TWO_OF_TWO
    assert (shown["AP40, label known"], shown["AP40 on tune"], shown["ms/image"]) == (1, 0.6, "12.3")
    assert table.rows[2][-1] is None
    assert len(table.columns) <= 8
    further = further_tables(rows)[0]
    mean_of_thresholds = "1.000 [0.539, 1.000]"  # counts as a share of twice as many boxes
    expected = [*[TWO_OF_TWO] * 2, mean_of_thresholds, *[TWO_OF_TWO] * 2, mean_of_thresholds]
    assert further.rows[0] == ["PCAM (chosen)", *expected, "5.0"]


def test_other_measures_have_intervals_and_the_oracle_says_so(made: Made) -> None:
    _, table, accuracies, _ = further_tables(made[0].rows())
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    plain = "1.000 [1.000, 1.000]"
    assert [shown[name] for name in ("FROC", "CorLoc", "pointing game")] == [TWO_OF_TWO] * 3
    assert [shown[name] for name in ("mIoU", "MaxBoxAccV2 (oracle threshold)", "RoDeO")] == [plain] * 3
    assert table.rows[2][table.columns.index("MaxBoxAccV2 (oracle threshold)")] == "–"
    assert accuracies.columns == ["boxes by", *(f"IoU > .{t}" for t in range(1, 8))]


def test_table_of_the_chosen_method_per_finding(made: Made) -> None:
    lesion, effusion = chosen_table(made[0]).rows
    none_of_two = "0.000 [0.000, 0.706]"
    assert lesion == [LESION, 2, TWO_OF_TWO, none_of_two, "1.000 (PCAM)", "PCAM", str(HALF)]
    assert effusion[:6] == [EFFUSION, 0, "–", "–", "", "PCAM"]


def test_rules_table_compares_with_the_chosen_rules(made: Made) -> None:
    board, test = made
    table = rules_table(board.main, compare_rules(board.main, test))
    assert table.rows == [
        ["best per finding", 0.6, TWO_OF_TWO, None],
        ["relative", 0.6, TWO_OF_TWO, "+0.000 [-0.706, 0.706]"],  # nothing varies
    ]


def test_tune_boxes_table(made: Made) -> None:
    points = [SizePoint(10, 11.4, 7.0, 0.2, 0.1, 0.3, (0.1, 0.3)), SizePoint(None, 210.0, 120.0, 0.4, 0.3, 0.5, (0.4,))]
    assert tune_boxes_table(made[0].main, points).rows == [
        ["10", "11", "7", "0.200 [0.100, 0.300]", "2"],
        ["all", "210", "120", "0.400 [0.300, 0.500]", "1"],
    ]


def test_readers_table_is_there_only_with_groups(made: Made, tmp_path: Path) -> None:
    table = readers_table(made[0])
    assert table is not None
    assert table.columns == ["boxes by", "seniors"]
    assert table.rows[2] == ["prior: mean box", "0.000 [0.000, 0.919]"]  # of a single box
    assert readers_table(small_board(tmp_path)[0]) is None


def test_rank_correlation_is_given_only_where_it_was_measured() -> None:
    assert rank_correlation_line({}) == ""
    assert rank_correlation_line({"rank_correlation/scorecambudget": NAN}) == ""
    words = rank_correlation_line({"rank_correlation/scorecambudget": 0.934})
    assert "0.934" in words


# --- maps over pictures ---


def peak_yx(laid: np.ndarray) -> tuple[float, float]:
    """Centre of the pixels that reach the highest value."""
    rows, columns = np.nonzero(laid >= laid.max() - 1e-6)
    return float(rows.mean() + 0.5), float(columns.mean() + 0.5)


def test_map_lies_where_its_cells_look() -> None:
    """Cell [1, 2] of 4 x 6 is centred at 3/8 of the height and 5/12 of the width."""
    cam = np.zeros((4, 6), dtype=np.float32)
    cam[1, 2] = 1
    laid = map_over(cam, Frame(NET_HW, False), (40, 60), (80, 120))
    assert laid.shape == (80, 120)
    assert peak_yx(laid) == pytest.approx((30, 50), abs=0.5)


def test_shifted_map_is_laid_back_and_the_bars_of_a_letterbox_are_cut_off() -> None:
    cam = np.zeros((4, 6), dtype=np.float32)
    cam[2, 3] = 1
    shifted = map_over(cam, Frame(NET_HW, False, (8, 16)), (40, 60), (80, 120))
    assert peak_yx(shifted) == pytest.approx((80 * 12 / 32, 120 * 12 / 48), abs=0.5)
    # 90 x 30 pixels fill rows 8 to 24 of 32; the cell's centre is row 20, column 28 of the network's input.
    letterboxed = map_over(cam, Frame(NET_HW, True), (30, 90), (60, 180))
    assert peak_yx(letterboxed) == pytest.approx((60 * 12 / 16, 180 * 28 / 48), abs=1)


def test_picture_gets_its_own_shape_back() -> None:
    picture = np.zeros((32, 48), dtype=np.uint8)
    picture[8:24] = 255
    shown = in_own_shape(picture, Resize((30, 90), NET_HW, True), (60, 180))
    assert shown.shape == (60, 180)
    assert (shown == 1).all()
    assert in_own_shape(np.stack([picture] * 3, axis=-1), Resize((40, 60), NET_HW), (10, 15)).shape == (10, 15)


# --- which images are shown ---


def test_examples_are_ranked_by_the_iou_of_their_best_scored_box(tmp_path: Path) -> None:
    test = split_data(tmp_path, {})
    rows = [
        ("wide", LESION, 10, 10, 30, 20, 0.4), ("wide", LESION, 10, 10, 20, 20, 0.9), ("flat", LESION, 0, 0, 5, 5, 0.3),
        ("flat", EFFUSION, 45, 15, 60, 22.5, 0.9),
    ]  # fmt: skip
    entry = score_entry("prior_mean_box", test, test.truth.with_boxes(boxes_table(rows)))
    assert ranked_examples(test, entry, 0) == [Example(0, 0, 0.5, 0.9), Example(1, 0, 0.0, 0.3)]
    assert ranked_examples(test, entry, 1) == []


def test_image_without_a_box_is_ranked_by_zero_and_a_confident_miss_is_the_worst(tmp_path: Path) -> None:
    test = split_data(tmp_path, {})
    entry = score_entry("prior_mean_box", test, test.truth.with_boxes(WRONG))
    nothing, miss = ranked_examples(test, entry, 0)
    assert (nothing.row, nothing.iou, np.isnan(nothing.score)) == (1, 0, True)
    assert (miss.row, miss.iou, miss.score) == (0, 0, 0.9)


def test_method_pictures_show_findings_with_most_images_and_the_image_with_fewest_boxes(tmp_path: Path) -> None:
    truth = truth_of(ON_WIDE, ("wide", EFFUSION, 0, 0, 9, 9), ON_FLAT)
    test = split_data(tmp_path, {}, truth=truth)
    assert shown_findings(test, 6) == [0, 1]
    assert shown_findings(test, 1) == [0]
    assert clearest_row(test, 0) == 1
    assert shown_findings(split_data(tmp_path, {}), 6) == [0]


def colours_of(rgb: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Extent x1, y1, x2, y2 of the pixels of one colour."""
    rows, columns = np.nonzero((rgb == colour).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_tile_has_the_images_shape_and_boxes_where_they_belong(made: Made) -> None:
    board, test = made
    readers, blank, prior = render_tiles(test, [Tile(None, 0, 0), None, Tile(board.entries[2], 0, 0)], tile_px=240)
    assert readers.shape == (160, 240, 3)
    assert (blank == 255).all()
    # 4 pixels of the tile are one of the image; lines are a pixel or two wide.
    assert colours_of(readers, GREEN) == pytest.approx((40, 40, 120, 80), abs=2)
    assert not (readers == ORANGE).all(axis=2).any()
    left, _, right, low = colours_of(prior, ORANGE)
    assert (left, right, low) == pytest.approx((160, 200, 159), abs=2)


def test_weaker_boxes_do_not_write_over_the_score_of_a_stronger_one(tmp_path: Path) -> None:
    test = split_data(tmp_path, {})
    rows = [("wide", LESION, 10, 20, 30, 30, 0.9), ("wide", LESION, 11, 20, 30, 30, 0.2)]
    both = score_entry("prior_mean_box", test, test.truth.with_boxes(boxes_table(rows)))
    one = score_entry("prior_mean_box", test, test.truth.with_boxes(boxes_table(rows[:1])))
    with_both, with_one = render_tiles(test, [Tile(both, 0, 0), Tile(one, 0, 0)], tile_px=240)
    np.testing.assert_array_equal(with_both[:76], with_one[:76])


def test_faint_boxes_are_not_drawn(tmp_path: Path) -> None:
    test = split_data(tmp_path, {})
    rows = [("wide", LESION, 10, 20, 30, 30, 0.9), ("wide", LESION, 45, 5, 55, 12, 0.1)]
    entry = score_entry("prior_mean_box", test, test.truth.with_boxes(boxes_table(rows)))
    (shown,) = render_tiles(test, [Tile(entry, 0, 0)], tile_px=240)
    assert colours_of(shown, ORANGE)[2] == pytest.approx(120, abs=2)


# --- the report ---


def test_report_holds_every_table_and_picture(made: Made, tmp_path: Path) -> None:
    board, test = made
    more = {"tune_ap40/human": 0.5, "tune_ap40/human/low": 0.4, "tune_ap40/human/high": 0.6}
    found = Evaluation(
        replace(board, more=more),
        test,
        rules=compare_rules(board.main, test),
        tune_boxes=[SizePoint(None, 2.0, 2.0, 0.4, 0.3, 0.5, (0.4,))],
        timing={"ms_per_image/pcam": 1.0, "rank_correlation/scorecambudget": 0.9},
    )
    write_examples(tmp_path, test, board.main)
    page = write_cam_report(tmp_path, found, [Table("Pseudo-labels", ["finding"], [[LESION]])])
    report = read_report(tmp_path)
    assert report is not None
    kinds = [type(block) for block in report.blocks[:4]]
    assert kinds == [PictureRows, Figure, Verdict, Table]
    tables = [block for block in report.blocks if isinstance(block, Table)]
    assert len(tables) == 11
    assert tables[0].rows[-1][:2] == ["human ceiling (tune split)", "0.500 [0.400, 0.600]"]
    assert [table.collapsed for table in tables[:6]] == [False, False, *[True] * 4]
    figures = [block.path for block in report.blocks if isinstance(block, Figure)]
    assert figures == ["pictures/leaderboard.png", "pictures/examples.jpg", "pictures/methods_lung_lesion.jpg"]
    assert all((tmp_path / path).is_file() for path in figures)
    # A row of three tiles: best, worst and a blank one; readers and two methods.
    assert Image.open(tmp_path / figures[1]).width == 3 * 356
    assert Image.open(tmp_path / figures[2]).width == 3 * 262
    assert "Synthetic phantom data" not in page.read_text()


def test_report_without_optional_parts_omits_them_and_names_phantom_data(made: Made, tmp_path: Path) -> None:
    board, test = made
    truth = replace(test.truth, info={"synthetic": True})
    page = write_cam_report(tmp_path, Evaluation(replace(board, truth=truth), test, [], []))
    report = read_report(tmp_path)
    assert report is not None
    assert [block.title for block in report.blocks if isinstance(block, Text)] == ["Findings"]
    assert "Synthetic phantom data" in page.read_text()


def test_chart_shows_entries_without_a_value(tmp_path: Path) -> None:
    """A class without positives has no AP; here all classes are without."""
    board, test = small_board(tmp_path / "made")
    unknown = sampled([NAN, NAN], [[NAN, NAN]] * len(test.counts))
    nothing = replace(plain_entry("prior_center_box", NAN, prior=True), measures={"ap40": unknown})
    board = make_leaderboard([nothing, *board.entries], test)
    write_cam_report(tmp_path, Evaluation(board, test, [], []))
    report = read_report(tmp_path)
    assert report is not None
    table = next(block for block in report.blocks if isinstance(block, Table))
    assert table.rows[-1][:3] == ["prior: centre box", "–", None]
