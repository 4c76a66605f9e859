"""The YOLO folder: where boxes and regions land, what happens to bad images and to interrupted folders."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from cxr.coco import CocoBoxes
from cxr.config import UserError, load_config
from stage3_detect.labels.picture_files import label_lines, read_targets, target_lines, targets_path
from stage3_detect.labels.training_set import TrainingSet, make_training_set
from stage3_detect.labels.yolo_folder import EXTRAS, YoloFolder, count_facts, write_yolo_folder
from stage3_detect.model.network import to_net, to_tensor_input
from stage3_detect.settings.detector import DataSettings, Stage3Settings, TrainSettings
from stage3_detect.settings.labels import LabelSettings, TrueBoxSettings
from tests.paths import ROOT
from tests.stage3_detect.stage3_builders import FINDINGS, IMAGE_HW, make_coco


@pytest.fixture
def pseudo(tmp_path: Path) -> CocoBoxes:
    return make_coco(tmp_path, "train", num_images=12, seed=0, score=0.8)


def training_of(pseudo: CocoBoxes, tune: CocoBoxes | None = None, **labels: Any) -> TrainingSet:
    return make_training_set(pseudo, None, tune, settings(**labels))


def settings(**labels: Any) -> Stage3Settings:
    return Stage3Settings(
        data=DataSettings(image_px=64), train=TrainSettings(num_epochs=1), labels=LabelSettings(**labels)
    )


def write(folder: Path, training: TrainingSet, *, on_problem: str = "error", **extras: Any) -> YoloFolder:
    data = DataSettings.model_validate({"image_px": 64, "on_problem": on_problem})
    return write_yolo_folder(folder, training, data, extras=extras)


def test_texts_of_no_box_are_empty() -> None:
    assert label_lines(np.zeros((0, 4)), [], 64) == ""
    assert target_lines(np.zeros((0, 4)), [], 64, weights=[], regions=[]) == ""


def test_texts_exact_value(tmp_path: Path) -> None:
    boxes = np.array([[16.0, 8.0, 48.0, 24.0], [0, 0, 64, 32]])
    assert label_lines(boxes[:1], [1], 64) == "1 0.500000 0.250000 0.500000 0.250000\n"
    text = target_lines(boxes, [1, 0], 64, weights=[1.25, 0], regions=[False, True])
    assert text.splitlines()[0] == "1 0.500000 0.250000 0.500000 0.250000 1.250000 0"
    (tmp_path / "x.txt").write_text(text)
    assert read_targets(tmp_path / "x.txt").tolist() == [
        [1, 0.5, 0.25, 0.5, 0.25, 1.25, 0],
        [0, 0.5, 0.25, 1, 0.5, 0, 1],
    ]
    (tmp_path / "empty.txt").write_text("")
    assert read_targets(tmp_path / "empty.txt").shape == (0, 7)


def test_targets_lie_next_to_the_pictures() -> None:
    assert targets_path(Path("a/images/train/x.png")) == Path("a/targets/train/x.txt")


def test_letterbox_of_a_wide_picture() -> None:
    image = np.full((30, 60), 0.2, dtype=np.float32)
    image[:, 30:] = 0.6
    net, resize = to_net(image, 64)
    assert net.shape == (64, 64) and net.dtype == np.uint8
    assert net[:16].max() == 0 and net[48:].max() == 0  # bars above and below
    assert net[32, 5] == 0 and net[32, 60] == 255  # stretched by its own minimum and maximum
    box = [[3.0, 5.0, 40.0, 20.0]]
    np.testing.assert_allclose(resize.boxes_to_image(resize.boxes_to_net(box)), box, atol=1e-9)


def test_grey_is_replicated_where_three_channels_are_wanted() -> None:
    tensor = to_tensor_input(np.arange(6, dtype=np.uint8).reshape(2, 3), 3)
    assert tensor.shape == (1, 3, 2, 3) and tensor.dtype == np.float32
    assert (tensor[0, 0] == tensor[0, 2]).all() and tensor[0, 0, 1, 2] == np.float32(5 / 255)


def test_boxes_land_on_what_they_mark(tmp_path: Path, pseudo: CocoBoxes) -> None:
    folder = write(tmp_path / "yolo", training_of(pseudo))
    assert folder.num_positives + folder.num_normals == 11 and folder.num_held_out == 1
    checked = 0
    for text in (tmp_path / "yolo" / "targets" / "train").iterdir():
        picture = cv2.imread(str(tmp_path / "yolo" / "images" / "train" / f"{text.stem}.png"), -1)
        assert picture.shape == (64, 64) and picture.dtype == np.uint8
        for index, x, y, *_ in read_targets(text):
            centre = picture[int(y * 64), int(x * 64)]
            checked += 1
            assert centre > 150 if index == 0 else centre < 60 or centre > 150  # a disc may cover a block
    assert checked == folder.num_boxes > 5


def test_a_region_as_large_as_the_image_covers_the_picture_without_its_bars(tmp_path: Path, pseudo: CocoBoxes) -> None:
    told = pseudo.images.assign(labels=[{FINDINGS[0]: 0}] * 12)
    labelled = CocoBoxes(told, pseudo.boxes, FINDINGS, pseudo.info)
    folder = write(tmp_path / "yolo", training_of(labelled))
    assert folder.num_regions == folder.num_positives + folder.num_normals
    height = round(90 * 64 / 130) / 64  # 130 x 90 into 64 x 64
    for text in (tmp_path / "yolo" / "targets" / "train").iterdir():
        rows = read_targets(text)
        assert rows[-1].tolist() == [1, 0.5, 0.5, 1, pytest.approx(height, abs=1e-6), 0, 1]
        assert (rows[:-1, 6] == 0).all()


def test_validation_images_have_plain_labels(tmp_path: Path, pseudo: CocoBoxes) -> None:
    tune = make_coco(tmp_path, "tune", num_images=3, seed=5)
    folder = write(tmp_path / "yolo", training_of(pseudo, tune))
    assert (folder.num_positives, folder.num_normals, folder.num_held_out) == (8, 4, 3)
    texts = [path.read_text() for path in sorted((tmp_path / "yolo" / "labels" / "val").iterdir())]
    assert [len(text.splitlines()) for text in texts] == [1, 2, 0]
    first, finding = tune.boxes.iloc[0], FINDINGS.index(tune.boxes["finding"].iloc[0])
    number, x, y, width, height = (float(part) for part in texts[0].split())
    assert number == finding
    scale, bar = 64 / 130, (64 - round(90 * 64 / 130)) // 2
    assert x * 64 == pytest.approx((first["x1"] + first["x2"]) / 2 * scale, abs=1e-3)
    assert y * 64 == pytest.approx((first["y1"] + first["y2"]) / 2 * 44 / 90 + bar, abs=1e-3)
    assert (width * 64, height * 64) == (
        pytest.approx((first["x2"] - first["x1"]) * scale, abs=1e-3),
        pytest.approx((first["y2"] - first["y1"]) * 44 / 90, abs=1e-3),
    )


def test_description_names_findings_channels_and_extras(tmp_path: Path, pseudo: CocoBoxes) -> None:
    folder = write(tmp_path / "yolo", training_of(pseudo), ema_share=0.25)
    written = yaml.safe_load(folder.data_yaml.read_text())
    assert written == {
        "train": "train.txt",
        "val": "images/val",
        "channels": 1,
        "names": dict(enumerate(FINDINGS)),
        EXTRAS: {"ema_share": 0.25},
    }


def test_the_list_names_an_image_as_often_as_it_is_shown(tmp_path: Path, pseudo: CocoBoxes) -> None:
    true = make_coco(tmp_path, "true", num_images=2, seed=6)
    tune = make_coco(tmp_path, "tune", num_images=3, seed=5)
    given = settings(true_boxes=TrueBoxSettings(num_boxes=1, repeat=3))
    folder = write(tmp_path / "yolo", make_training_set(pseudo, true, tune, given))
    lines = (tmp_path / "yolo" / "train.txt").read_text().splitlines()
    shown = {line: lines.count(line) for line in lines}
    assert {shown[line] for line in shown if "/labels_" in line} == {1}
    assert {line: count for line, count in shown.items() if "/tune_" in line} == {
        "./images/train/tune_0000012.png": 3,
        "./images/train/tune_0000013.png": 3,
    }
    assert folder.num_true == 2 and all((tmp_path / "yolo" / line).is_file() for line in lines)


def test_complete_folder_is_taken_as_it_is(tmp_path: Path, pseudo: CocoBoxes) -> None:
    first = write(tmp_path / "yolo", training_of(pseudo), tracking="off")
    picture = next((tmp_path / "yolo" / "images" / "train").iterdir())
    picture.write_bytes(b"touched")
    assert write(tmp_path / "yolo", training_of(pseudo), tracking="offline") == first
    assert picture.read_bytes() == b"touched"
    assert yaml.safe_load(first.data_yaml.read_text())[EXTRAS] == {"tracking": "offline"}
    stale = tmp_path / "yolo" / "stale"
    stale.write_text("")
    fewer = write(tmp_path / "yolo", training_of(pseudo, normals_per_positive=0))  # another recipe
    assert fewer.num_normals == 0 and not stale.exists()
    assert all(path.read_bytes() != b"touched" for path in picture.parent.iterdir())


def test_interrupted_folder_goes_on(tmp_path: Path, pseudo: CocoBoxes) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    write(whole, training_of(pseudo))
    write(part, training_of(pseudo))
    pictures = sorted((part / "images" / "train").iterdir())
    (part / "dataset.json").write_text('{"excluded": [')  # as a kill may leave it
    pictures[3].unlink()
    pictures[4].write_bytes(b"touched")
    write(part, training_of(pseudo))
    assert pictures[3].read_bytes() == (whole / pictures[3].relative_to(part)).read_bytes()
    assert pictures[4].read_bytes() == b"touched"


def test_interrupted_folder_of_another_recipe_is_written_anew(tmp_path: Path, pseudo: CocoBoxes) -> None:
    folder = tmp_path / "yolo"
    write(folder, training_of(pseudo))
    (folder / "dataset.json").unlink()
    moved = pseudo.with_boxes(pseudo.boxes.assign(x1=pseudo.boxes["x1"] + 1))
    write(folder, training_of(moved))
    write(tmp_path / "clean", training_of(moved))
    for path in (tmp_path / "clean").rglob("*.txt"):
        assert (folder / path.relative_to(tmp_path / "clean")).read_text() == path.read_text()


def test_bad_images_are_named_at_once_or_counted(tmp_path: Path, pseudo: CocoBoxes) -> None:
    training = training_of(pseudo)
    bad = training.images.loc[training.images["kind"] == "positive", "image_id"].tolist()[:2]
    good = {image_id: (tmp_path / "train" / f"{image_id}.png").read_bytes() for image_id in bad}
    for image_id in bad:
        (tmp_path / "train" / f"{image_id}.png").write_bytes(b"no picture")
    with pytest.raises(UserError) as caught:
        write(tmp_path / "yolo", training)
    assert sum(image_id in problem for image_id in bad for problem in caught.value.problems) == 2
    assert "data.on_problem=exclude" in caught.value.problems[-1]
    folder = write(tmp_path / "yolo", training, on_problem="exclude")
    assert {image_id for image_id, _ in folder.excluded} == set(bad)
    assert folder.num_positives == (training.images["kind"] == "positive").sum() - 2
    numbers = training.images.index[~training.images["image_id"].isin(bad)]
    assert folder.num_boxes == training.rows["image"].isin(numbers).sum()
    listed = (tmp_path / "yolo" / "train.txt").read_text()
    assert listed.count("\n") == len(training.images) - 2
    facts = count_facts(folder)
    assert json.loads(json.dumps(facts)) == facts and len(facts["excluded"]) == 2
    with pytest.raises(UserError, match="cannot be read"):
        write(tmp_path / "yolo", training)
    for image_id, content in good.items():
        (tmp_path / "train" / f"{image_id}.png").write_bytes(content)
    assert write(tmp_path / "yolo", training).excluded == ()


@pytest.mark.parametrize(("part", "message"), [("train", "with boxes to train on"), ("tune", "for validation")])
def test_nothing_left_without_bad_images_is_an_error(
    tmp_path: Path, pseudo: CocoBoxes, part: str, message: str
) -> None:
    tune = make_coco(tmp_path, "tune", num_images=3, seed=5)
    training = training_of(pseudo, tune)
    for path in (tmp_path / part).iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"no image {message} is left"):
        write(tmp_path / "yolo", training, on_problem="exclude")


def test_region_is_cut_before_resizing(tmp_path: Path, pseudo: CocoBoxes) -> None:
    images = pseudo.images.assign(region="left", width=IMAGE_HW[1] // 2)
    halves = CocoBoxes(images, pseudo.boxes[pseudo.boxes["x2"] < 60], FINDINGS, pseudo.info)
    folder = write(tmp_path / "yolo", training_of(halves))
    picture = cv2.imread(str(next((folder.data_yaml.parent / "images" / "train").iterdir())), -1)
    assert picture[:, :8].max() == 0 and picture[:, 32].max() > 0  # a half is tall: bars left and right


def test_demo_settings_load() -> None:
    loaded = load_config(Stage3Settings, ROOT / "configs" / "demo" / "stage3.yaml")
    assert loaded.model == "yolo26n.yaml" and not loaded.from_weights
