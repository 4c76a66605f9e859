"""MIMIC-CXR-JPG's reader: three tables joined, views from the metadata, labels by study."""

import math
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.mimic import BAD_SPLIT, BAD_VIEW, MimicData
from tests.cxr.datasets.release_builders import mimic_folder


@pytest.mark.parametrize("packed", [False, True])
def test_labels_of_a_study_are_those_of_its_images(tmp_path: Path, packed: bool) -> None:
    data = MimicData(root=mimic_folder(tmp_path, packed=packed), view="all").read()
    assert data.images["path"].tolist() == [
        "files/p10/p10000032/s50414267/d1.jpg",
        "files/p10/p10000032/s50414267/d2.jpg",
        "files/p10/p10000764/s57375967/d3.jpg",
    ]
    assert data.images["view"].tolist() == ["frontal", "lateral", "frontal"]
    assert data.images["split"].tolist() == ["train", "train", "valid"]
    assert data.images["patient_id"].tolist() == ["10000032", "10000032", "10000764"]
    assert data.findings == ("No Finding", "Cardiomegaly", "Edema")
    assert data.labels["Cardiomegaly"].tolist()[:2] == [1, 1]
    assert data.labels["Edema"].tolist()[:2] == [-1, -1]
    assert data.labels.isna().sum().tolist() == [3, 1, 1]


def test_the_default_is_frontal_views(tmp_path: Path) -> None:
    more = [("d4", 10000764, 57375967, ""), ("d5", 10000764, 57375967, "LAO")]
    splits = [(name, 57375967, 10000764, "test") for name in ("d4", "d5")]
    data = MimicData(root=mimic_folder(tmp_path, images=more, splits=splits)).read()
    assert data.images["image_id"].tolist() == ["d1", "d3"]
    assert data.counts == {
        "images excluded by `view: frontal`": 3,
        "images of studies without a row in mimic-cxr-2.0.0-chexpert.csv": 3,
    }
    assert math.isnan(data.images["age"][0])


BROKEN = {
    "unknown view": ({"images": [("d4", 1, 2, "OBLIQUE")], "splits": [("d4", 2, 1, "test")]}, [BAD_VIEW], ["d1", "d3"]),
    "no split": ({"images": [("d4", 1, 2, "PA")]}, [BAD_SPLIT], ["d1", "d3"]),
    "unknown split": ({"images": [("d4", 1, 2, "PA")], "splits": [("d4", 2, 1, "dev")]}, [BAD_SPLIT], ["d1", "d3"]),
    "two rows of a study": ({"labels": [(10000032, 50414267, "", 1, -1)]}, ["duplicated row"], ["d1", "d3"]),
    "a label of 2": ({"labels": [(10000764, 57375967, 2, 0, 0)]}, ["label value outside {1, 0, -1, blank}"], ["d1"]),
    "an image twice": ({"images": [("d1", 10000032, 50414267, "PA")]}, ["duplicated row"], ["d1", "d3"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    rows, reasons, kept = BROKEN[case]
    root = mimic_folder(tmp_path, **rows)
    with pytest.raises(UserError) as caught:
        MimicData(root=root).read()
    assert len(caught.value.problems) == 2
    data = MimicData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == reasons
    assert data.images["image_id"].tolist() == kept


@pytest.mark.parametrize("name", ["metadata", "split", "chexpert"])
def test_a_table_that_is_missing(tmp_path: Path, name: str) -> None:
    root = mimic_folder(tmp_path)
    (root / f"mimic-cxr-2.0.0-{name}.csv").unlink()
    with pytest.raises(UserError, match=f"mimic: no mimic-cxr-2.0.0-{name}.csv"):
        MimicData(root=root).read()


def test_a_packed_table_that_is_cut_off(tmp_path: Path) -> None:
    root = mimic_folder(tmp_path, packed=True)
    path = root / "mimic-cxr-2.0.0-split.csv.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="cannot be unpacked"):
        MimicData(root=root).read()
