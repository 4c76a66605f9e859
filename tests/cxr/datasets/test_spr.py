"""SPR's reader: sex as the label, a test part without labels."""

import math
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.spr import BAD_SEX, NO_NUMBER, SprData
from tests.builders import write_picture, write_rows
from tests.cxr.datasets.release_builders import spr_folder


@pytest.mark.parametrize("ages", [True, False])
def test_sex_is_the_label(tmp_path: Path, ages: bool) -> None:
    data = SprData(root=spr_folder(tmp_path, ages=ages)).read()
    assert data.images["path"].tolist() == ["kaggle/kaggle/train/000000.png", "kaggle/kaggle/train/000001.png"]
    assert data.images["sex"].tolist() == ["M", "F"]
    assert data.labels.to_dict("list") == {"Male": [1, 0]}
    assert data.images["age"].fillna(0).tolist() == ([77, 41] if ages else [0, 0])


def test_the_test_part_has_no_labels(tmp_path: Path) -> None:
    data = SprData(root=spr_folder(tmp_path), part="all").read()
    assert data.images["image_id"].tolist() == ["train_000000", "train_000001", "test_000000"]
    assert math.isnan(data.labels["Male"].iloc[2])
    assert SprData(root=tmp_path, part="test").read().images["split"].tolist() == ["test"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [(("2", "2"), BAD_SEX), (("two", "1"), NO_NUMBER), (("1234567", "1"), NO_NUMBER), (("\uff12", "1"), NO_NUMBER)],
)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, row: tuple[str, str], reason: str) -> None:
    root = spr_folder(tmp_path, genders=[row])
    with pytest.raises(UserError, match=reason):
        SprData(root=root).read()
    data = SprData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [reason]
    assert len(data.images) == 2


def test_an_image_may_be_in_one_of_the_tables_only(tmp_path: Path) -> None:
    """Each keeps its own sex and age, whatever the order of the rows."""
    root = spr_folder(tmp_path, genders=[("3", "0")])
    write_rows(root / "train_age.csv", ("imageId", "age"), [("2", "22"), ("1", "41.0"), ("0", "77.0")])
    for name in ("000002", "000003"):
        write_picture(root / "kaggle" / "kaggle" / "train" / f"{name}.png")
    images = SprData(root=root).read().images
    facts = dict(zip(images["image_id"], zip(images["sex"], images["age"].fillna(0), strict=True), strict=True))
    assert facts == {
        "train_000000": ("M", 77),
        "train_000001": ("F", 41),
        "train_000003": ("F", 0),
        "train_000002": ("", 22),
    }


def test_two_folders_of_images_are_refused(tmp_path: Path) -> None:
    """Nobody says which holds the images of the table."""
    root = spr_folder(tmp_path)
    write_picture(root / "train" / "000000.png")
    with pytest.raises(UserError, match="both have a folder train"):
        SprData(root=root).read()


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train_gender\.csv or train_age\.csv"):
        SprData(root=tmp_path).read()
    with pytest.raises(UserError, match="no images in a folder test"):
        SprData(root=tmp_path, part="test").read()
