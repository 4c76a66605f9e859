"""The generic reader: the user's columns, and what is wrong with them."""

import inspect
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from cxr.config import UserError, load_config
from cxr.datasets import AnyData, csv_table
from cxr.datasets.assemble import TURNED
from cxr.datasets.csv_table import CsvTableData
from cxr.imaging.files import read_pixels
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


def test_labels_from_boxes_need_no_columns_of_findings(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, boxes=[("p2/b.png", "ddb", 5, 6, 15, 26)])
    names = {"ddb": "Bronchiectasis", "effusion": "Pleural Effusion", "gros coeur": "Cardiomegaly"}
    data = read(root, findings=names, labels_from="boxes")
    assert data.findings == ("Cardiomegaly", "Pleural Effusion", "Bronchiectasis")
    assert data.labels.to_numpy().tolist() == [[0, 1, 0], [0, 0, 1]]
    with pytest.raises(UserError, match=r"no column 'ddb', 'gros coeur'.*`labels_from: boxes`"):
        read(root, findings=names)
    with pytest.raises(ValueError, match="needs the table of boxes"):
        read(root, findings=names, labels_from="boxes", boxes=None)


def test_two_columns_of_one_finding_merge(tmp_path: Path) -> None:
    """Effusion 1 and heart blank is 1; effusion 0 and heart uncertain is uncertain."""
    same = {"effusion": "Pleural Effusion", "heart": "Pleural Effusion"}
    assert read(csv_folder(tmp_path), findings=same).labels["Pleural Effusion"].tolist() == [1, -1]


def words_folder(root: Path) -> Path:
    """Every label is a word; the two columns say oui and non, and oui and peut-être."""
    csv_folder(root)
    text = (root / "images.csv").read_text(encoding="utf-8")
    text = text.replace("51,1,", "51,oui,oui").replace(",0,-1", ",non,peut-être")
    (root / "images.csv").write_text(text, encoding="utf-8")
    return root


COLUMNS_OF_WORDS = [
    "images.csv: column 'effusion' has 'oui' (1 row), 'non' (1 row), first in row 2; expected 1, 0, -1 or blank; "
    "data.label_values: {'oui': 1, 'non': 0} reads words",
    "images.csv: column 'heart' has 'oui' (1 row), 'peut-être' (1 row), first in row 2; expected 1, 0, -1 or blank; "
    "data.label_values: {'oui': 1} reads words",
]


