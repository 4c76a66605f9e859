"""Leaderboard: order, paired comparisons, figures by name, and the rows of its tables."""

import numpy as np
import pytest

from tests.eval.leaderboard.board_builders import FINDINGS, ap40, board_of, entry

NAN = float("nan")


def test_entries_rank_by_ap40_and_unknown_ones_come_last() -> None:
    board = board_of(entry("detector", 0.2), entry("unknown", NAN), entry("teacher", 0.4), entry("none", 0.0))
    assert [one.name for one in board.ranked] == ["teacher", "detector", "none", "unknown"]
    assert board.entry("teacher").ap40.mean == pytest.approx(0.4)
    with pytest.raises(KeyError):
        board.entry("gradcam")


def test_the_main_entry_is_compared_with_each_other_one() -> None:
    board = board_of(entry("detector", 0.4, spread=0.02), entry("teacher", 0.3), entry("prior_mean_box", 0.1))
    assert list(board.compared) == ["teacher", "prior_mean_box"]
    assert board.compared["teacher"].gap.value == pytest.approx(0.1)
    assert board.compared["teacher"].p_holm == pytest.approx(2 * 2 / 102)
    assert board.against_human is None


def test_figures_have_the_names_of_metrics_json() -> None:
    board = board_of(entry("detector", 0.4), human=ap40(0.6), more={"rodeo/teacher": 0.3})
    figures = board.metrics
    assert figures["ap40/detector"] == pytest.approx(0.4)
    assert figures["ap40/detector/nodule_mass/low"] == pytest.approx(np.percentile(np.linspace(0.39, 0.41, 101), 2.5))
    assert (figures["ap40/human"], figures["rodeo/teacher"]) == (pytest.approx(0.6), 0.3)
    assert board.against_human is not None and board.against_human.value == pytest.approx(-0.2)
    assert board.num_true == {FINDINGS[0]: 1, FINDINGS[1]: 0}


def test_rows_name_the_teachers_method_the_chosen_method_and_the_split_of_the_human_ceiling() -> None:
    rows = board_of(entry("detector", 0.4), entry("teacher", 0.5), teacher="pcam").rows()
    assert rows.shown == {"teacher": "CAM teacher: PCAM", "detector": "detector"}
    assert (rows.main, rows.highlight) == ("detector", 1)
    rows = board_of(entry("pcam", 0.4, kind="method"), more={"tune_ap40/human": 0.6}).rows({"ms_per_image/pcam": 2.0})
    assert list(rows.shown.values()) == ["PCAM (chosen)", "human ceiling (tune split)"]
    assert rows.text("ap40", "human") == "0.600"
    assert rows.cell("ms_per_image", "pcam") == "2.0"
