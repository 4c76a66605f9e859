"""The YOLO folder: which images, where the boxes land, what happens to bad images and interrupted folders."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from stage3_builders import FINDINGS, IMAGE_HW, make_coco

from cxr.coco import CocoBoxes, boxes_table
from cxr.config import UserError, load_config
from stage3_detect.config import DataSettings, DetectSettings
from stage3_detect.preprocess import to_net, to_tensor_input
from stage3_detect.yolo_dataset import hold_out, label_lines, select_images, write_yolo_folder

SETTINGS = DataSettings(image_px=64)


@pytest.fixture
def pseudo(tmp_path: Path) -> CocoBoxes:
    return make_coco(tmp_path, "train", num_images=12, seed=0, score=0.8)


def write(folder: Path, pseudo: CocoBoxes, **changes: object):
    settings = SETTINGS.model_copy(update=changes)
    return write_yolo_folder(folder, pseudo, settings, tune=None, channels=1, seed=0)


def test_label_lines_of_no_box_are_empty():
    assert label_lines(np.zeros((0, 4)), [], 64) == ""


def test_label_lines_exact_value():
    assert (
        label_lines(np.array([[16.0, 8.0, 48.0, 24.0]]), [1], 64) == "1 0.500000 0.250000 0.500000 0.250000\n"
    )


def test_letterbox_of_a_wide_picture():
    image = np.full((30, 60), 0.2, dtype=np.float32)
    image[:, 30:] = 0.6
    net, resize = to_net(image, 64)
    assert net.shape == (64, 64) and net.dtype == np.uint8
    assert net[:16].max() == 0 and net[48:].max() == 0  # bars above and below
    assert net[32, 5] == 0 and net[32, 60] == 255  # stretched by its own minimum and maximum
    box = [[3.0, 5.0, 40.0, 20.0]]
    np.testing.assert_allclose(resize.boxes_to_image(resize.boxes_to_net(box)), box, atol=1e-9)


def test_grey_is_replicated_where_three_channels_are_wanted():
    tensor = to_tensor_input(np.arange(6, dtype=np.uint8).reshape(2, 3), 3)
    assert tensor.shape == (1, 3, 2, 3) and tensor.dtype == np.float32
    assert (tensor[0, 0] == tensor[0, 2]).all() and tensor[0, 0, 1, 2] == np.float32(5 / 255)


def test_hold_out_keeps_both_sides_filled():
    assert hold_out([], 0.1) == ([], [])
    assert hold_out(["a"], 0.1) == (["a"], [])
    assert hold_out(["a", "b"], 0.1) == (["b"], ["a"])


def test_share_of_normals_is_a_setting(pseudo: CocoBoxes):
    positives, normals = select_images(pseudo, SETTINGS, seed=0)
    assert (len(positives), len(normals)) == (8, 4)
    _, quarter = select_images(pseudo, DataSettings(image_px=64, normals_per_positive=0.25), seed=0)
    assert quarter == normals[:2]


def test_image_that_loses_its_weak_boxes_is_no_normal(pseudo: CocoBoxes):
    strong = DataSettings(image_px=64, min_pseudo_score=0.9)
    assert select_images(pseudo, strong, seed=0) == ([], [])


def test_selection_does_not_depend_on_other_images(pseudo: CocoBoxes):
    fewer = CocoBoxes(pseudo.images.iloc[2:], pseudo.boxes, FINDINGS, pseudo.info)
    everything, part = (select_images(coco, SETTINGS, seed=0)[0] for coco in (pseudo, fewer))
    assert [image_id for image_id in everything if image_id in set(part)] == part


def test_boxes_land_on_what_they_mark(tmp_path: Path, pseudo: CocoBoxes):
    folder = write(tmp_path / "yolo", pseudo)
    assert (folder.num_positives, folder.num_normals, folder.num_held_out) == (7, 3, 2)
    checked = 0
    for label in (tmp_path / "yolo" / "labels" / "train").iterdir():
        picture = cv2.imread(str(tmp_path / "yolo" / "images" / "train" / f"{label.stem}.png"), -1)
        assert picture.shape == (64, 64) and picture.dtype == np.uint8
        for line in label.read_text().splitlines():
            index, x, y, *_ = (float(part) for part in line.split())
            centre = picture[int(y * 64), int(x * 64)]
            checked += 1
            assert centre > 150 if index == 0 else centre < 60 or centre > 150  # a disc may cover a block
    assert checked > 5


def test_description_names_findings_and_channels(tmp_path: Path, pseudo: CocoBoxes):
    written = yaml.safe_load(write(tmp_path / "yolo", pseudo).data_yaml.read_text())
    assert written["names"] == dict(enumerate(FINDINGS)) and written["channels"] == 1
    assert not Path(written["train"]).is_absolute()


def test_complete_folder_is_taken_as_it_is(tmp_path: Path, pseudo: CocoBoxes):
    first = write(tmp_path / "yolo", pseudo)
    picture = next((tmp_path / "yolo" / "images" / "train").iterdir())
    picture.write_bytes(b"touched")
    assert write(tmp_path / "yolo", pseudo) == first
    assert picture.read_bytes() == b"touched"
    write(tmp_path / "yolo", pseudo, normals_per_positive=0.0)  # another recipe: written anew
    assert picture.read_bytes() != b"touched"


def test_interrupted_folder_goes_on(tmp_path: Path, pseudo: CocoBoxes):
    whole, part = tmp_path / "whole", tmp_path / "part"
    write(whole, pseudo)
    write(part, pseudo)
    (part / "dataset.json").unlink()
    lost = sorted((part / "images" / "train").iterdir())[3]
    lost.unlink()
    write(part, pseudo)
    assert lost.read_bytes() == (whole / lost.relative_to(part)).read_bytes()


def test_bad_images_are_named_at_once_or_counted(tmp_path: Path, pseudo: CocoBoxes):
    positives, _ = select_images(pseudo, SETTINGS, seed=0)
    for image_id in positives[:2]:
        (tmp_path / "train" / f"{image_id}.png").write_bytes(b"no picture")
    with pytest.raises(UserError) as caught:
        write(tmp_path / "yolo", pseudo)
    assert sum(image_id in problem for image_id in positives[:2] for problem in caught.value.problems) == 2
    assert "data.on_problem=exclude" in caught.value.problems[-1]
    folder = write(tmp_path / "yolo", pseudo, on_problem="exclude")
    assert {image_id for image_id, _ in folder.excluded} == set(positives[:2])


def test_no_pseudo_box_at_all_is_an_error(tmp_path: Path, pseudo: CocoBoxes):
    with pytest.raises(UserError, match="no image has a pseudo-box"):
        write(tmp_path / "yolo", pseudo.with_boxes(boxes_table()))


def test_reader_boxes_can_validate(tmp_path: Path, pseudo: CocoBoxes):
    tune = make_coco(tmp_path, "tune", num_images=3, seed=5)
    folder = write_yolo_folder(tmp_path / "yolo", pseudo, SETTINGS, tune=tune, channels=1, seed=0)
    assert (folder.num_positives, folder.num_normals, folder.num_held_out) == (8, 4, 3)


def test_region_is_cut_before_resizing(tmp_path: Path, pseudo: CocoBoxes):
    images = pseudo.images.assign(region="left", width=IMAGE_HW[1] // 2)
    halves = CocoBoxes(images, pseudo.boxes[pseudo.boxes["x2"] < 60], FINDINGS, pseudo.info)
    folder = write(tmp_path / "yolo", halves)
    picture = cv2.imread(str(next((folder.data_yaml.parent / "images" / "train").iterdir())), -1)
    assert picture[:, :8].max() == 0 and picture[:, 32].max() > 0  # a half is tall: bars left and right


def test_demo_settings_load():
    settings = load_config(DetectSettings, Path(__file__).parents[1] / "configs" / "demo" / "stage3.yaml")
    assert settings.model == "yolo26n.yaml" and not settings.from_weights


def ignored(coco: CocoBoxes, *image_ids: str) -> CocoBoxes:
    """The boxes of these images are ignore regions."""
    regions = coco.boxes["image_id"].isin(image_ids).astype(int)
    return coco.with_boxes(coco.boxes.assign(iscrowd=regions, ignored_by="uncertain label"))


def test_an_image_with_ignore_regions_alone_is_neither_positive_nor_normal(pseudo: CocoBoxes):
    positives, normals = select_images(pseudo, SETTINGS, seed=0)
    doubtful = ignored(pseudo, positives[0])
    assert select_images(doubtful, SETTINGS, seed=0) == (positives[1:], normals)
    assert select_images(ignored(pseudo, *positives), SETTINGS, seed=0) == ([], [])


def test_ignore_regions_are_not_written_as_boxes(tmp_path: Path, pseudo: CocoBoxes):
    plain = write(tmp_path / "plain", pseudo)
    boxes = pseudo.boxes.assign(iscrowd=0)
    first = boxes["image_id"].duplicated()  # the second box of an image that has two
    assert first.sum() == 4
    doubtful = write(tmp_path / "doubtful", pseudo.with_boxes(boxes.assign(iscrowd=first.astype(int))))
    assert (plain.num_doubtful, plain.num_regions) == (0, 0)
    assert (doubtful.num_doubtful, doubtful.num_regions) == (0, 4)
    assert (doubtful.num_positives, doubtful.num_normals) == (plain.num_positives, plain.num_normals)
    assert num_lines(tmp_path / "doubtful") == num_lines(tmp_path / "plain") - 4 == 8


def test_images_left_out_for_their_ignore_regions_are_counted(tmp_path: Path, pseudo: CocoBoxes):
    positives, _ = select_images(pseudo, SETTINGS, seed=0)
    folder = write(tmp_path / "yolo", ignored(pseudo, *positives[:3]))
    assert (folder.num_doubtful, folder.num_regions) == (3, 0)
    assert folder.num_positives + folder.num_normals + folder.num_held_out == 5 + 2
    assert write(tmp_path / "yolo", ignored(pseudo, *positives[:3])) == folder  # taken as it is


def test_ignore_regions_of_readers_are_no_normals_to_validate_on(tmp_path: Path, pseudo: CocoBoxes):
    tune = make_coco(tmp_path, "tune", num_images=3, seed=5)
    tune = ignored(tune, tune.boxes["image_id"].iloc[0])
    folder = write_yolo_folder(tmp_path / "yolo", pseudo, SETTINGS, tune=tune, channels=1, seed=0)
    assert (folder.num_held_out, folder.num_doubtful) == (2, 1)


def num_lines(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in (folder / "labels").rglob("*.txt"))
