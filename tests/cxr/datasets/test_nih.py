"""NIH ChestX-ray14's reader: the malformed box table, bars between labels, boxes in the 1024 frame."""

import math
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.nih import NihData
from cxr.datasets.nih_relabels import BAD_VALUE, NO_IMAGE, TWICE
from tests.builders import NIH_BOX_HEADER, nih_folder, write_rows
from tests.paths import SAMPLES, needs_samples

EXTRA = ("00000003_000.png", "Mass", 0, 3, 60, "F", "PA", 1, 1, 1, 1)


def test_labels_and_facts(tmp_path: Path) -> None:
    data = NihData(root=nih_folder(tmp_path)).read()
    assert data.images["image_id"].tolist() == ["00000001_000", "00000001_001", "00000002_000"]
    assert data.images["path"][2] == "images_003/images/00000002_000.png"
    assert data.images["patient_id"].tolist() == ["1", "1", "2"]
    assert data.images["sex"].tolist() == ["M", "M", "F"]
    assert data.images["age"].tolist()[:2] == [57, 58]
    assert math.isnan(data.images["age"][2])
    assert data.counts == {"ages that are no number in [0, 120], set to unknown": 1}
    assert len(data.findings) == 15
    first = data.labels.loc["00000001_000"]
    assert first[first == 1].index.tolist() == ["Cardiomegaly", "Infiltration"]
    assert data.labels.loc["00000001_001", "No Finding"] == 1
    assert data.labels.loc["00000002_000", "Pleural Thickening"] == 1
    assert data.labels.to_numpy().sum() == 4


def test_boxes_are_scaled_from_the_1024_frame_to_the_file(tmp_path: Path) -> None:
    """Files are 40 high and 60 wide: x counts 60/1024, y 40/1024."""
    data = NihData(root=nih_folder(tmp_path)).read()
    assert data.boxes.to_numpy().tolist() == [
        ["00000001_000", "Infiltration", 15, 20, 22.5, 22.5, ""],
        ["00000002_000", "Atelectasis", 0, 0, 60, 40, ""],
    ]


def test_official_lists(tmp_path: Path) -> None:
    assert set(NihData(root=nih_folder(tmp_path / "a")).read().images["split"]) == {""}
    data = NihData(root=nih_folder(tmp_path / "b", lists=True)).read()
    assert data.images["split"].tolist() == ["train", "train", "test"]


def test_parts_with_and_without_boxes_share_no_patient(tmp_path: Path) -> None:
    """Patient 1 has a box in one of two images, patient 2 in its only one, patient 3 in none."""
    root = nih_folder(tmp_path, rows=[EXTRA, ("00000003_001.png", *EXTRA[1:])])
    boxed = NihData(root=root, part="with_boxes").read()
    assert boxed.images["image_id"].tolist() == ["00000001_000", "00000002_000"]
    assert len(boxed.boxes) == 2
    others = NihData(root=root, part="without_boxes").read()
    assert others.images["image_id"].tolist() == ["00000003_000", "00000003_001"]
    assert others.boxes.empty
    assert others.counts["images excluded by `part: without_boxes`"] == 3
    (root / "BBox_List_2017.csv").unlink()
    for part in ("with_boxes", "without_boxes"):
        with pytest.raises(UserError, match=rf"`part: {part}` needs BBox_List_2017\.csv"):
            NihData(root=root, part=part).read()


def test_box_table_with_trailing_commas(tmp_path: Path) -> None:
    root = nih_folder(tmp_path)
    rows = [("00000001_000.png", "Nodule", 512, 512, 128, 64, "", "", "")]
    write_rows(root / "BBox_List_2017.csv", NIH_BOX_HEADER, rows)
    assert NihData(root=root).read().boxes.iloc[0, 1:6].tolist() == ["Nodule", 30, 20, 37.5, 22.5]


def test_no_box_table_is_counted(tmp_path: Path) -> None:
    root = nih_folder(tmp_path)
    (root / "BBox_List_2017.csv").unlink()
    data = NihData(root=root).read()
    assert data.boxes.empty
    assert data.counts["no BBox_List_2017.csv, so no boxes"] == 1


