"""Data under the names of a label file: columns and boxes of one finding become one."""

import math
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.datasets.csv_table import CsvTableData
from cxr.datasets.nih import NihData
from cxr.datasets.own_names import LEFT_OUT, read_data, with_own_names
from cxr.datasets.several import SeveralData
from cxr.labels import BUILT_IN, NO_FINDING, Terminology
from cxr.tables import NOT_ASKED, Dataset
from tests.builders import csv_folder, csv_settings, nih_folder


def table(root: Path, findings: dict[str, str]) -> CsvTableData:
    boxes = [("p1/a.png", "heart", 5, 6, 15, 26), ("p2/b.png", "heart", 1, 2, 3, 4)]
    return CsvTableData.model_validate(csv_settings(csv_folder(root, boxes=boxes), findings=findings))


def test_names_that_ship_change_nothing(tmp_path: Path) -> None:
    plain = NihData(root=nih_folder(tmp_path)).read()
    same = with_own_names(plain, BUILT_IN)
    assert same.labels.equals(plain.labels)
    assert same.boxes.equals(plain.boxes)
    assert same.counts == plain.counts


def test_new_findings_need_no_label_file(tmp_path: Path) -> None:
    data = read_data(table(tmp_path, {"effusion": "Wire", "heart": "Cardiomegaly"}), BUILT_IN)
    assert data.findings == ("Cardiomegaly", "Wire")
    assert data.labels["Wire"].tolist() == [1, 0]
    assert data.boxes["finding"].tolist() == ["Wire", "Cardiomegaly", "Cardiomegaly"]


def test_findings_that_become_one(tmp_path: Path) -> None:
    """Effusion 1 and heart blank is 1; effusion 0 and heart uncertain is uncertain. Equal boxes become one."""
    own = Terminology(("Shadow",), {}, {"Pleural Effusion": "Shadow", "coeur": "Shadow"})
    data = read_data(table(tmp_path, {"effusion": "Pleural Effusion", "heart": "coeur"}), own)
    assert data.findings == ("Shadow",)
    assert data.labels["Shadow"].tolist() == [1, -1]
    assert data.boxes[["image_id", "finding"]].to_numpy().tolist() == [["p1/a", "Shadow"], ["p2/b", "Shadow"]]


def test_findings_that_the_file_leaves_out_are_counted(tmp_path: Path) -> None:
    own = Terminology((NO_FINDING, "Wire"), {}, {})
    data = read_data(table(tmp_path, {"effusion": "Wire", "heart": "Cardiomegaly"}), own)
    assert data.findings == ("Wire",)
    assert data.boxes["finding"].tolist() == ["Wire"]
    assert data.counts[LEFT_OUT] == 1


def test_a_parent_that_data_do_not_label_is_positive_where_a_child_is(tmp_path: Path) -> None:
    own = Terminology(("Air", "Liquid", "Wire", "Coil"), {"Wire": "Air", "Coil": "Wire"}, {})
    data: Dataset = read_data(table(tmp_path, {"effusion": "Coil", "heart": "Liquid"}), own)
    assert data.findings == ("Air", "Liquid", "Wire", "Coil")
    for name in ("Air", "Wire"):
        assert data.labels[name].iloc[0] == 1
        assert math.isnan(data.labels[name].iloc[1])


def test_a_misspelt_finding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"csv_table: finding 'Cardiomegalie' is probably 'Cardiomegaly'"):
        read_data(table(tmp_path, {"heart": "Cardiomegalie", "effusion": "Wire"}), BUILT_IN)


def test_each_of_several_sets_gets_the_names_by_itself(tmp_path: Path) -> None:
    """One name for what two sets call differently is labelled by both; a name of one set is not asked in the other."""
    own = Terminology(("Shadow", "Wire"), {}, {"coeur": "Shadow"})
    north = table(tmp_path / "n", {"effusion": "Shadow", "heart": "Edema"})
    south = table(tmp_path / "s", {"effusion": "Wire", "heart": "coeur"})
    data = read_data(SeveralData(sets={"north": north, "south": south}), own)
    assert data.findings == ("Shadow", "Wire")
    np.testing.assert_array_equal(data.labels["Shadow"], [1, 0, math.nan, -1])
    np.testing.assert_array_equal(data.labels["Wire"], [NOT_ASKED, NOT_ASKED, 1, 0])
    assert data.counts[f"north: {LEFT_OUT}"] == 1
    assert data.boxed == {"north": {"Shadow"}, "south": {"Shadow", "Wire"}}
