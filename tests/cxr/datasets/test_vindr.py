"""VinDr-CXR's reader in both layouts: readers kept, votes counted, every defective box told or counted."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.datasets.box_checks import CLIPPED, NO_SIZE, OUTSIDE
from cxr.datasets.vindr import VindrData
from cxr.labels import VINDR_GLOBAL, VINDR_NAMES
from cxr.tables import BOX_COLUMNS
from tests.builders import KAGGLE_HEADER, kaggle_folder, physionet_folder, write_picture, write_rows


def test_kaggle_boxes_keep_their_readers(tmp_path: Path) -> None:
    data = VindrData(root=kaggle_folder(tmp_path)).read()
    assert list(data.boxes.columns) == BOX_COLUMNS
    assert data.boxes.to_numpy().tolist() == [
        ["a", "Cardiomegaly", 10, 20, 30, 40, "R8"],
        ["a", "Cardiomegaly", 12, 20, 30, 38, "R9"],
        ["c", "Lung Lesion", 1.5, 2.5, 9.5, 8.5, "R8"],
    ]
    assert data.images["path"].tolist() == ["train/a.dicom", "train/b.dicom", "train/c.dicom"]
    assert set(data.images["patient_id"]) == {""}
    assert set(data.images["split"]) == {"train"}


def test_kaggle_labels_by_majority_or_any(tmp_path: Path) -> None:
    root = kaggle_folder(tmp_path)
    majority = VindrData(root=root).read().labels
    assert majority.shape == (3, 15)
    assert majority["Cardiomegaly"].tolist() == [1, 0, 0]
    assert majority["Lung Lesion"].tolist() == [0, 0, 0]
    assert majority["No Finding"].tolist() == [0, 1, 1]
    anyone = VindrData(root=root, label_rule="any").read().labels
    assert anyone["Lung Lesion"].tolist() == [0, 0, 1]
    assert anyone["Pneumothorax"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".dicom"])
def test_kaggle_image_kind_is_found(tmp_path: Path, suffix: str) -> None:
    data = VindrData(root=kaggle_folder(tmp_path, suffix=suffix), box_frame="file").read()
    assert data.images["path"][0] == f"train/a{suffix}"
    assert len(data.boxes) == 3


def test_kaggle_has_no_labels_for_test(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="part 'test' of Kaggle's layout has no labels"):
        VindrData(root=kaggle_folder(tmp_path), part="test").read()


def test_physionet_labels_come_from_the_label_table(tmp_path: Path) -> None:
    data = VindrData(root=physionet_folder(tmp_path), part="all").read()
    assert data.images["image_id"].tolist() == ["a", "b", "t"]
    assert data.images["path"].tolist() == ["train/a.dicom", "train/b.dicom", "test/t.dicom"]
    assert data.images["split"].tolist() == ["train", "train", "test"]
    assert data.findings == ("No Finding", "Cardiomegaly", "Lung Lesion", "COPD", "Other Disease")
    assert data.labels["Cardiomegaly"].tolist() == [1, 0, 0]
    assert data.labels["No Finding"].tolist() == [0, 1, 0]
    assert data.labels["COPD"].tolist() == [0, 0, 0]
    # Train spells the column "Other diseases", test "Other disease": one finding.
    assert data.labels["Other Disease"].tolist() == [0, 0, 1]
    assert data.boxes["reader"].tolist() == ["R8", "R9", ""]


def test_physionet_any_reader(tmp_path: Path) -> None:
    data = VindrData(root=physionet_folder(tmp_path), label_rule="any").read()
    assert data.labels["COPD"].tolist() == [1, 0]
    assert data.labels["Other Disease"].tolist() == [1, 0]


def test_box_at_the_rim_is_clipped_and_counted(tmp_path: Path) -> None:
    """The image is 60 wide: 0.6 px may stick out."""
    root = kaggle_folder(tmp_path, rows=[("b", "ILD", 5, "R1", 50, 3, 60.5, 9)])
    data = VindrData(root=root).read()
    assert data.boxes[data.boxes["finding"] == "ILD"]["x2"].tolist() == [60]
    assert data.counts[CLIPPED] == 1
    unchecked = VindrData(root=root, check_files="none").read()
    assert unchecked.boxes["x2"].max() == 60.5


BROKEN_BOXES = {
    "outside": (("b", "ILD", 5, "R1", 50, 3, 61, 9), "box outside the image"),
    "outside below": (("b", "ILD", 5, "R1", 30, 35, 40, 55), "box outside the image"),
    "wholly outside": (("b", "ILD", 5, "R1", 60.1, 3, 60.3, 9), "box outside the image"),
    "inverted": (("b", "ILD", 5, "R1", 50, 9, 55, 3), "inverted or empty box"),
    "empty": (("b", "ILD", 5, "R1", 50, 9, 50, 12), "inverted or empty box"),
    "no number": (("b", "ILD", 5, "R1", 50, "nan", 55, 30), "box with a coordinate that is no number"),
    "blank": (("b", "ILD", 5, "R1", "", "", "", ""), "box with a coordinate that is no number"),
    "twice": (("a", "Cardiomegaly", 3, "R8", 10, 20, 30, 40), "duplicated box row"),
    "unknown class": (("b", "Cardiomegally", 3, "R1", 10, 20, 30, 40), "unknown finding"),
}


@pytest.mark.parametrize("case", BROKEN_BOXES)
def test_broken_box_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    row, reason = BROKEN_BOXES[case]
    root = kaggle_folder(tmp_path, rows=[row])
    with pytest.raises(UserError, match=reason):
        VindrData(root=root).read()
    data = VindrData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [reason]
    assert len(data.images) == 3
    assert len(data.boxes) == 3


def test_message_names_box_and_image_size(tmp_path: Path) -> None:
    root = kaggle_folder(tmp_path, rows=[("b", "ILD", 5, "R1", 50, 3, 70, 9)])
    with pytest.raises(UserError, match=r"b: ILD box \(50, 3, 70, 9\) in an image of height 40, width 60"):
        VindrData(root=root).read()


def test_missing_image_takes_its_boxes_along(tmp_path: Path) -> None:
    root = kaggle_folder(tmp_path, missing="a")
    with pytest.raises(UserError, match=r"train/a.dicom: missing image"):
        VindrData(root=root).read()
    data = VindrData(root=root, on_problem="exclude").read()
    assert data.images["image_id"].tolist() == ["b", "c"]
    assert data.boxes["image_id"].tolist() == ["c"]


def test_unreadable_image_with_boxes(tmp_path: Path) -> None:
    root = kaggle_folder(tmp_path)
    (root / "train/c.dicom").write_bytes(b"")
    with pytest.raises(UserError, match="unreadable image"):
        VindrData(root=root).read()
    data = VindrData(root=root, on_problem="exclude").read()
    assert data.images["image_id"].tolist() == ["a", "b"]


def test_physionet_defects_of_the_label_table(tmp_path: Path) -> None:
    root = physionet_folder(
        tmp_path,
        marks=[("z", "R1", "Cardiomegaly", 1, 2, 3, 4)],
        labels=[("b", "R1", 0, 0, 0, 1, 0), ("b", "R4", 2, 0, 0, 0, 0)],
    )
    with pytest.raises(UserError) as caught:
        VindrData(root=root).read()
    assert len(caught.value.problems) == 4
    data = VindrData(root=root, on_problem="exclude").read()
    assert {(item.what, item.reason) for item in data.excluded} == {
        ("z", "image with annotations but without a row of image labels"),
        ("b by reader R1", "duplicated row"),
        ("b by reader R4, column 'Cardiomegaly', value '2'", "label value outside {1, 0, -1, blank}"),
    }
    assert data.images["image_id"].tolist() == ["a"]


def test_neither_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder annotations"):
        VindrData(root=tmp_path).read()


def test_many_rows_in_seconds(tmp_path: Path) -> None:
    """As many rows as VinBigData has; the time is not asserted, a loop over rows would be felt."""
    ids = np.arange(67_914) // 9
    rows = [(f"{image:032x}", "ILD", 5, f"R{row % 3}", row % 9, 2, 20, 30) for row, image in enumerate(ids)]
    write_rows(
        tmp_path / "train.csv",
        ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"),
        rows,
    )
    data = VindrData(root=tmp_path, check_files="none").read()
    assert len(data.boxes) == 67_914
    assert len(data.images) == 7_546


ORIGINAL = ("width", "height")


def shrunk_folder(root: Path, *, meta: bool = False, size: tuple[object, object] = (600, 800)) -> Path:
    """Images of 60 x 40 px (W x H) whose boxes are in pixels of an original of `size` (W x H)."""
    rows = [
        ("a", "Cardiomegaly", 3, "R8", 200, 300, 500, 700),
        ("b", "Nodule/Mass", 8, "R8", 10, 20, 50, 40),
        ("c", "No finding", 14, "R8", "", "", "", ""),
    ]
    header = KAGGLE_HEADER if meta else (*KAGGLE_HEADER, *ORIGINAL)
    write_rows(root / "train.csv", header, rows if meta else [(*row, *size) for row in rows])
    if meta:
        write_rows(root / "train_meta.csv", ("image_id", "dim0", "dim1"), [(name, size[1], size[0]) for name in "abc"])
    for name in "abc":
        write_picture(root / "train" / f"{name}.png")
    return root


@pytest.mark.parametrize("meta", [False, True])
def test_boxes_of_smaller_copies_are_scaled_to_the_file(tmp_path: Path, meta: bool) -> None:
    data = VindrData(root=shrunk_folder(tmp_path, meta=meta)).read()
    assert data.excluded == ()
    assert data.boxes[["image_id", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [
        ["a", 20, 15, 50, 35],
        ["b", 1, 1, 5, 2],
    ]


def test_a_table_with_the_sizes_of_the_files_changes_nothing(tmp_path: Path) -> None:
    root = shrunk_folder(tmp_path, size=(60, 40))
    data = VindrData(root=root, on_problem="exclude").read()
    assert data.boxes[["image_id", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [["b", 10, 20, 50, 40]]
    assert [item.reason for item in data.excluded] == [OUTSIDE]


@pytest.mark.parametrize("size", [("", ""), (0, 800), (600, -800), ("nan", 800), ("inf", 800), ("wide", 800)])
def test_a_box_without_the_size_of_its_image_is_told(tmp_path: Path, size: tuple[object, object]) -> None:
    root = shrunk_folder(tmp_path, size=size)
    with pytest.raises(UserError, match=NO_SIZE):
        VindrData(root=root).read()
    data = VindrData(root=root, on_problem="exclude").read()
    assert data.boxes.empty
    assert [item.reason for item in data.excluded] == [NO_SIZE] * 2


def test_all_22_local_and_6_global_labels_of_physionet(tmp_path: Path) -> None:
    """Train spells one label as test does not; each local finding has a box, a global one a row without coordinates."""
    names = [name for name in VINDR_NAMES if name != "Other disease"]
    assert (len(names), len(VINDR_GLOBAL)) == (28, 6)
    marks: list[tuple[object, ...]] = []
    for name in names:
        corners = ("", "", "", "") if VINDR_NAMES[name] in VINDR_GLOBAL else (1, 2, 30, 20)
        marks.append(("a", "R1", name, *corners))
    notes = tmp_path / "annotations"
    write_rows(notes / "annotations_train.csv", ("image_id", "rad_id", "class_name", *KAGGLE_HEADER[4:]), marks)
    write_rows(notes / "image_labels_train.csv", ("image_id", "rad_ID", *names), [("a", "R1", *[1] * 28)])
    write_picture(tmp_path / "train" / "a.dicom")
    data = VindrData(root=tmp_path).read()
    assert set(data.findings) == set(VINDR_NAMES.values())
    assert set(data.boxes["finding"]) == set(VINDR_NAMES.values()) - VINDR_GLOBAL
    assert len(data.boxes) == 22
    assert data.counts == {"rows of findings of the whole image, which have no box": 6}
