"""CheXpert's reader: both places for the root, blanks and uncertain labels kept, each defect told or counted."""

import math
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.datasets.chexpert import ChexpertData
from cxr.tables import IMAGE_COLUMNS
from tests.builders import CHEXPERT_HEADER, chexpert_folder, chexpert_row

EXTRA = "CheXpert-v1.0-small/train/patient00003/study2/view1_frontal.jpg"


def test_release_folder_as_root(tmp_path: Path) -> None:
    data = ChexpertData(root=chexpert_folder(tmp_path)).read()
    assert list(data.images.columns) == IMAGE_COLUMNS
    assert data.images["image_id"].tolist() == [
        "train/patient00001/study1/view1_frontal",
        "train/patient00002/study1/view1_frontal",
        "valid/patient64541/study1/view1_frontal",
    ]
    assert data.images["path"][0] == "train/patient00001/study1/view1_frontal.jpg"
    assert data.images["patient_id"].tolist() == ["patient00001", "patient00002", "patient64541"]
    assert data.images["study_id"][1] == "patient00002/study1"
    assert data.images["split"].tolist() == ["train", "train", "valid"]
    assert data.images["sex"].tolist() == ["F", "F", "M"]
    assert data.boxes.empty
    assert data.counts == {"images excluded by `view: frontal`": 1}


def test_parent_folder_as_root_gives_paths_from_there(tmp_path: Path) -> None:
    chexpert_folder(tmp_path, folder="CheXpert-v1.0")
    data = ChexpertData(root=tmp_path).read()
    assert data.images["path"][0] == "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg"
    assert all((data.root / path).is_file() for path in data.images["path"])


def test_renamed_release_folder_is_found(tmp_path: Path) -> None:
    renamed = chexpert_folder(tmp_path).rename(tmp_path / "chexpert")
    assert len(ChexpertData(root=renamed).read().images) == 3
    assert ChexpertData(root=tmp_path).read().images["path"][0].startswith("chexpert/train/")


def test_two_releases_in_root_must_be_told_apart(tmp_path: Path) -> None:
    chexpert_folder(tmp_path)
    chexpert_folder(tmp_path, folder="CheXpert-v1.0")
    with pytest.raises(UserError, match=r"several releases \(CheXpert-v1.0, CheXpert-v1.0-small\)"):
        ChexpertData(root=tmp_path).read()


def test_blank_stays_nan_and_uncertain_stays_minus_one(tmp_path: Path) -> None:
    data = ChexpertData(root=chexpert_folder(tmp_path)).read()
    assert data.findings == tuple(CHEXPERT_HEADER[5:])
    second = data.labels.iloc[1]
    assert second["Cardiomegaly"] == -1
    assert second["Edema"] == 0
    assert np.isnan(second["Fracture"])
    assert data.labels.iloc[0].count() == 1


def test_lateral_views_on_request(tmp_path: Path) -> None:
    data = ChexpertData(root=chexpert_folder(tmp_path), view="all").read()
    assert data.images["view"].tolist() == ["frontal", "frontal", "lateral", "frontal"]


def test_splits_on_request(tmp_path: Path) -> None:
    data = ChexpertData(root=chexpert_folder(tmp_path), splits=("valid",)).read()
    assert data.images["split"].tolist() == ["valid"]
    with pytest.raises(UserError, match=r"no file .*test.csv"):
        ChexpertData(root=tmp_path, splits=("test",)).read()


def test_unknown_sex_age_zero_and_odd_projection(tmp_path: Path) -> None:
    row = chexpert_row(EXTRA, sex="Unknown", age=0, ap_pa="LL", Edema=1)
    root = chexpert_folder(tmp_path, train=[row])
    kept = ChexpertData(root=root).read()
    odd = kept.images.set_index("patient_id").loc["patient00003"]
    assert odd["sex"] == ""
    assert math.isnan(odd["age"])
    assert kept.counts["ages that are no number in [1, 120], set to unknown"] == 1
    without = ChexpertData(root=root, odd_projections="exclude").read()
    assert "patient00003" not in set(without.images["patient_id"])
    assert without.counts["images excluded by `odd_projections: exclude`"] == 1