BROKEN = {
    "missing image": ({"missing": "00000002_000.png"}, "missing image", 2),
    "duplicated row": ({"rows": [EXTRA, EXTRA]}, "duplicated row", 4),
    "unknown class of a box": ({"boxes": [("00000002_000.png", "Massive", 1, 1, 9, 9)]}, "unknown finding", 3),
    "box of no image": ({"boxes": [("00000009_000.png", "Mass", 1, 1, 9, 9)]}, "box of an image that is not", 3),
    "outside": ({"boxes": [("00000002_000.png", "Mass", 900, 1, 200, 9)]}, "box outside the image", 3),
    "empty": ({"boxes": [("00000002_000.png", "Mass", 900, 1, 0, 9)]}, "inverted or empty box", 3),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    arguments, reason, num_images = BROKEN[case]
    root = nih_folder(tmp_path, **arguments)
    with pytest.raises(UserError, match=reason):
        NihData(root=root).read()
    data = NihData(root=root, on_problem="exclude").read()
    assert len(data.excluded) == 1
    assert data.excluded[0].reason.startswith(reason)
    assert len(data.images) == num_images


@pytest.mark.parametrize("label", ["Masses", "", "Mass|Masses"])
def test_image_with_an_unknown_finding_does_not_pass_for_normal(tmp_path: Path, label: str) -> None:
    root = nih_folder(tmp_path, rows=[(EXTRA[0], label, *EXTRA[2:])])
    with pytest.raises(UserError, match="unknown finding"):
        NihData(root=root).read()
    data = NihData(root=root, on_problem="exclude").read()
    assert "00000003_000" not in set(data.images["image_id"])
    assert [item.reason for item in data.excluded] == ["unknown finding", "image with an unknown finding"]


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Data_Entry_2017"):
        NihData(root=tmp_path).read()


def test_an_image_in_both_official_lists(tmp_path: Path) -> None:
    root = nih_folder(tmp_path, lists=True)
    (root / "test_list.txt").write_text("00000002_000.png\n00000001_001.png\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"1 images are in train_val_list\.txt and in test_list\.txt"):
        NihData(root=root).read()


RELABELS_HEADER = ("Image Index", "Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")


def relabels_folder(root: Path, *rows: tuple[str, ...]) -> Path:
    """`nih_folder` with a table of Google's labels of two images."""
    table = [("00000002_000.png", "NO", "YES", "NO", "HEDGE"), ("00000001_001.png", "NO", "NO", "YES", "NO"), *rows]
    write_rows(nih_folder(root) / "test_labels.csv", RELABELS_HEADER, table)
    return root


def test_labels_of_radiologists_replace_those_of_the_reports(tmp_path: Path) -> None:
    data = NihData(root=relabels_folder(tmp_path), relabels=("test_labels.csv",)).read()
    assert data.images["image_id"].tolist() == ["00000001_001", "00000002_000"]
    assert data.labels.to_dict("list") == {
        "Lung Opacity": [1, 0],
        "Lung Lesion": [0, -1],
        "Pneumothorax": [0, 1],
        "Fracture": [0, 0],
    }
    assert data.boxes["image_id"].tolist() == ["00000002_000"]


RELABELS = {
    "another value": (("00000001_000.png", "NO", "yes", "NO", "NO"), BAD_VALUE, 2),
    "blank": (("00000001_000.png", "NO", "", "NO", "NO"), BAD_VALUE, 2),
    "twice": (("00000001_001.png", "NO", "NO", "YES", "NO"), TWICE, 2),
    "another image": (("00000009_000.png", "NO", "NO", "NO", "NO"), NO_IMAGE, 2),
}


@pytest.mark.parametrize("case", RELABELS)
def test_defect_of_relabels(tmp_path: Path, case: str) -> None:
    row, reason, num_images = RELABELS[case]
    root = relabels_folder(tmp_path, row)
    with pytest.raises(UserError, match=reason):
        NihData(root=root, relabels=("test_labels.csv",)).read()
    data = NihData(root=root, relabels=("test_labels.csv",), on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [reason]
    assert len(data.images) == num_images


@needs_samples
def test_relabels_of_the_release(tmp_path: Path) -> None:
    """The excerpt of Google's table has NIH's columns too, so it serves as the label table as well."""
    table = SAMPLES / "google2019_nih_relabels.csv"
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    data = NihData(root=tmp_path, relabels=(table,), check_files="none").read()
    assert data.labels.sum().to_dict() == {"Lung Opacity": 110, "Lung Lesion": 24, "Pneumothorax": 11, "Fracture": 6}
