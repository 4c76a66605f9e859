"""Report of an experiment: table, sentences and CSV, from rows made by hand."""

from pathlib import Path

import pytest

from eval.experiments.comparison import Row, correct
from eval.experiments.report import csv_table, group_table, verdict_sentences
from eval.experiments.runner import Group
from eval.experiments.settings import ExperimentSettings
from eval.report.blocks import Table
from eval.report.text_tables import markdown
from eval.stats.bootstrap import Estimate

FIGURE = Estimate(0.8, 0.7, 0.9)


class Two(ExperimentSettings):
    @property
    def num_comparisons(self) -> int:
        return 2


def settings(*seeds: int) -> Two:
    return Two(base=Path("stage1.yaml"), seeds=list(seeds))


def row(name: str, gap: tuple[float, float, float], *, p: float = 0.03) -> Row:
    by_seed, gaps = {0: 0.5, 1: 0.7}, (gap[0], gap[0])
    return Row(name, (FIGURE, FIGURE), False, by_seed, (Estimate(*gap), FIGURE), gaps, p)


def group(*rows: Row, **failed: str) -> Group:
    return Group("ref", tuple(rows), {}, failed, "4 cases.", {"prior": (FIGURE,)})


REFERENCE = Row("ref", (FIGURE, FIGURE), True, {0: 0.5, 1: 0.7})
ROWS = tuple(correct({"": [REFERENCE, row("a", (0.021, 0.008, 0.034)), row("b", (0.0, -1.0, 1.0), p=0.9)]})[""])


def test_without_rows() -> None:
    assert "comparisons: 0" in verdict_sentences({"": group()}, settings(0))
    table = group_table(Group("ref", (), {}, {}, ""), "g", metric="AUROC", further={})
    assert (list(table.columns), table.rows) == (["variant", "AUROC [95 %]"], [])


def test_columns_without_cells_are_omitted() -> None:
    further = {"AUPRC": {"a": 0.5}, "share": {"other": 1.0}}
    table = group_table(group(*ROWS, c="no such layer"), "g", metric="AUROC", further=further)
    assert table.columns == [
        "variant", "AUROC [95 %]", "each seed", "difference from the reference", "p (Holm)", "AUPRC",
    ]  # fmt: skip
    assert [list(cells) for cells in table.rows] == [
        ["ref", "0.800 [0.700, 0.900]", "0.500, 0.700 (sd 0.141)", "reference", None, None],
        ["a", "0.800 [0.700, 0.900]", "0.500, 0.700 (sd 0.141)", "significant: +0.021 [0.008, 0.034]",
         "0.060, not significant", 0.5],
        ["b", "0.800 [0.700, 0.900]", "0.500, 0.700 (sd 0.141)", "not significant: +0.000 [-1.000, 1.000]",
         "0.900", None],
        ["c", None, None, "failed: no such layer", None, None],
        ["prior", "0.800 [0.700, 0.900]", None, "not compared", None, None],
    ]  # fmt: skip
    assert table.note == "4 cases."


def test_sentences_name_what_differs_and_what_failed() -> None:
    text = verdict_sentences({"g": group(*ROWS, c="x"), "h": group()}, settings(0, 1))
    assert "g/a +0.021 [0.008, 0.034]" in text
    assert "1 of 2 comparisons" in text
    assert "Holm's correction: none." in text
    assert text.endswith("g/c.")
    assert "trained once" not in text
    alone = correct({"": [row("a", (0.021, 0.008, 0.034))]})[""]
    text = verdict_sentences({"": group(*alone)}, settings(0))
    assert "Holm's correction: a." in text
    assert "trained once" in text


def test_csv_has_a_row_per_variant() -> None:
    table = csv_table({"g": group(*ROWS)}, ["auroc", "auprc"]).set_index(["group", "variant"])
    assert table.loc[("g", "a"), "auroc_gap/high"] == 0.034
    assert table.loc[("g", "a"), "auroc_gap/by_seed"] == "0.021000 0.021000"
    assert table.loc[("g", "a"), "p_holm"] == pytest.approx(0.06)
    assert table["auroc_gap"].isna().tolist() == [True, False, False]
    assert "group" not in csv_table({"": group(*ROWS)}, ["auroc", "auprc"])


def test_markdown() -> None:
    table = Table("heads", ["variant", "AUROC"], [["a|b", 0.5], ["c", None]], "4 cases.")
    assert markdown(table).splitlines() == [
        "## heads", "", "| variant | AUROC |", "| --- | --- |", "| a/b | 0.500 |", "| c | – |", "", "4 cases.",
    ]  # fmt: skip
