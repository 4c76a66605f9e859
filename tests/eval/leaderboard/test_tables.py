"""Tables of a leaderboard from figures by name."""

from eval.leaderboard.tables import Rows, ap40_bar, difference_table, finding_table, further_tables, main_table
from eval.stats.bootstrap import Estimate
from eval.stats.paired import Comparison

FIGURES = {
    "ap40/detector": 0.4, "ap40/detector/low": 0.3, "ap40/detector/high": 0.5, "ap40/teacher": 0.25,
    "ap40/detector/edema": 0.4, "ap10/detector": 0.7, "rodeo/teacher": 0.2, "ap40/prior_mean_box": None,
}  # fmt: skip
ROWS = Rows({"detector": "detector", "teacher": "CAM teacher", "prior_mean_box": "prior"}, FIGURES, main="detector")


def test_without_entries_tables_have_no_rows() -> None:
    empty = Rows({}, {})
    assert main_table(empty, title="x").rows == []
    assert [len(table.columns) for table in further_tables(empty)] == [1, 1, 1, 1]
    assert empty.highlight is None


def test_main_table_has_the_measures_that_any_row_has() -> None:
    table = main_table(ROWS, title="x")
    assert table.columns == ["boxes by", "AP40 [95 %]", "AP10"]
    assert table.rows == [
        ["detector", "0.400 [0.300, 0.500]", 0.7],
        ["CAM teacher", "0.250", None],
        ["prior", "–", None],
    ]
    assert further_tables(ROWS)[1].rows[1] == ["CAM teacher", "0.200"]


def test_accuracies_stand_in_the_order_of_their_thresholds() -> None:
    figures = {f"iou_accuracy{t}/a": t / 100 for t in (70, 10, 40)}
    table = further_tables(Rows({"a": "A"}, figures))[2]
    assert (table.columns[1:], table.rows) == (["IoU > .1", "IoU > .4", "IoU > .7"], [["A", "0.100", "0.400", "0.700"]])


def test_table_per_finding_takes_further_columns() -> None:
    table = finding_table(ROWS, {"Edema": 3}, more={"rule": ["bayes"]})
    assert table.columns == ["finding", "true boxes", "detector", "CAM teacher", "prior", "rule"]
    assert table.rows == [["Edema", 3, "0.400", "–", "–", "bayes"]]


def test_table_of_differences_has_shares_only_where_there_are_any() -> None:
    compared = [Comparison("teacher", Estimate(0.15, 0.1, 0.2), 0.002)]
    plain, shared = (difference_table(ROWS, compared, shares) for shares in ({}, {"teacher": Estimate(1.6, 1.1, 2.0)}))
    assert plain.rows == [["CAM teacher", "+0.150 [0.100, 0.200]", 0.002, "better"]]
    assert shared.rows[0][-1] == "1.600 [1.100, 2.000]" and len(shared.columns) == 5


def test_bars_mark_the_main_entry_and_mute_priors() -> None:
    kinds = [ap40_bar(ROWS, name).kind for name in ROWS.shown]
    assert kinds == ["marked", "", "muted"]
    assert ap40_bar(ROWS, "detector").high == 0.5
