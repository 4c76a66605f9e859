"""A table that says two things of a key is told by name in every data set; one that repeats itself is not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import TypeAdapter

from cxr.config import UserError
from cxr.datasets import AnyData
from cxr.datasets.box_checks import NO_SIZE, TWO_SIZES
from cxr.datasets.keyed_rows import CONTRADICTION, keyed_rows, row_names
from cxr.tables import Dataset, Problems
from tests import builders
from tests.cxr.datasets import release_builders
from tests.cxr.datasets.test_documented import NAMES


def rows_of(*cells: tuple[str, ...], columns: str = "ab") -> pd.DataFrame:
    return pd.DataFrame(list(cells), columns=list(columns), dtype=str)


def test_a_table_without_rows() -> None:
    problems = Problems("error", source="test")
    known = keyed_rows(rows_of(), pd.Series([], dtype=str), problems)
    assert known.of(pd.Series(["x"]), "a").tolist() == [""]
    assert known.contradicts(pd.Series(["x"])).tolist() == [False]
    assert problems.finish() == ()


def test_equal_rows_are_one_and_spaces_around_a_cell_do_not_count() -> None:
    problems = Problems("error", source="test")
    known = keyed_rows(rows_of(("1", "2"), ("3", "4"), (" 1", "2 ")), pd.Series(["x", "y", "x"]), problems)
    assert known.of(pd.Series(["y", "x", "z"]), "b").tolist() == ["4", "2", ""]
    assert problems.finish() == ()


def test_the_message_has_both_rows_and_both_values_once_a_key(tmp_path: Path) -> None:
    problems = Problems("exclude", source="test")
    table = rows_of(("1", "2"), ("1", "5"), ("3", "4"), ("7", "6"))
    known = keyed_rows(table, pd.Series(["x", "x", "y", "x"]), problems, where=row_names(tmp_path / "t.csv", table))
    assert known.contradicts(pd.Series(["x", "y"])).tolist() == [True, False]
    (found,) = problems.finish()
    assert (found.what, found.reason) == ("x: b '2' and '5' (t.csv, row 2 and t.csv, row 3)", CONTRADICTION)


def test_no_more_than_three_columns_are_shown() -> None:
    problems = Problems("exclude", source="test")
    keyed_rows(rows_of(tuple("1234"), tuple("5678"), columns="abcd"), pd.Series(["x", "x"]), problems)
    assert problems.finish()[0].what == "x: a '1' and '5', b '2' and '6', c '3' and '7', 1 more columns"


@dataclass(frozen=True)
class Case:
    """A table of a release; `row` contradicts one of its rows, `same` says the same again."""

    dataset: str
    build: Callable[[Path], object]
    table: str
    row: str
    same: str
    num_left: int
    """Images that are left without those that the contradiction concerns."""
    settings: tuple[tuple[str, Any], ...] = ()

    def read(self, root: Path, **changes: str) -> Dataset:
        values = {"dataset": self.dataset, "root": root, **dict(self.settings), **changes}
        return TypeAdapter(AnyData).validate_python(values).read()


def rsna(root: Path) -> None:
    release_builders.rsna_folder(root)
    nih = [("a", "00000001_000.png"), ("b", "00000002_000.png"), ("c", "00000003_000.png")]
    builders.write_rows(root / "map.csv", ("rsna_patientId", "nih_image"), nih)


def openi(root: Path) -> None:
    release_builders.openi_folder(root)
    header = ("imageid", "Patient's Sex", "Patient's Birth Date", "Study Date")
    builders.write_rows(root / "headers.csv", header, [("CXR2_IM-0652-1001", "F", 19500101, 20100101)])


def nih(root: Path) -> None:
    builders.nih_folder(root)
    header = ("Image Index", "Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
    rows = [(f"0000000{name}.png", "NO", "YES", "NO", "NO") for name in ("1_000", "1_001")]
    builders.write_rows(root / "labels.csv", header, rows)


def vindr(root: Path) -> None:
    builders.kaggle_folder(root, suffix=".png")
    builders.write_rows(root / "train_meta.csv", ("image_id", "dim0", "dim1"), [(name, 40, 60) for name in "abc"])


KERMANY = "train,NORMAL,IM-0115-0001.jpeg,group{},"
CSV = tuple((name, value) for name, value in builders.csv_settings(Path()).items() if name != "root")
RELABELS = (("relabels", ("labels.csv",)),)
CHEXPERT = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,{},Frontal,AP,1.0" + "," * 13
PADCHEST = "a.png,0,20140915,s1,p1,1950,F,{},\"['cardiomegaly', ' pleural effusion', 'scoliosis']\""
LOCALIZED = "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,{},0"

CASES = {
    "mimic splits": Case("mimic", release_builders.mimic_folder, "mimic-cxr-2.0.0-split.csv",
        "d1,50414267,10000032,test", "d1,50414267,10000032,train", 1),
    "mimic labels": Case("mimic", release_builders.mimic_folder, "mimic-cxr-2.0.0-chexpert.csv",
        "10000032,50414267,,0.0,-1.0", "", 1),
    "mimic view": Case("mimic", release_builders.mimic_folder, "mimic-cxr-2.0.0-metadata.csv",
        "d1,10000032,50414267,LATERAL", "", 1),
    "rsna class": Case("rsna", rsna, "stage_2_detailed_class_info.csv", "b,Lung Opacity", "b,Normal", 2),
    "rsna patient": Case("rsna", rsna, "map.csv", "a,00000001_001.png", "a,00000001_000.png", 2,
        (("nih_map", "map.csv"),)),
    "openi view": Case("openi", openi, "projections.csv", "1_IM-0001-4001.dcm.png,Lateral",
        "1_IM-0001-4001.dcm.png,Frontal", 1, (("projections", "projections.csv"),)),
    "openi header": Case("openi", openi, "headers.csv", "CXR2_IM-0652-1001,M,19500101,20100101",
        "CXR2_IM-0652-1001,F,19500101,20100101", 3, (("view", "all"), ("metadata", "headers.csv"))),
    "spr sex": Case("spr", release_builders.spr_folder, "train_gender.csv", "000000.0,0", "000000.0,1.0", 1),
    "spr age": Case("spr", release_builders.spr_folder, "train_age.csv", "1,14.0", "1.0,41", 1),
    "nih": Case("nih", nih, "Data_Entry_2017_v2020.csv",
        "00000001_001.png,Mass,1,1,058Y,M,PA,2682,2749,0.143,0.143", "", 2),
    "nih relabels": Case("nih", nih, "labels.csv", "00000001_000.png,YES,YES,NO,NO", "", 1, RELABELS),
    "kermany": Case("kermany", lambda root: builders.kermany_folder(root, groups=True), "groups.csv",
        KERMANY.format(9), KERMANY.format(0), 4),
    "vindr labels": Case("vindr", builders.physionet_folder, "annotations/image_labels_train.csv",
        "a,R8,0,0,0,0,0", "", 1),
    "chexpert": Case("chexpert", builders.chexpert_folder, "train.csv", CHEXPERT.format(61), "", 2),
    "padchest view": Case("padchest", release_builders.padchest_folder,
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST.format("L"), "", 1),
    "chexlocalize": Case("chexlocalize", release_builders.chexlocalize_folder, "CheXpert/val_labels.csv",
        LOCALIZED.format(0), "", 1),
    "tbx11k split": Case("tbx11k", builders.tbx11k_folder, "lists/TBX11K_val.txt", "tb/tb0001.png", "", 2),
    "csv_table": Case("csv_table", builders.csv_folder, "images.csv", "p1/a.png,p1,PA,f,51,0,", "", 1, CSV),
}  # fmt: skip

OTHERWISE = {
    "siim": "rows are masks of an image; a mask and -1 are told in test_siim.py",
    "chestxdet": "no table: test_two_entries_of_an_image",
}


def test_every_data_set_has_a_case() -> None:
    assert {case.dataset for case in CASES.values()} | set(OTHERWISE) == set(NAMES)


def built(case: Case, folder: Path, line: str) -> Path:
    """The release with one more line in its table."""
    made = case.build(folder)
    root = made if isinstance(made, Path) else folder
    with (root / case.table).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    return root


@pytest.mark.parametrize("name", CASES)
def test_a_contradiction_is_an_error_or_a_named_exclusion(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    root = built(case, tmp_path, case.row)
    with pytest.raises(UserError, match=CONTRADICTION):
        case.read(root)
    data = case.read(root, on_problem="exclude")
    assert [item.reason for item in data.excluded] == [CONTRADICTION]
    assert len(data.images) == case.num_left


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.same])
def test_a_row_that_says_the_same_again_changes_nothing(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    before = built(case, tmp_path / "before", "")
    again = built(case, tmp_path / "again", case.same)
    first, second = case.read(before), case.read(again)
    pd.testing.assert_frame_equal(first.images, second.images)
    pd.testing.assert_frame_equal(first.labels, second.labels)
    assert second.excluded == ()


def test_two_entries_of_an_image(tmp_path: Path) -> None:
    """One that differs excludes the image with the boxes of both; an equal one is a duplicate."""
    entry = {"file_name": "36204.png", "syms": [], "boxes": [], "polygons": []}
    case = Case("chestxdet", release_builders.chestxdet_folder, "", "", "", 2)
    data = case.read(release_builders.chestxdet_folder(tmp_path / "a", entries=[entry]), on_problem="exclude")
    assert [(item.what, item.reason) for item in data.excluded] == [
        ("36204.png (ChestX_Det_train.json, entries 0 and 2)", CONTRADICTION)
    ]
    assert (len(data.images), data.boxes["image_id"].tolist()) == (2, ["test_36300"])
    entry["file_name"] = "36205.png"
    data = case.read(release_builders.chestxdet_folder(tmp_path / "b", entries=[entry]), on_problem="exclude")
    assert [item.reason for item in data.excluded] == ["duplicated row"]
    assert (len(data.images), len(data.boxes)) == (3, 2)


def test_two_original_sizes_leave_no_box(tmp_path: Path) -> None:
    """Whichever table has the sizes: the boxes cannot be placed."""
    case = Case("vindr", vindr, "train_meta.csv", "a,80,120", "a,40,60", 3)
    data = case.read(built(case, tmp_path / "meta", case.row), on_problem="exclude")
    assert [item.reason for item in data.excluded] == [CONTRADICTION, NO_SIZE, NO_SIZE]
    assert data.boxes["image_id"].tolist() == ["c"]
    root = builders.kaggle_folder(tmp_path / "columns", suffix=".png")
    rows = pd.read_csv(root / "train.csv", dtype=str, keep_default_na=False).assign(width="60", height="40")
    rows.loc[0, "width"] = "600"
    rows.to_csv(root / "train.csv", index=False)
    data = case.read(root, on_problem="exclude")
    assert [item.reason for item in data.excluded] == [TWO_SIZES, TWO_SIZES]
    assert data.boxes["image_id"].tolist() == ["c"]


def test_an_image_with_two_masks_of_a_finding_in_the_file(tmp_path: Path) -> None:
    """JSON itself would take the last one without a word."""
    root = release_builders.chexlocalize_folder(tmp_path)
    path = root / "CheXlocalize" / "gt_segmentations_val.json"
    text = path.read_text(encoding="utf-8")
    mask = json.dumps(json.loads(text)["patient64541_study1_view1_frontal"]["Airspace Opacity"])
    path.write_text(text.replace('"Airspace Opacity"', f'"Cardiomegaly": {mask}, "Airspace Opacity"'), encoding="utf-8")
    case = Case("chexlocalize", release_builders.chexlocalize_folder, "", "", "", 2)
    with pytest.raises(UserError, match="'Cardiomegaly' has two values"):
        case.read(root)
    path.write_text(text.replace('"Airspace Opacity"', f'"Airspace Opacity": {mask}, "Airspace Opacity"'), "utf-8")
    assert len(case.read(root).boxes) == 2


def test_two_sizes_in_the_users_table_leave_no_box(tmp_path: Path) -> None:
    """Rows that differ in another column than those that are loaded are still one image."""
    root = builders.csv_folder(tmp_path)
    table = pd.read_csv(root / "images.csv", dtype=str, keep_default_na=False).assign(width="120", height="80")
    pd.concat([table, table[:1].assign(width="240")]).to_csv(root / "images.csv", index=False)
    columns = {**dict(CSV)["columns"], "width": "width", "height": "height"}
    case = Case("csv_table", builders.csv_folder, "", "", "", 2, (*CSV, ("columns", columns)))
    data = case.read(root, on_problem="exclude")
    assert [item.reason for item in data.excluded] == [CONTRADICTION, NO_SIZE, "duplicated row"]
    assert data.boxes.empty
