"""Kermany's reader: folders to labels, patient groups from the table or the file names, identical files."""

from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.kermany import KermanyData
from cxr.splits import SplitSettings
from tests.builders import kermany_folder


def test_folders_and_file_names(tmp_path: Path) -> None:
    data = KermanyData(root=kermany_folder(tmp_path)).read()
    assert data.images["image_id"][0] == "train/NORMAL/IM-0115-0001"
    assert data.images["split"].tolist() == ["train", "train", "valid", "test", "test"]
    assert data.images["patient_id"].tolist() == ["IM-0115", "person1", "NORMAL2-IM-0383", "IM-0001", "person1"]
    assert data.findings == ("No Finding", "Pneumonia")
    assert data.labels["Pneumonia"].tolist() == [0, 1, 0, 0, 1]
    assert data.labels["No Finding"].tolist() == [1, 0, 1, 1, 0]
    assert data.boxes.empty


def test_groups_table_gives_the_patients(tmp_path: Path) -> None:
    data = KermanyData(root=kermany_folder(tmp_path, groups=True)).read()
    assert data.images["patient_id"].tolist() == [f"group{number}" for number in range(5)]


def test_official_split_leaks_and_is_refused(tmp_path: Path) -> None:
    data = KermanyData(root=kermany_folder(tmp_path)).read()
    settings = SplitSettings(kind="official", names={"train": "train", "val": "valid", "test": "test"})
    with pytest.raises(UserError, match="patient 'person1' is in train and test"):
        settings.make(data)


def test_identical_files(tmp_path: Path) -> None:
    root = kermany_folder(tmp_path, twin=True)
    assert len(KermanyData(root=root).read().images) == 5
    data = KermanyData(root=root, duplicates="exclude").read()
    assert len(data.images) == 4
    assert [item.reason for item in data.excluded] == ["identical to an earlier file"]
    assert data.excluded[0].what == ("val/NORMAL/NORMAL2-IM-0383-0001.jpeg (as train/NORMAL/IM-0115-0001.jpeg)")


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("train/NORMAL/scan7.jpeg", "image whose patient is neither in groups.csv nor in the file name"),
        ("train/COVID/IM-0002-0001.jpeg", "unknown finding"),
    ],
)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, extra: str, reason: str) -> None:
    root = kermany_folder(tmp_path, extra=[extra])
    with pytest.raises(UserError, match=reason):
        KermanyData(root=root).read()
    data = KermanyData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [reason]
    assert len(data.images) == 5


def test_unreadable_image_is_found_by_the_header_check(tmp_path: Path) -> None:
    root = kermany_folder(tmp_path)
    (root / "train/NORMAL/IM-0115-0001.jpeg").write_bytes(b"")
    with pytest.raises(UserError, match="unreadable image"):
        KermanyData(root=root, check_files="header").read()


def test_no_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image in"):
        KermanyData(root=tmp_path).read()
