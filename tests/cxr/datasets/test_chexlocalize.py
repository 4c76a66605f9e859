"""CheXlocalize's reader: masks become boxes by part, labels stay those of the table."""

import json
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.chexlocalize import AGAINST_LABEL, BAD_MASK, UNKNOWN_IMAGE, WITHOUT_MASK, ChexlocalizeData
from cxr.masks import area_of, masks_in
from tests.builders import write_picture
from tests.cxr.datasets.release_builders import chexlocalize_folder
from tests.paths import SAMPLES, needs_samples

FIRST, SECOND = "patient64541_study1_view1_frontal", "patient64542_study1_view1_frontal"


@pytest.mark.parametrize("first_release", [False, True])
def test_parts_of_a_mask_are_scaled_to_the_file(tmp_path: Path, first_release: bool) -> None:
    """Masks are of 80 x 120, files of 40 x 60."""
    data = ChexlocalizeData(root=chexlocalize_folder(tmp_path, first_release=first_release)).read()
    folder = "CheXpert-v1.0/valid" if first_release else "CheXpert/val"
    assert data.images["path"].tolist() == [f"{folder}/{name.replace('_', '/', 2)}.jpg" for name in (FIRST, SECOND)]
    assert data.images["patient_id"].tolist() == ["patient64541", "patient64542"]
    assert set(data.images["split"]) == {"valid"}
    assert data.labels.to_dict("list") == {"Cardiomegaly": [1, 0], "Lung Opacity": [0, 1]}
    assert data.boxes.iloc[:, :6].to_numpy().tolist() == [
        [FIRST, "Cardiomegaly", 10, 5, 30, 15],
        [FIRST, "Cardiomegaly", 50, 30, 60, 35],
    ]
    assert [area_of(mask) for mask in masks_in(data.boxes) if mask is not None] == [200, 50]
    assert data.counts == {"images excluded by `view: frontal`": 1, WITHOUT_MASK: 2}


def test_all_views(tmp_path: Path) -> None:
    data = ChexlocalizeData(root=chexlocalize_folder(tmp_path), view="all").read()
    assert data.images["view"].tolist() == ["frontal", "frontal", "lateral"]


def test_a_mask_against_its_label_is_counted(tmp_path: Path) -> None:
    square = {"size": [40, 60], "counts": [0, 5, 2395]}
    root = chexlocalize_folder(tmp_path, masks={SECOND: {"Cardiomegaly": square}})
    data = ChexlocalizeData(root=root).read()
    assert data.counts[AGAINST_LABEL] == 1
    assert len(data.boxes) == 1


BROKEN = {
    "another image": ({"patient1_study1_view1_frontal": {}}, UNKNOWN_IMAGE),
    "another finding": ({FIRST: {"Cardiomegally": {}}}, "unknown finding"),
    "no mask": ({FIRST: {"Cardiomegaly": [1, 2]}}, BAD_MASK),
    "no size": ({FIRST: {"Cardiomegaly": {"counts": "abc"}}}, BAD_MASK),
    "counts of another size": ({FIRST: {"Cardiomegaly": {"size": [40, 60], "counts": "525"}}}, BAD_MASK),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    masks, reason = BROKEN[case]
    root = chexlocalize_folder(tmp_path, masks=masks)
    with pytest.raises(UserError, match=reason):
        ChexlocalizeData(root=root).read()
    data = ChexlocalizeData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [reason]
    assert data.boxes.empty


def test_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no gt_segmentations_val"):
        ChexlocalizeData(root=tmp_path).read()
    root = chexlocalize_folder(tmp_path)
    with pytest.raises(UserError, match="no gt_segmentations_test"):
        ChexlocalizeData(root=root, splits=("test",)).read()
    (root / "CheXpert" / "val_labels.csv").unlink()
    with pytest.raises(UserError, match=r"no val_labels\.csv or valid\.csv"):
        ChexlocalizeData(root=root).read()


@needs_samples
def test_masks_of_the_release(tmp_path: Path) -> None:
    masks = (SAMPLES / "chexlocalize_gt_segmentations_val.json").read_text(encoding="utf-8")
    (tmp_path / "gt_segmentations_val.json").write_text(masks, encoding="utf-8")
    (tmp_path / "valid.csv").write_text(
        (SAMPLES / "chexlocalize_valid.csv").read_text(encoding="utf-8"), encoding="utf-8"
    )
    for image_id, own in json.loads(masks).items():
        height, width = own["Edema"]["size"]
        write_picture(tmp_path / "valid" / f"{image_id.replace('_', '/', 2)}.jpg", (height // 4, width // 4))
    data = ChexlocalizeData(root=tmp_path).read()
    assert data.images["age"].tolist() == [73, 70]
    assert data.boxes["finding"].tolist() == [
        *["Enlarged Cardiomediastinum"] * 2, "Cardiomegaly", "Lung Opacity", "Support Devices",
    ]  # fmt: skip
    assert data.boxes.iloc[2, 2:6].tolist() == [1201 / 4, 936 / 4, 2374 / 4, 2001 / 4]
    assert data.counts == {}
