"""What our trainer and data set change in ultralytics', without training."""

import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import get_worker_info
from ultralytics.data.augment import RandomPerspective
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.yolo.detect import DetectionTrainer

from cxr.coco import CocoBoxes, boxes_table
from cxr.config import UserError
from cxr.imaging.files import write_png8
from stage3_detect.labels.training_set import make_training_set
from stage3_detect.labels.yolo_folder import write_yolo_folder
from stage3_detect.model.torch_network import pick_device
from stage3_detect.offline import go_offline
from stage3_detect.training.dataset import NoisyLabelDataset
from stage3_detect.training.loss import NoisyLabelLoss
from stage3_detect.training.pictures import TILE_PX
from stage3_detect.training.train import trainer_extras, ultralytics_arguments
from stage3_detect.training.trainer import PseudoBoxTrainer, averaging_factor, kept_threads
from tests.stage3_detect.stage3_builders import FINDINGS, make_coco, tiny_settings, trainer_of

STILL = {"flip_probability": 0, "rotate_deg": 0, "translate_share": 0, "scale_share": 0, "contrast_probability": 0}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> PseudoBoxTrainer:
    return trainer_of(tmp_path_factory.mktemp("trainer"))


def test_averaging_fades_in() -> None:
    assert averaging_factor(3, window_steps=0) == averaging_factor(3, window_steps=1) == 0
    assert averaging_factor(0, window_steps=10) == 0
    assert averaging_factor(20, window_steps=10) == pytest.approx(0.9 * (1 - math.exp(-1)))
    assert averaging_factor(10_000, window_steps=10) == pytest.approx(0.9)


def test_every_batch_is_a_step_and_radiographs_keep_up_and_grey() -> None:
    arguments = ultralytics_arguments(tiny_settings())
    assert arguments["nbs"] == arguments["batch"] == 4
    assert [arguments[name] for name in ("flipud", "hsv_h", "hsv_s", "mosaic")] == [0, 0, 0, 0]
    assert arguments["amp"] is False  # True would fetch a model to test mixed precision


def test_a_device_that_is_not_there_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(wanted) for wanted in ("auto", "cpu", "1", "0,1")] == ["0", "cpu", "1", "0,1"]
    for wanted in ("2", "0,2", "", "gpu", "0,"):
        with pytest.raises(UserError, match=f"device: {wanted}, .*2 CUDA GPUs"):
            pick_device(wanted)
    with pytest.raises(UserError, match=r"5 images cannot be divided among 2 GPUs; give a multiple of 2"):
        ultralytics_arguments(tiny_settings(device="0,1", train={"batch_size": 5}))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(UserError, match="device: mps"):
        pick_device("mps")


def test_services_are_off(trainer: PseudoBoxTrainer) -> None:
    from ultralytics.utils import AUTOINSTALL, ONLINE
    from ultralytics.utils import SETTINGS as YOLO_SETTINGS
    from ultralytics.utils.events import events

    assert not ONLINE and not AUTOINSTALL and not events.enabled
    services = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync")
    assert not any(YOLO_SETTINGS[name] for name in services)
    used = {callback.__module__.rpartition(".")[2] for group in trainer.callbacks.values() for callback in group}
    assert used <= {"base", "events", "platform"}  # the last two do nothing offline and without a key
    assert "ULTRALYTICS_API_KEY" not in os.environ


def test_settings_folder_is_kept_by_a_second_call() -> None:
    assert str(go_offline()) == os.environ["YOLO_CONFIG_DIR"]


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with kept_threads():
        torch.set_num_threads(1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("epoch", "due"), [(0, False), (1, True), (2, False), (4, True)])
def test_validation_every_second_epoch_and_after_the_last(
    trainer: PseudoBoxTrainer, epoch: int, due: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DetectionTrainer, "validate", lambda self: ({"new": 1.0}, 0.5))
    monkeypatch.setitem(trainer.data["raybox"], "val_every_epochs", 2)
    trainer.epoch, trainer.epochs, trainer.stop, trainer.metrics = epoch, 5, False, {"old": 1.0}
    assert trainer.validate() == (({"new": 1.0}, 0.5) if due else ({"old": 1.0}, None))


