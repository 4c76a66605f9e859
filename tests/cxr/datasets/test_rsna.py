"""RSNA's reader: a row per box, targets that agree with their boxes, patients by the map to NIH."""

from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.rsna import BAD_CLASS, BAD_TARGET, NO_NIH_IMAGE, TWO_TARGETS, RsnaData
from tests.builders import write_picture, write_rows
from tests.cxr.datasets.release_builders import rsna_folder
from tests.paths import SAMPLES, needs_samples


def test_boxes_are_scaled_from_the_1024_frame_to_the_file(tmp_path: Path) -> None:
    data = RsnaData(root=rsna_folder(tmp_path)).read()
    assert data.boxes.to_numpy().tolist() == [
        ["a", "Pneumonia", 15, 20, 22.5, 22.5, ""],
        ["a", "Pneumonia", 30, 0, 60, 40, ""],
    ]
    assert data.labels.to_dict("list") == {"No Finding": [0, 1, 0], "Pneumonia": [1, 0, 0]}
    assert data.images["path"].tolist() == [f"stage_2_train_images/{name}.png" for name in "abc"]
    assert set(data.images["patient_id"]) == {""}


def test_without_the_class_table_nothing_is_said_of_normal_images(tmp_path: Path) -> None:
    assert RsnaData(root=rsna_folder(tmp_path, classes=False)).read().findings == ("Pneumonia",)


def test_patients_by_the_map_to_nih(tmp_path: Path) -> None:
    root = rsna_folder(tmp_path)
    rows = [("a", "00019124_092.png"), ("b", "00019124_003.png"), ("c", "00000001_000.png")]
    write_rows(root / "map.csv", ("rsna_patientId", "nih_image"), rows)
    assert RsnaData(root=root, nih_map="map.csv").read().images["patient_id"].tolist() == ["19124", "19124", "1"]
    write_rows(root / "map.csv", ("rsna_patientId", "nih_image"), rows[:2])
    with pytest.raises(UserError, match=f"c: {NO_NIH_IMAGE}"):
        RsnaData(root=root, nih_map="map.csv").read()


BROKEN = {
    "box with target 0": (("b", 1, 2, 3, 4, 0), BAD_TARGET, 2, 2),
    "target 1 without a box": (("b", "", "", "", "", 1), BAD_TARGET, 2, 2),
    "target 2": (("b", 1, 2, 3, 4, 2), BAD_TARGET, 2, 2),
    "blank target": (("b", "", "", "", "", ""), BAD_TARGET, 2, 2),
    "both targets": (("b", 1, 2, 3, 4, 1), TWO_TARGETS, 2, 2),
    "no number": (("a", 1, "two", 3, 4, 1), "box with a coordinate that is no number", 3, 2),
    "outside": (("a", 1000, 2, 100, 4, 1), "box outside the image", 3, 2),
    "no width": (("a", 1, 2, 0, 4, 1), "inverted or empty box", 3, 2),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    row, reason, num_images, num_boxes = BROKEN[case]
    root = rsna_folder(tmp_path, rows=[row])
    with pytest.raises(UserError, match=reason):
        RsnaData(root=root).read()
    data = RsnaData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [reason]
    assert (len(data.images), len(data.boxes)) == (num_images, num_boxes)


def test_an_unknown_class_says_nothing_of_normal(tmp_path: Path) -> None:
    root = rsna_folder(tmp_path)
    write_rows(
        root / "stage_2_detailed_class_info.csv", ("patientId", "class"), [("a", "Lung Opacity"), ("b", "normal")]
    )
    with pytest.raises(UserError, match=f"b, class normal: {BAD_CLASS}"):
        RsnaData(root=root).read()
    labels = RsnaData(root=root, on_problem="exclude").read().labels["No Finding"]
    assert labels.isna().tolist() == [False, True, True]


def test_a_folder_without_the_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stage_2_train_labels\.csv"):
        RsnaData(root=tmp_path).read()


@needs_samples
@pytest.mark.parametrize(("name", "images", "boxes"), [("", 159, 96), ("_odd", 13, 52)])
def test_rows_of_the_release(tmp_path: Path, name: str, images: int, boxes: int) -> None:
    text = (SAMPLES / f"rsna_stage_2_train_labels{name}.csv").read_text(encoding="utf-8")
    (tmp_path / "stage_2_train_labels.csv").write_text(text, encoding="utf-8")
    for image_id in {line.split(",")[0] for line in text.splitlines()[1:]}:
        write_picture(tmp_path / f"{image_id}.png")
    data = RsnaData(root=tmp_path).read()
    assert (len(data.images), len(data.boxes)) == (images, boxes)
    assert data.labels["Pneumonia"].sum() == data.boxes["image_id"].nunique()
