"""Tables by split: exact counts, and remarks on splits that cannot be measured on."""

from pathlib import Path

import pandas as pd
import pytest

from eval.audit.by_split import num_one_sided, remark_on, split_blocks, split_facts, split_labels
from eval.report.blocks import Figure, Table
from tests.eval.audit.audit_builders import data_set

NAN = float("nan")


def test_splits_without_images(tmp_path: Path) -> None:
    data = data_set(labels={"Edema": [], "Mass": []})
    blocks = split_blocks(data, ["Edema", "Mass"], {"train": [], "test": []}, tmp_path)
    assert [type(block) for block in blocks] == [Table, Table, Figure]
    assert split_labels({"train": data.labels}).rows[0] == ["Edema", "train", 0, 0, 0, 0, None, "no labels"]
    assert split_facts({"train": data}).rows == [["images", 0]]
    assert split_facts({}).rows == []


def test_facts_of_a_split() -> None:
    data = data_set(
        labels={"Edema": [1, 0, 0, 0]},
        patient_id=["p", "p", "q", ""],
        view=["frontal", "lateral", "frontal", ""],
        sex=["F", "F", "M", ""],
        age=[40, 60, 50, NAN],
    )
    facts = {str(name): value for name, value in split_facts({"train": data}).rows}
    assert facts == {
        "images": 4,
        "patients known": 2,
        "images per known patient, mean": "1.50",
        "without a known patient": "25.0 %",
        "view: frontal": "50.0 %",
        "view: lateral": "25.0 %",
        "view: unknown": "25.0 %",
        "female": "50.0 %",
        "male": "25.0 %",
        "sex unknown": "25.0 %",
        "age in years, median (quartiles)": "50 (45 to 55)",
        "age unknown": "25.0 %",
    }


def test_labels_of_each_split() -> None:
    labels = pd.DataFrame({"Edema": [1, -1, -1, NAN, 0.0]})
    table = split_labels({"train": labels, "test": labels.iloc[3:]})
    assert [row[:7] for row in table.rows] == [
        ["Edema", "train", 1, 1, 2, 1, "200 %"],
        ["Edema", "test", 0, 1, 0, 1, None],
    ]
    assert num_one_sided({"train": labels, "test": labels.iloc[3:]}) == 1


REMARKS = [
    ([], "no labels"),
    ([-1, -1], "no labels"),
    ([0, NAN], "no positives"),
    ([1, 1], "positives only"),
    ([1, 0], "fewer than 5 positives"),
    ([1] * 5 + [NAN], ""),
]


@pytest.mark.parametrize(("labels", "expected"), REMARKS)
def test_remarks(labels: list[float], expected: str) -> None:
    table = split_labels({"train": pd.DataFrame({"Edema": pd.Series(labels, dtype=float)})})
    assert table.rows[0][-1] == expected
    assert num_one_sided({"train": pd.DataFrame({"Edema": pd.Series(labels, dtype=float)})}) == (
        expected in ("no labels", "no positives", "positives only")
    )


def test_charts_of_splits(tmp_path: Path) -> None:
    data = data_set(labels={"Edema": [1, 0], "Mass": [1, 1]}, patient_id=["p", "q"], age=[40, 61])
    blocks = split_blocks(data, ["Edema", "Mass"], {"train": ["a"], "val": [], "test": ["b"]}, tmp_path)
    figures = [block.path for block in blocks if isinstance(block, Figure)]
    names = [
        "labels_per_image_by_split",
        "images_per_patient_by_split",
        "ages_by_split",
        "co_occurrence_0",
        "co_occurrence_2",
    ]
    assert figures == [f"pictures/{name}.png" for name in names]
    assert all((tmp_path / path).is_file() for path in figures)


def test_a_remark_needs_no_column_of_unasked_labels() -> None:
    assert remark_on(pd.Series({"positive": 9, "negative": 1, "not mentioned": 0})) == ""