def test_ultralytics_takes_no_threads_away() -> None:
    """In a process of its own: what counts is the order of imports."""
    code = "import stage3_detect.training.train, torch; print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    plain = "import torch; print(torch.get_num_threads())"
    counts = [
        subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
        for text in (code, plain)
    ]
    assert counts[0].stdout == counts[1].stdout


def test_what_goes_to_other_processes_can_be_pickled_and_finds_its_settings_there(trainer: PseudoBoxTrainer) -> None:
    sent = {
        "trainer": type(trainer),
        "args": vars(trainer.args),
        "model": trainer.model,
        "callbacks": trainer.callbacks,
    }
    state = pickle.loads(cloudpickle.dumps(sent))
    again = state["trainer"](overrides=state["args"], _callbacks=state["callbacks"])
    assert type(again) is PseudoBoxTrainer and again.extras == trainer.extras
    assert again.extras == {
        "val_every_epochs": 1,
        "ema_share": 0.1,
        "bf16_on_cpu": False,
        "shared_boxes_iou": 0.8,
        "tracking": "off",
        "backbone_learning_rate_share": 0.25,
        "backbone_frozen_stride": 4,
    }


# --- boxes, weights and regions on their way --------------------

NUM = 5
"""Findings of the pictures below: each image has a box of each, with a weight of its own, and regions."""
NAMES = tuple(f"finding {number}" for number in range(NUM))


def marked_pictures(root: Path, count: int) -> CocoBoxes:
    """(96, 96) pictures with filled boxes whose grey value tells the class; those of the last two are regions."""
    rng = np.random.default_rng(0)
    images, rows = [], []
    (root / "marked").mkdir()
    for index in range(count):
        picture = np.zeros((96, 96), dtype=np.float32)
        for finding in range(NUM):
            x, y = 4 + 18 * finding, int(rng.integers(4, 60))
            box = (x, y, x + 14, y + 20)
            picture[y : y + 20, x : x + 14] = (finding + 3) / 8
            region = finding >= 3
            rows.append((f"i{index}", NAMES[finding], *box, 0.5, int(region), 0.1 * (finding + 1)))
        picture[0, 0] = 1  # so that stretching changes nothing
        write_png8(root / "marked" / f"i{index}.png", picture)
        images.append((f"i{index}", f"marked/i{index}.png", "full", 96, 96))
    coco = make_coco(root, "plain", num_images=1, seed=0)
    table = boxes_table([row[:7] for row in rows])
    table["iscrowd"], table["confidence"] = [row[7] for row in rows], [row[8] for row in rows]
    frame = coco.images.iloc[:0].reset_index(drop=True)
    frame = type(frame)(images, columns=list(coco.images.columns))
    return CocoBoxes(frame, table, NAMES, {"data_root": str(root)})


def dataset_of(root: Path, **augment: Any) -> NoisyLabelDataset:
    coco = marked_pictures(root, 6)
    tune = make_coco(root, "tune", num_images=3, seed=3)
    settings = tiny_settings(augment={**STILL, **augment})
    blank = CocoBoxes(tune.images, tune.boxes.iloc[:0], NAMES, tune.info)
    training = make_training_set(coco, None, blank, settings)
    folder = write_yolo_folder(root / "yolo", training, settings.data, extras=trainer_extras(settings))
    paths = {"data": str(folder.data_yaml), "save_dir": str(root / "run" / "train")}
    trainer = PseudoBoxTrainer(overrides=ultralytics_arguments(settings) | paths)
    made = trainer.build_dataset(trainer.data["train"], batch=4)
    assert isinstance(made, NoisyLabelDataset)
    return made