def test_words_as_labels_are_told_once_per_column(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(words_folder(tmp_path), boxes=None)
    assert caught.value.problems[:2] == COLUMNS_OF_WORDS
    assert len(caught.value.problems) == 3
    with pytest.raises(UserError) as caught:
        read(tmp_path, boxes=None, on_problem="exclude")
    first, *others = caught.value.problems
    assert "no image is left" in first
    assert "(2 x label value outside {1, 0, -1, blank})" in first
    assert others == COLUMNS_OF_WORDS


def test_a_word_has_one_value_in_upper_and_lower_case(tmp_path: Path) -> None:
    root = words_folder(tmp_path)
    with pytest.raises(ValidationError, match="'Oui' is 1 and 'oui' is 0"):
        read(root, label_values={"Oui": 1, "oui": 0})
    values: dict[str, Any] = {" Oui ": 1, "OUI": 1, "non": 0, "peut-être": -1}
    labels = read(root, boxes=None, label_values=values).labels
    assert labels["Pleural Effusion"].tolist() == [1, 0]


def test_words_for_nothing_are_not_proposed_as_labels(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, rows=[("p3/c.png", "p3", "PA", "F", 1, "nan", "0")])
    with pytest.raises(UserError) as caught:
        read(root, boxes=None)
    assert "'nan' (1 row)" in caught.value.problems[0] and "leave these cells blank" in caught.value.problems[0]


@pytest.mark.parametrize("on_problem", ["error", "exclude"])
def test_a_patient_in_two_spellings_is_an_error(tmp_path: Path, on_problem: str) -> None:
    root = csv_folder(tmp_path, rows=[("p3/c.png", "17", "PA", "F", 1, "1", "0"), ("p4/d.png", "017", "", "", 1, 0, 0)])
    with pytest.raises(UserError) as caught:
        read(root, boxes=None, on_problem=on_problem)
    (problem,) = caught.value.problems
    assert "'pid', row 5: patient '017'" in problem and "'17' in row 4" in problem


def test_an_excluded_image_names_all_its_words(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, rows=[("p3/c.png", "p3", "PA", "F", 1, "oui", "non")])
    (excluded,) = read(root, on_problem="exclude").excluded
    assert excluded.what == "p3/c.png, column 'effusion', value 'oui', column 'heart', value 'non'"


def test_other_encodings(tmp_path: Path) -> None:
    root = csv_folder(tmp_path)
    for name in ("images.csv", "boxes.csv"):
        text = (root / name).read_text(encoding="utf-8").replace("effusion", "épanchement")
        (root / name).write_bytes(text.encode("cp1252"))
    findings = {"épanchement": "Pleural Effusion", "heart": "Cardiomegaly"}
    assert len(read(root, findings=findings, encoding="cp1252").boxes) == 1
    with pytest.raises(UserError, match=r"images\.csv is not text in UTF-8, see row 1; .* data\.encoding: cp1252"):
        read(root, findings=findings)
    with pytest.raises(ValueError, match="unknown encoding 'cp12520'"):
        read(root, findings=findings, encoding="cp12520")


def test_a_wrong_folder_or_table_is_told_in_the_words_of_an_own_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set `data\.root` to where the paths in the table begin"):
        read(tmp_path / "gone")
    with pytest.raises(UserError, match=r"correct `data\.root`, or `data\.table`"):
        read(csv_folder(tmp_path), table="gone.csv")


BROKEN: dict[str, tuple[dict[str, Any], str, int]] = {
    "missing image": ({"rows": [("p3/c.png", "p3", "PA", "F", 1, 1, 1)]}, "missing image", 2),
    "duplicated row": ({"rows": [("p1/a.png", "p1", "PA", "F", 51, 1, "")]}, "duplicated row", 2),
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


def test_new_findings_follow_those_that_ship(tmp_path: Path) -> None:
    data = read(csv_folder(tmp_path), findings={"heart": "Wire", "effusion": "Edema"})
    assert data.findings == ("Edema", "Wire")
    with pytest.raises(ValueError, match=r"without \|, backslash"):
        read(csv_folder(tmp_path), findings={"heart": "a|b"})


def test_a_french_spreadsheet(tmp_path: Path) -> None:
    """Semicolons, a byte order mark, decimal commas, French words."""
    root = csv_folder(tmp_path)
    images = "\ufefffile;pid;projection;sex;years;effusion;heart\np1/a.png;p1;Face;H;45,5;Oui;1,0\n"
    images += "p2/b.png;p2;profil;Femme;7;non;?\n"
    (root / "images.csv").write_text(images, encoding="utf-8")
    (root / "boxes.csv").write_text("file;label;left;top;right;bottom\np1/a.png;effusion;5,25;6;15;26\n", "utf-8")
    data = read(root, label_values={"oui": 1, "non": 0, "?": -1})
    assert data.images["view"].tolist() == ["frontal", "lateral"]
    assert data.images["sex"].tolist() == ["M", "F"]
    assert data.images["age"].tolist() == [45.5, 7]
    assert data.labels.to_numpy().tolist() == [[1, 1], [-1, 0]]
    assert data.boxes["x1"].tolist() == [5.25]


def test_a_comma_that_may_part_thousands_is_no_number(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, boxes=[("p2/b.png", "heart", "1,234", 2, 3, 4)])
    with pytest.raises(UserError, match="box with a coordinate that is no number"):
        read(root)


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


@pytest.mark.parametrize("spelling", ["./p1/a.png", "p1//a.png", "p1/../p1/a.png", "p2/../p1/./a.png"])
def test_another_spelling_of_a_path_is_the_same_image(tmp_path: Path, spelling: str) -> None:
    row, box = (spelling, "p1", "PA", "F", 51, 1, ""), (spelling, "heart", 1, 2, 3, 4)
    root = csv_folder(tmp_path, rows=[row], boxes=[box])
    with pytest.raises(UserError, match="duplicated row"):
        read(root)
    data = read(root, on_problem="exclude")
    assert data.images["image_id"].tolist() == ["p1/a", "p2/b"]
    assert data.boxes["image_id"].tolist() == ["p1/a", "p1/a"]


def test_the_same_file_with_another_ending_in_the_table_is_told(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, rows=[("p3/c.png", "p3", "PA", "F", 1, 1, 1), ("p3/d.png", "p4", "PA", "F", 1, 1, 1)])
    (root / "p3").mkdir()
    (root / "p3/c.png").write_bytes((root / "p1/a.png").read_bytes())
    (root / "p3/d.png").symlink_to("../p2/b.png")
    with pytest.raises(UserError) as caught:
        read(root)
    reason = "file with the same content as an earlier one"
    assert [problem.split(": ", 1)[1] for problem in caught.value.problems[:-1]] == [
        f"p3/c.png (as p1/a.png): {reason}",
        f"p3/d.png (as p2/b.png): {reason}",
    ]
    data = read(root, on_problem="exclude")
    assert data.images["image_id"].tolist() == ["p1/a", "p2/b"]
    assert [item.reason for item in data.excluded] == [reason] * 2
    assert read(root, duplicates="keep").images["image_id"].tolist() == ["p1/a", "p2/b", "p3/c", "p3/d"]


UPWARDS, LINKS = ("../p1/a.png", "/etc/hostname", "p1/../../a.png"), ("out/a.png", "link.png")


@pytest.mark.parametrize(
    ("path", "check_files"),
    [
        *((path, check) for path in UPWARDS for check in ("none", "exist", "header")),
        *((path, check) for path in LINKS for check in ("exist", "header")),  # "none" looks at no file
    ],
)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, path: str, check_files: str) -> None:
    root = csv_folder(tmp_path / "data", rows=[(path, "p3", "PA", "F", 1, 1, 1)])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.png").write_bytes(b"x")
    (root / "out").symlink_to(tmp_path / "other")
    (root / "link.png").symlink_to(tmp_path / "other/a.png")
    with pytest.raises(UserError, match="path that leads out of `root`"):
        read(root, check_files=check_files)
    data = read(root, check_files=check_files, on_problem="exclude")
    assert data.images["image_id"].tolist() == ["p1/a", "p2/b"]


@pytest.mark.parametrize("name", ["images.csv", "boxes.csv"])
def test_tables_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = csv_folder(tmp_path / "data")
    (root / name).rename(tmp_path / name)
    settings = dict(csv_settings(root))
    if name == "images.csv":
        settings["table"] = "../images.csv"
    else:
        settings["boxes"] = {**settings["boxes"], "table": "../boxes.csv"}  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"data\..*table: \.\./" + name):
        CsvTableData.model_validate(settings).read()


