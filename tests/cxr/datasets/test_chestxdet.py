"""ChestX-Det's reader, with and without polygons: every image was read for all findings."""

from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.chestxdet import BAD_ENTRY, ChestxdetData
from cxr.masks import area_of, masks_in
from tests.builders import write_picture
from tests.cxr.datasets.release_builders import chestxdet_folder
from tests.paths import SAMPLES, needs_samples


@pytest.mark.parametrize("det10", [False, True])
def test_boxes_are_scaled_from_the_1024_frame_to_the_file(tmp_path: Path, det10: bool) -> None:
    data = ChestxdetData(root=chestxdet_folder(tmp_path, det10=det10)).read()
    assert data.images["image_id"].tolist() == ["train_36204", "train_36205", "test_36300"]
    assert data.images["path"].tolist()[0] == "train_data/train/36204.png"
    assert data.images["split"].tolist() == ["train", "train", "test"]
    assert data.boxes.iloc[:, :7].to_numpy().tolist() == [
        ["train_36204", "Pleural Effusion", 15, 20, 30, 40, ""],
        ["test_36300", "Nodule", 0, 0, 7.5, 5, ""],
    ]
    assert len(data.findings) == (10 if det10 else 12)
    assert data.labels["Pleural Effusion"].tolist() == [1, 0, 0]
    assert data.labels.to_numpy().sum() == 2


def test_polygons_become_masks(tmp_path: Path) -> None:
    data = ChestxdetData(root=chestxdet_folder(tmp_path), splits=("train",)).read()
    (mask,) = masks_in(data.boxes)
    assert mask is not None
    assert (mask.size_hw, area_of(mask)) == ((40, 60), 300)
    assert masks_in(ChestxdetData(root=chestxdet_folder(tmp_path / "10", det10=True)).read().boxes) == [None, None]


BROKEN = {
    "no file name": {"syms": [], "boxes": []},
    "more boxes than names": {"file_name": "1.png", "syms": [], "boxes": [[1, 2, 3, 4]]},
    "a box of three": {"file_name": "1.png", "syms": ["Mass"], "boxes": [[1, 2, 3]]},
    "a box of words": {"file_name": "1.png", "syms": ["Mass"], "boxes": [["a", "b", "c", "d"]]},
    "no polygon of a box": {"file_name": "1.png", "syms": ["Mass"], "boxes": [[1, 2, 3, 4]], "polygons": []},
    "a line for a polygon": {"file_name": "1.png", "syms": ["Mass"], "boxes": [[1, 2, 3, 4]], "polygons": [[[1, 2]]]},
    "a list": ["1.png"],
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    root = chestxdet_folder(tmp_path, entries=[BROKEN[case]])
    with pytest.raises(UserError, match=r"ChestX_Det_train\.json, entry 2"):
        ChestxdetData(root=root).read()
    data = ChestxdetData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [BAD_ENTRY]
    assert len(data.images) == 3


def test_an_unknown_finding(tmp_path: Path) -> None:
    entry = {"file_name": "36206.png", "syms": ["Nodules"], "boxes": [[1, 2, 3, 4]]}
    with pytest.raises(UserError, match="unknown finding"):
        ChestxdetData(root=chestxdet_folder(tmp_path, entries=[entry])).read()


def test_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no ChestX_Det_train\.json or train\.json"):
        ChestxdetData(root=tmp_path).read()
    (tmp_path / "train.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="not a list of images"):
        ChestxdetData(root=tmp_path).read()


@needs_samples
def test_entries_of_the_release(tmp_path: Path) -> None:
    text = (SAMPLES / "chestxdet10_train.json").read_text(encoding="utf-8")
    (tmp_path / "train.json").write_text(text, encoding="utf-8")
    for part in text.split('"')[3::2]:
        if part.endswith(".png"):
            write_picture(tmp_path / "train_data" / part)
    data = ChestxdetData(root=tmp_path).read()
    assert len(data.images) == 60
    assert (data.boxes["image_id"] == "train_36205").sum() == 24
