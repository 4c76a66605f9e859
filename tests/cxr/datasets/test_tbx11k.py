"""TBX11K's reader: boxes from the original's size to the file's, and the two halves of the chest as images."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.datasets.hemithorax import SLIVERS
from cxr.datasets.tbx11k import Tbx11kData
from cxr.imaging.files import read_image
from cxr.tables import Dataset
from tests.builders import tbx11k_folder, voc_xml, write_picture


def test_released_form(tmp_path: Path) -> None:
    data = Tbx11kData(root=tbx11k_folder(tmp_path)).read()
    assert data.images["image_id"].tolist() == ["tb0001", "tb0002", "h0001"]
    assert data.images["path"].tolist() == [f"imgs/{name}.jpg" for name in ("tb/tb0001", "tb/tb0002", "health/h0001")]
    assert data.images["split"].tolist() == ["train", "train", "valid"]
    assert data.findings == ("Active Tuberculosis", "Obsolete Tuberculosis")
    assert data.labels.loc["tb0001"].tolist() == [1, 0]
    assert data.labels.loc["tb0002"].isna().all()
    assert data.labels.loc["h0001"].tolist() == [0, 0]


def test_boxes_are_scaled_by_axis(tmp_path: Path) -> None:
    """The original is 240 wide and 400 high, the file 60 and 40: x / 4, y / 10."""
    data = Tbx11kData(root=tbx11k_folder(tmp_path)).read()
    assert data.boxes.to_numpy().tolist() == [["tb0001", "Active Tuberculosis", 5, 6, 20, 24, ""]]


def test_third_class_gets_a_column_where_it_occurs(tmp_path: Path) -> None:
    data = Tbx11kData(root=tbx11k_folder(tmp_path, objects=[("PulmonaryTuberculosis", 20, 60, 80, 240)])).read()
    assert "Tuberculosis" in data.findings


def halves(tmp_path: Path, *boxes: tuple[int, int, int, int], width: int = 60) -> Dataset:
    """The hemithorax form; boxes in pixels of a file of 40 x `width`."""
    xml = voc_xml([("ActiveTuberculosis", *box) for box in boxes], size_wh=(width, 40))
    root = tbx11k_folder(tmp_path, xml=xml, size_hw=(40, width))
    return Tbx11kData(root=root, layout="hemithorax").read()


def test_halves_are_images_of_one_patient(tmp_path: Path) -> None:
    data = halves(tmp_path, (35, 6, 50, 24))
    assert data.images["image_id"].tolist() == ["tb0001:L", "tb0001:R", "h0001:L", "h0001:R"]
    assert data.images["region"].tolist() == ["left", "right_mirrored"] * 2
    assert data.images["patient_id"].tolist() == ["tb0001", "tb0001", "h0001", "h0001"]
    assert data.images["split"].tolist() == ["train", "train", "valid", "valid"]
    assert data.findings == ("Tuberculosis",)
    assert data.labels["Tuberculosis"].tolist() == [0, 1, 0, 0]
    assert data.boxes.to_numpy().tolist() == [["tb0001:R", "Tuberculosis", 10, 6, 25, 24, ""]]


def test_sideless_image_is_left_out_and_named(tmp_path: Path) -> None:
    data = halves(tmp_path, (35, 6, 50, 24))
    assert [item.what for item in data.excluded] == ["tb0002"]


def test_box_across_the_midline_is_cut(tmp_path: Path) -> None:
    data = halves(tmp_path, (20, 6, 40, 24))
    assert data.boxes[["image_id", "x1", "x2"]].to_numpy().tolist() == [["tb0001:L", 20, 30], ["tb0001:R", 20, 30]]
    assert data.labels["Tuberculosis"].tolist() == [1, 1, 0, 0]


def test_sliver_is_dropped_and_counted(tmp_path: Path) -> None:
    """3 of 20 columns lie in the right half: less than a fifth."""
    data = halves(tmp_path, (13, 6, 33, 24))
    assert data.boxes["image_id"].tolist() == ["tb0001:L"]
    assert data.labels["Tuberculosis"].tolist() == [1, 0, 0, 0]
    assert data.counts[SLIVERS] == 1


@pytest.mark.parametrize("width", [60, 61])
@pytest.mark.parametrize("box", [(8, 6, 22, 24), (35, 6, 50, 24), (53, 2, 58, 9)])
def test_boxes_lie_where_the_region_shows_them(tmp_path: Path, box: tuple[int, int, int, int], width: int) -> None:
    """The pixels inside the half's box are the bright ones, and no others are."""
    data = halves(tmp_path, box, width=width)
    path = tmp_path / "imgs/tb/tb0001.png"
    write_picture(path, (40, width), bright_xyxy=box)
    row = data.boxes.iloc[0]
    region = data.images.set_index("image_id").loc[row["image_id"], "region"]
    image = read_image(path, region=region)
    x1, y1, x2, y2 = (int(row[name]) for name in ("x1", "y1", "x2", "y2"))
    inside = np.zeros(image.shape, dtype=bool)
    inside[y1:y2, x1:x2] = True
    assert ((image > 0.9) == inside).all()


def test_nothing_to_cut(tmp_path: Path) -> None:
    """Only sideless and healthy images: no box at all."""
    data = halves(tmp_path)
    assert data.images["image_id"].tolist() == ["h0001:L", "h0001:R"]
    assert data.boxes.empty


BROKEN = {
    "missing image": ({"missing": True}, "missing image", 2),
    "broken xml": ({"xml": "<annotation>"}, "unreadable or missing xml", 2),
    "no size": ({"xml": "<annotation><object/></annotation>"}, "unreadable or missing xml", 2),
    "no corner": ({"xml": voc_xml([], size_wh=(9, 9)).replace("</a", "<object/></a")}, "unreadable or missing", 2),
    "unknown class": ({"objects": [("Tuberkulosis", 20, 60, 80, 240)]}, "unknown finding", 3),
    "outside": ({"objects": [("ActiveTuberculosis", 20, 60, 280, 240)]}, "box outside the image", 3),
    "inverted": ({"objects": [("ActiveTuberculosis", 80, 60, 20, 240)]}, "inverted or empty box", 3),
    "no number": ({"objects": [("ActiveTuberculosis", "nan", 60, 20, 240)]}, "box with a coordinate", 3),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    arguments, reason, num_images = BROKEN[case]
    root = tbx11k_folder(tmp_path, **arguments)
    with pytest.raises(UserError, match=reason):
        Tbx11kData(root=root).read()
    data = Tbx11kData(root=root, on_problem="exclude").read()
    assert len(data.excluded) == 1
    assert data.excluded[0].reason.startswith(reason)
    assert len(data.images) == num_images
    assert data.boxes.empty


def test_missing_xml_of_a_tuberculosis_image(tmp_path: Path) -> None:
    root = tbx11k_folder(tmp_path)
    (root / "annotations/xml/tb0001.xml").unlink()
    with pytest.raises(UserError, match="unreadable or missing xml"):
        Tbx11kData(root=root).read()


def test_no_lists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TBX11K_train.txt"):
        Tbx11kData(root=tmp_path).read()