def check_item(item: dict[str, Any], *, tolerance_px: float) -> int:
    """Each row's weight and region are those of its class, and its box lies on that class's grey value."""
    picture = item["img"][0].numpy()
    for (number,), (weight, is_region), box in zip(
        item["cls"].int().tolist(), item["label_noise"].tolist(), item["bboxes"] * 96, strict=True
    ):
        assert weight == pytest.approx(0.5 * (number + 1) if number < 3 else 0, abs=1e-5)  # over their mean, 0.2
        assert is_region == (number >= 3)
        x, y, width, height = box.tolist()
        value = round((number + 3) / 8 * 255)
        assert abs(int(picture[int(y), int(x)]) - value) <= 1
        inside = np.argwhere(abs(picture.astype(int) - value) <= 1)
        near = inside[(abs(inside[:, 1] + 0.5 - x) <= width / 2 + 2) & (abs(inside[:, 0] + 0.5 - y) <= height / 2 + 2)]
        low, high = near.min(0), near.max(0) + 1
        corners = np.array([y - height / 2, x - width / 2, y + height / 2, x + width / 2])
        assert abs(corners - np.array([*low, *high])).max() <= tolerance_px
    return len(item["cls"])


def test_a_still_picture_has_its_rows_as_written(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    assert len(dataset) == 6
    for item in (dataset[index] for index in range(6)):
        assert item["cls"].shape == (5, 1) and item["bboxes"].shape == (5, 4)
        assert item["label_noise"].shape == (5, 2) and item["img"].shape == (1, 96, 96)
        assert check_item(item, tolerance_px=0.02) == 5


@pytest.mark.parametrize(
    ("augment", "tolerance_px"),
    [
        ({"flip_probability": 1}, 0.02),
        ({"translate_share": 0.4}, 1.1),
        ({"scale_share": 0.4, "translate_share": 0.3, "flip_probability": 0.5}, 1.6),
        ({"mosaic_probability": 1, "translate_share": 0.2}, 1.6),
    ],
)
def test_weights_and_regions_travel_with_their_boxes(
    tmp_path: Path, augment: dict[str, Any], tolerance_px: float
) -> None:
    torch.manual_seed(0)
    dataset = dataset_of(tmp_path, **augment)
    counts = [check_item(dataset[index % 6], tolerance_px=tolerance_px) for index in range(24)]
    assert max(counts) >= 5
    if "translate_share" in augment:
        assert min(counts) < 5 or "mosaic_probability" in augment  # rows that left the picture are gone
        assert len(set(counts)) > 1


def test_a_turned_box_is_the_box_around_it(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, rotate_deg=20)
    steps = dataset.transforms.transforms[0].transforms
    (affine,) = [step for step in steps if isinstance(step, RandomPerspective)]
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2] = cv2.getRotationMatrix2D((48, 48), 15, 1)
    affine._compute_affine_matrix = lambda img, size: (matrix, 1.0)
    item = dataset[0]
    written = dataset.labels[0]
    order = [written["cls"][:, 0].tolist().index(number) for number in item["cls"][:, 0].tolist()]
    for row, box, told in zip(order, item["bboxes"].numpy() * 96, item["label_noise"].tolist(), strict=True):
        x, y, width, height = written["bboxes"][row] * 96
        corners = [(x + i * width / 2, y + j * height / 2, 1) for i in (-1, 1) for j in (-1, 1)]
        turned = np.clip(np.array(corners) @ matrix[:2].T, 0, 96)
        low, high = turned.min(0), turned.max(0)
        np.testing.assert_allclose(box, [*(low + high) / 2, *(high - low)], atol=1e-3)
        assert told == pytest.approx(written["cls"][row, 1:].tolist())


