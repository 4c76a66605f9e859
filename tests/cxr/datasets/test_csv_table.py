"""The generic reader: the user's columns, and what is wrong with them."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from cxr.config import UserError, load_config
from cxr.datasets import AnyData, csv_table
from cxr.datasets.csv_table import CsvTableData
from cxr.tables import Dataset
from tests.builders import csv_folder, csv_settings


def read(root: Path, **changes: Any) -> Dataset:
    return CsvTableData.model_validate(csv_settings(root, **changes)).read()


def test_mapped_columns(tmp_path: Path) -> None:
    data = read(csv_folder(tmp_path))
    assert data.images["image_id"].tolist() == ["p1/a", "p2/b"]
    assert data.images["patient_id"].tolist() == ["p1", "p2"]
    assert data.images["view"].tolist() == ["frontal", "lateral"]
    assert data.images["sex"].tolist() == ["F", "M"]
    assert data.images["age"][0] == 51
    assert math.isnan(data.images["age"][1])
    assert data.findings == ("Cardiomegaly", "Pleural Effusion")
    assert data.labels["Pleural Effusion"].tolist() == [1, 0]
    assert math.isnan(data.labels["Cardiomegaly"].iloc[0])
    assert data.labels["Cardiomegaly"].iloc[1] == -1
    assert data.boxes.to_numpy().tolist() == [["p1/a", "Pleural Effusion", 5, 6, 15, 26, ""]]


def test_only_the_image_column_is_needed(tmp_path: Path) -> None:
    data = read(csv_folder(tmp_path), columns={"image": "file"}, boxes=None)
    assert data.images["patient_id"].tolist() == ["", ""]
    assert data.boxes.empty


def test_boxes_as_width_and_height(tmp_path: Path) -> None:
    root = csv_folder(tmp_path)
    boxes = {**csv_settings(root)["boxes"], "box_format": "xywh"}  # type: ignore[dict-item]
    assert read(root, boxes=boxes).boxes.iloc[0, 2:6].tolist() == [5, 6, 20, 32]


def test_two_columns_of_one_finding_merge(tmp_path: Path) -> None:
    """Effusion 1 and heart blank is 1; effusion 0 and heart uncertain is uncertain."""
    same = {"effusion": "Pleural Effusion", "heart": "Pleural Effusion"}
    assert read(csv_folder(tmp_path), findings=same).labels["Pleural Effusion"].tolist() == [1, -1]


BROKEN: dict[str, tuple[dict[str, Any], str, int]] = {
    "missing image": ({"rows": [("p3/c.png", "p3", "PA", "F", 1, 1, 1)]}, "missing image", 2),
    "duplicated row": ({"rows": [("p1/a.png", "p1", "PA", "F", 1, 1, 1)]}, "duplicated row", 2),
    "label": ({"rows": [("p3/c.png", "p3", "PA", "F", 1, "yes", 1)]}, "label value outside", 2),
    "view": ({"rows": [("p3/c.png", "p3", "oblique", "F", 1, 1, 1)]}, "unknown view", 2),
    "box of no image": ({"boxes": [("p9/z.png", "effusion", 1, 2, 3, 4)]}, "box of an image that is not in", 2),
    "box class": ({"boxes": [("p2/b.png", "efusion", 1, 2, 3, 4)]}, "unknown finding", 2),
    "box outside": ({"boxes": [("p2/b.png", "effusion", 1, 2, 3, 44)]}, "box outside the image", 2),
    "box no number": ({"boxes": [("p2/b.png", "effusion", 1, 2, "", 4)]}, "box with a coordinate", 2),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    arguments, reason, num_images = BROKEN[case]
    root = csv_folder(tmp_path, **arguments)
    with pytest.raises(UserError, match=r"images.csv and boxes.csv: .*" + reason):
        read(root)
    data = read(root, on_problem="exclude")
    assert len(data.excluded) == 1
    assert data.excluded[0].reason.startswith(reason)
    assert len(data.images) == num_images
    assert len(data.boxes) == 1


def test_mapping_to_an_unknown_finding(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'Cardiomegalie' \(nearest: 'Cardiomegaly'\)"):
        read(csv_folder(tmp_path), findings={"heart": "Cardiomegalie"})


def test_mapping_of_an_unknown_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images.csv has no column 'lung'"):
        read(csv_folder(tmp_path), findings={"lung": "Lung Opacity"})


def test_example_of_the_docstring_is_valid() -> None:
    text = inspect.cleandoc((csv_table.__doc__ or "").split("Example::")[1].split("Requirements")[0])
    settings = TypeAdapter(AnyData).validate_python(yaml.safe_load(text))
    assert isinstance(settings, CsvTableData)
    assert settings.boxes is not None


def test_settings_from_yaml_say_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("root: somewhere\ntable: images.csv\nfindings: {a: Edema}\n", encoding="utf-8")
    with pytest.raises(UserError, match="'columns' is missing"):
        load_config(CsvTableData, path)
