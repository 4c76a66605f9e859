"""What a picture of a training batch shows, and where."""

import numpy as np
import torch

from eval.report.box_colours import IGNORED, LEARNED
from eval.report.pictures import Rgb
from stage3_detect.training.pictures import TILE_PX, batch_picture

NAMES = {0: "Edema", 1: "Mass"}
HEIGHT, WIDTH = 80, 40
MARGIN = TILE_PX // 40


def batch_of(*rows: tuple[int, int, float, float, float, float, int], num_images: int = 1) -> dict[str, torch.Tensor]:
    """Grey images with rows of image, class, centre, size, and whether it is a region."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    noise = torch.stack([torch.ones(len(table)), table[:, 6]], dim=1)
    images = torch.full((num_images, 1, HEIGHT, WIDTH), 0.5)
    return {
        "img": images, "batch_idx": table[:, 0], "cls": table[:, 1:2], "bboxes": table[:, 2:6], "label_noise": noise,
    }  # fmt: skip


def tile_of(picture: Rgb, column: int = 0) -> Rgb:
    """The image in a column of the first row, half as wide as high."""
    top, left = MARGIN, MARGIN + column * (TILE_PX + 2 * MARGIN) + TILE_PX // 4
    return picture[top : top + TILE_PX, left : left + TILE_PX // 2]


def count(picture: Rgb, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_images_without_boxes() -> None:
    picture = batch_picture(batch_of(num_images=2), NAMES)
    assert picture.shape == (TILE_PX + 2 * MARGIN, 2 * (TILE_PX + 2 * MARGIN), 3)
    assert (tile_of(picture) == 128).all() and (tile_of(picture, 1) == 128).all()


def test_a_box_is_drawn_in_its_image_at_its_place() -> None:
    picture = batch_picture(batch_of((1, 1, 0.5, 0.75, 0.5, 0.25, 0), num_images=2), NAMES)
    assert (tile_of(picture) == 128).all()
    tile = tile_of(picture, 1)
    rows, columns = np.nonzero((tile == LEARNED.colour).all(axis=2))
    assert abs(rows.max() - 0.875 * TILE_PX) <= 3
    assert abs(columns.min() - 0.25 * TILE_PX / 2) <= 3 and abs(columns.max() - 0.75 * TILE_PX / 2) <= 3


def test_an_ignore_region_is_dashed_and_that_of_a_whole_image_is_left_out() -> None:
    part, whole = (0, 0, 0.5, 0.5, 0.6, 0.4, 1), (0, 1, 0.5, 0.5, 0.8, 0.8, 1)
    tile = tile_of(batch_picture(batch_of(part), NAMES))
    solid = tile_of(batch_picture(batch_of((*part[:6], 0)), NAMES))
    assert 0.2 * count(solid, LEARNED.colour) < count(tile, IGNORED.colour) < 0.7 * count(solid, LEARNED.colour)
    assert (tile_of(batch_picture(batch_of(whole), NAMES)) == 128).all()


def test_nine_images_are_shown() -> None:
    assert batch_picture(batch_of(num_images=16), NAMES).shape[:2] == (3 * (TILE_PX + 2 * MARGIN),) * 2
