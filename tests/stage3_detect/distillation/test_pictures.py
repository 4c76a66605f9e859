"""Frames that hold every image, halves of images, and files that cannot be read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.config import UserError
from cxr.imaging.files import read_pixels, write_png8
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import to_net_image
from stage3_detect.distillation.pictures import frame_of, open_pictures

NO_IMAGES = pd.DataFrame(columns=IMAGE_FIELDS)


def images_of(root: Path, rows: list[tuple[str, str, int, int]]) -> CocoBoxes:
    """(file, region, height, width) each; the same file has the same number as image id."""
    table = [(f"{path}_{region}", path, region, width, height) for path, region, height, width in rows]
    images = pd.DataFrame(table, columns=IMAGE_FIELDS)
    return CocoBoxes(images, boxes_table(), ("Nodule/Mass",), {"data_root": str(root)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_png8(tmp_path / f"{name}.png", rng.random((90, 130)).astype(np.float32))
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    return tmp_path


def test_no_image_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no training image"):
        frame_of(CocoBoxes(NO_IMAGES, boxes_table(), ("Nodule/Mass",)), 128)


@pytest.mark.parametrize(
    ("sizes", "frame_hw"),
    [
        ([(90, 130)], (96, 128)),
        ([(1024, 512)], (128, 64)),
        ([(512, 500), (1024, 512)], (128, 128)),
        ([(1024, 256), (512, 1024)], (128, 128)),
        ([(1000, 100)], (128, 32)),
    ],
)
def test_frame_holds_every_image_at_the_scale_of_a_square(
    sizes: list[tuple[int, int]], frame_hw: tuple[int, int]
) -> None:
    images = images_of(Path(), [(str(number), "full", *size) for number, size in enumerate(sizes)])
    assert frame_of(images, 128) == frame_hw


def test_halves_are_pictures_of_their_own(root: Path) -> None:
    regions = ("left", "right_mirrored", "full")
    images = images_of(root, [("a.png", region, 90, 65) for region in regions])
    pictures, rows = open_pictures(root / "cache", images, (128, 96), on_problem="error")
    assert rows == [0, 1, 2]
    for row, region in enumerate(regions):
        half = read_pixels(root / "a.png", region=region)  # type: ignore[arg-type]
        resize = Resize((half.shape[0], half.shape[1]), (128, 96), keep_aspect=True)
        assert np.array_equal(pictures[row], to_net_image(half, resize))
    assert not np.array_equal(pictures[0], pictures[1])


def test_absolute_paths_and_pictures_that_are_there_already(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = images_of(root / "elsewhere", [(str(root / "a.png"), "full", 90, 130)])
    first, _ = open_pictures(root / "cache", images, (96, 128), on_problem="error")
    caplog.clear()
    caplog.set_level("INFO")
    again, _ = open_pictures(root / "cache", images, (96, 128), on_problem="error")
    assert np.array_equal(first[0], again[0]) and "decoding" not in caplog.text


def test_unreadable_images_are_named_or_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = images_of(root, [(name, "full", 90, 130) for name in ("a.png", "torn.png", "b.png", "missing.png")])
    with pytest.raises(UserError) as error:
        open_pictures(root / "cache", images, (96, 128), on_problem="error")
    assert ["torn.png" in error.value.problems[0], "missing.png" in error.value.problems[1]] == [True, True]
    assert "2 of 4 images" in error.value.problems[2]
    _, rows = open_pictures(root / "cache", images, (96, 128), on_problem="exclude")
    assert rows == [0, 2] and "torn.png" in caplog.text and "missing.png" in caplog.text
    with pytest.raises(UserError, match="1 of 1 images"):
        open_pictures(root / "cache", images_of(root, [("torn.png", "full", 90, 130)]), (96, 128), on_problem="exclude")