def test_an_image_without_a_box_and_a_batch_of_such(tmp_path: Path) -> None:
    pseudo = make_coco(tmp_path, "train", num_images=9, seed=0, score=0.8)
    trainer = trainer_of(tmp_path, pseudo, labels={"normals_per_positive": 1}, noise={"ignore_regions": False})
    dataset = trainer.build_dataset(trainer.data["train"], batch=4)
    items = [dataset[index] for index in range(len(dataset))]
    empty = [item for item in items if len(item["cls"]) == 0]
    assert len(items) == 9 and len(empty) == 3
    assert {(item["cls"].shape, item["label_noise"].shape, item["bboxes"].shape) for item in empty} == {
        ((0, 1), (0, 2), (0, 4))
    }
    nothing = NoisyLabelDataset.collate_fn([dict(item) for item in empty])
    assert nothing["label_noise"].shape == (0, 2) and nothing["img"].shape == (3, 1, 96, 96)
    mixed = NoisyLabelDataset.collate_fn([dict(item) for item in items])
    assert len(mixed["label_noise"]) == len(mixed["cls"]) == len(mixed["bboxes"]) == len(mixed["batch_idx"]) > 0
    assert mixed["batch_idx"].unique().numel() == 6


# --- class balance and pictures of batches --------------------


def with_regions(root: Path) -> CocoBoxes:
    """8 images; one box of the first class in each, one of the second in one; regions of the second in all."""
    coco = make_coco(root, "train", num_images=8, seed=0)
    rows, crowd = [], []
    for index, image_id in enumerate(coco.images["image_id"]):
        rows += [(image_id, FINDINGS[0], 10, 10, 60, 50, 0.5), (image_id, FINDINGS[1], 70, 10, 120, 80, 0.5)]
        crowd += [0, int(index > 0)]
    table = boxes_table(rows)
    table["iscrowd"] = crowd
    return coco.with_boxes(table)


def test_class_weights_count_boxes_and_no_regions_and_reach_the_loss(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, with_regions(tmp_path), noise={"class_balance_power": 0.5})
    trainer._setup_train()
    assert trainer.get_class_counts().tolist() == [8, 1]
    raw = np.array([8**-0.5, 1])
    expected = raw / raw.mean()
    assert trainer.model.class_weights.tolist() == pytest.approx(expected.tolist())
    trainer.model.criterion = trainer.model.init_criterion()
    losses = [trainer.model.criterion.one2many, trainer.model.criterion.one2one]
    for loss in losses:
        assert isinstance(loss, NoisyLabelLoss)
        assert loss.class_weights.flatten().tolist() == pytest.approx(expected.tolist())
    loss = losses[0]
    scores = torch.zeros(1, 2, 189, requires_grad=True)
    predicted = {
        "boxes": torch.zeros(1, 4 * loss.reg_max, 189),
        "scores": scores,
        "feats": [torch.zeros(1, 8, side, side) for side in (12, 6, 3)],
    }
    batch = {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    loss.loss(predicted, batch | {"label_noise": torch.zeros(0, 2)})[0].sum().backward()
    assert scores.grad is not None
    ratio = scores.grad[0, 1] / scores.grad[0, 0]
    torch.testing.assert_close(ratio, torch.full((189,), 8**0.5), rtol=1e-5, atol=0)


def test_classes_weigh_the_same_without_balance(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, with_regions(tmp_path))
    trainer._setup_train()
    assert getattr(trainer.model, "class_weights", None) is None
    assert trainer.model.shared_iou == 0.8


def test_pictures_of_batches_show_boxes_and_ignore_regions(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, with_regions(tmp_path), augment=STILL)
    trainer._setup_train()
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    trainer.plot_training_samples(batch, 0)
    with Image.open(trainer.save_dir / "train_batch0.jpg") as picture:
        assert picture.width == 3 * (TILE_PX + 14)


def test_the_image_that_a_dead_worker_was_reading_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(tmp_path)
    trainer.args.workers = 1  # ultralytics has none on a CPU
    read = YOLODataset.load_image

    def deadly(dataset: YOLODataset, i: int, *args: Any, **kwargs: Any) -> Any:
        if i == 2 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(dataset, i, *args, **kwargs)

    monkeypatch.setattr(YOLODataset, "load_image", deadly)
    with pytest.raises(UserError, match=r"num_workers: .*while it read image") as told:
        trainer.train()
    names = [Path(name).stem for name in trainer.train_loader.dataset.im_files]
    assert [name for name in names if name in str(told.value)] == [names[2]]