def test_a_short_row_is_an_error_and_no_negative(tmp_path: Path) -> None:
    root = csv_folder(tmp_path)
    text = (root / "images.csv").read_text(encoding="utf-8")
    (root / "images.csv").write_text(text + "p1/a.png,p1,PA\n", encoding="utf-8")
    for on_problem in ("error", "exclude"):
        with pytest.raises(UserError, match="line 4 has 3 cells"):
            read(root, on_problem=on_problem)


def test_files_named_by_uid_are_images_of_their_own(tmp_path: Path) -> None:
    names = [f"1.2.840.113619.2.5.{number}" for number in range(1, 7)]
    root = csv_folder(tmp_path, rows=[(name, "p3", "PA", "F", 1, 1, 1) for name in names])
    for number, name in enumerate(names):
        (root / name).write_bytes(bytes([number]))
    data = read(root)
    assert data.images["image_id"].tolist() == ["p1/a", "p2/b", *names]


@pytest.mark.parametrize(
    ("path", "image_id"),
    [
        ("a.PNG", "a"),
        ("a.jpeg", "a"),
        ("a.b.dcm", "a.b"),
        ("1.2.3", "1.2.3"),
        ("scan.v2", "scan.v2"),
        (".png", ""),
        ("a", "a"),
    ],
)
def test_only_endings_of_images_are_cut_off(path: str, image_id: str) -> None:
    assert csv_table.image_ids(pd.Series([path], dtype=str)).tolist() == [image_id]


def test_images_that_are_turned_upright_are_counted(tmp_path: Path) -> None:
    """The box is given on the upright image, 40 px high and 60 px wide."""
    root = csv_folder(tmp_path)
    with Image.open(root / "p1/a.png") as stored:
        exif = Image.Exif()
        exif[0x0112] = 6
        stored.rotate(90, expand=True).save(root / "p1/a.png", exif=exif)
    data = read(root)
    assert data.counts[TURNED] == 1
    assert read_pixels(root / "p1/a.png").shape == (40, 60)
    assert data.boxes.iloc[0, 2:6].tolist() == [5, 6, 15, 26]


@pytest.mark.parametrize("path", ["", ".", "p1", "p1/.."])
def test_a_folder_or_blank_cell_is_no_image(tmp_path: Path, path: str) -> None:
    root = csv_folder(tmp_path)
    table = root / "images.csv"
    header, first, *_ = table.read_text(encoding="utf-8").splitlines()
    other = first.replace("p1/a.png", path)
    assert other != first
    table.write_text(f"{header}\n{first}\n{other}\n", encoding="utf-8")
    data = read(root, boxes=None, on_problem="exclude")
    assert data.images["image_id"].tolist() == ["p1/a"]
    assert [one.reason for one in data.excluded] == ["missing image"]


@pytest.mark.parametrize("far", [1, 1.5])
def test_boxes_as_shares_of_the_image_are_refused(tmp_path: Path, far: float) -> None:
    root = csv_folder(tmp_path)
    rows = f"file,label,left,top,right,bottom\np2/b.png,effusion,.25,.5,.75,{far}\np1/a.png,effusion,0,0,1,1\n"
    (root / "boxes.csv").write_text(rows, encoding="utf-8")
    if far > 1:
        assert len(read(root).boxes) == 2
    else:
        with pytest.raises(UserError, match="first pixel"):
            read(root, on_problem="exclude")
