import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cxr.config import UserError
from cxr.imaging.files import min_max, read_image, read_pixels, read_size_hw, write_png, write_png8
from cxr.phantom.dicom import DicomFacts, write_dicom
from tests.builders import write_picture


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_divided_by_their_types_maximum(tmp_path: Path, dtype: type, top: int) -> None:
    pixels = np.array([[0, top, 0], [top, 0, 0]], dtype=dtype)
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.float32
    assert image.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_colour_becomes_grey(tmp_path: Path) -> None:
    pixels = np.full((2, 3, 3), 100, dtype=np.uint8)
    pixels[1] = 51
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    assert read_image(tmp_path / "a.png") == pytest.approx(np.array([[100 / 255] * 3, [0.2] * 3]))


@pytest.mark.parametrize("width", [6, 7])
def test_halves_mirror_to_the_midline(tmp_path: Path, width: int) -> None:
    pixels = np.tile(np.arange(width, dtype=np.uint8), (2, 1))
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    left = read_image(tmp_path / "a.png", region="left") * 255
    right = read_image(tmp_path / "a.png", region="right_mirrored") * 255
    assert left[0].round().tolist() == [0, 1, 2]
    assert right[0].round().tolist() == [width - 1, width - 2, width - 3]
    assert read_size_hw(tmp_path / "a.png", region="left") == (2, 3)


def test_both_halves_of_an_image_one_pixel_wide_are_that_pixel(tmp_path: Path) -> None:
    column = np.array([[0], [200], [255]], dtype=np.uint8)
    write_png(tmp_path / "a.png", column)
    for region in ("left", "right_mirrored"):
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.png", region=region), column)
        assert read_size_hw(tmp_path / "a.png", region=region) == (3, 1)


@pytest.mark.parametrize("inverted", [False, True])
def test_dicom_shows_bone_bright_whatever_its_interpretation(tmp_path: Path, inverted: bool) -> None:
    drawn = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    facts = DicomFacts("1", sex="F", age=50, inverted=inverted, low=0, high=4095, pixel_spacing_mm=0.14)
    write_dicom(tmp_path / "a.dicom", drawn, facts)
    image = read_image(tmp_path / "a.dicom")
    assert image.shape == (3, 4)
    assert image[0, 0] == 0
    assert image[-1, -1] == 1
    assert np.corrcoef(image.ravel(), drawn.ravel())[0, 1] > 0.99
    assert read_size_hw(tmp_path / "a.dicom") == (3, 4)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.dcm"])
@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_image(tmp_path / name)
    with pytest.raises(UserError, match=name):
        read_size_hw(tmp_path / name)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        read_image(tmp_path / "a.png")


def test_truncated_jpeg_is_an_error_or_whole(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", (40, 60))
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UserError, match=r"b\.jpg"):
        read_image(tmp_path / "b.jpg")


def test_constant_picture_has_no_nan() -> None:
    assert min_max(np.full((2, 3), 7.0)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_write_then_read(tmp_path: Path) -> None:
    write_png8(tmp_path / "a.png", np.array([[0, 0.5, 2]], dtype=np.float32))
    assert (read_image(tmp_path / "a.png") * 255).round().tolist() == [[0, 128, 255]]


def test_damaged_files_are_named_also_beside_ultralytics(tmp_path: Path) -> None:
    """It replaces Pillow's open for the whole process."""
    import stage3_detect.training.trainer  # noqa: F401

    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"a\.png"):
        read_size_hw(tmp_path / "a.png")


def test_a_name_that_is_not_utf8_and_colours_are_written(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    pixels = np.array([[[255, 0, 10], [1, 2, 3]]], dtype=np.uint8)
    write_png(path, pixels)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert np.asarray(image).tolist() == pixels.tolist()
    assert read_image(path).shape == (1, 2)


def test_a_picture_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        write_png(tmp_path / "gone" / "a.png", np.zeros((2, 3), dtype=np.uint8))
    assert caught.value.problems == [
        f"image: cannot write {tmp_path / 'gone' / 'a.png'}: No such file or directory; check the folder and the free "
        "space"
    ]