BROKEN = {
    "missing image": ({"missing": "patient00002/study1/view1_frontal.jpg"}, "missing image"),
    "bad label": ({"train": [chexpert_row(EXTRA, Edema="2")]}, "label value outside {1, 0, -1, blank}"),
    "text label": ({"train": [chexpert_row(EXTRA, Edema="N/A")]}, "label value outside {1, 0, -1, blank}"),
    "bad path": ({"train": [chexpert_row("scan.jpg", Edema=1)]}, "path is not .../patientN"),
    "duplicated row": ({"train": [chexpert_row(EXTRA, Edema=1), chexpert_row(EXTRA, Edema=1)]}, "duplicated row"),
    "unknown finding": ({"header": [*CHEXPERT_HEADER[:-1], "Suport Devices"]}, "unknown finding"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    arguments, reason = BROKEN[case]
    root = chexpert_folder(tmp_path, **arguments)
    with pytest.raises(UserError) as caught:
        ChexpertData(root=root).read()
    assert any(reason in line for line in caught.value.problems)
    assert "on_problem: exclude" in caught.value.problems[-1]
    data = ChexpertData(root=root, on_problem="exclude").read()
    assert len(data.excluded) == 1
    assert data.excluded[0].reason.startswith(reason)


def test_excluding_a_duplicate_keeps_the_first(tmp_path: Path) -> None:
    rows = [chexpert_row(EXTRA, Edema=1)] * 2
    data = ChexpertData(root=chexpert_folder(tmp_path, train=rows), on_problem="exclude").read()
    assert data.labels.loc["train/patient00003/study2/view1_frontal", "Edema"] == 1


def test_nearest_name_of_an_unknown_finding(tmp_path: Path) -> None:
    root = chexpert_folder(tmp_path, header=[*CHEXPERT_HEADER[:-1], "Suport Devices"])
    with pytest.raises(UserError, match=r"'Suport Devices' \(nearest: 'Support Devices'\)"):
        ChexpertData(root=root).read()


def test_unchecked_files_are_not_looked_up(tmp_path: Path) -> None:
    root = chexpert_folder(tmp_path, missing="patient00002/study1/view1_frontal.jpg")
    assert len(ChexpertData(root=root, check_files="none").read().images) == 3


def test_header_check_finds_an_unreadable_image(tmp_path: Path) -> None:
    root = chexpert_folder(tmp_path)
    (root / "train/patient00001/study1/view1_frontal.jpg").write_bytes(b"not a picture")
    assert len(ChexpertData(root=root).read().images) == 3
    data = ChexpertData(root=root, check_files="header", on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == ["unreadable image"]
    assert len(data.images) == 2


def test_max_images_are_spread_over_the_table(tmp_path: Path) -> None:
    data = ChexpertData(root=chexpert_folder(tmp_path), max_images=2).read()
    assert data.images["patient_id"].tolist() == ["patient00001", "patient00002"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["Path", *CHEXPERT_HEADER[2:]], "has no column 'Sex'"), (["File", *CHEXPERT_HEADER[1:]], "has no column 'Path'")],
)
def test_missing_column_is_named(tmp_path: Path, columns: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ChexpertData(root=chexpert_folder(tmp_path, header=columns)).read()


def test_wrong_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        ChexpertData(root=tmp_path / "nowhere").read()
    with pytest.raises(UserError, match=r"no train.csv or valid.csv"):
        ChexpertData(root=tmp_path).read()
    (tmp_path / "train.csv").write_bytes(b"")
    with pytest.raises(UserError, match="is not a CSV table"):
        ChexpertData(root=tmp_path).read()


def test_no_image_left_is_an_error(tmp_path: Path) -> None:
    root = chexpert_folder(tmp_path, missing=".jpg")
    with pytest.raises(UserError, match=r"no image is left .*3 x missing image"):
        ChexpertData(root=root, on_problem="exclude").read()
