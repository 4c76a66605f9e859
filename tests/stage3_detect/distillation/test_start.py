"""A distillation from a finished chain to the weights that a training starts from; also after a kill."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cxr.coco import CocoBoxes
from cxr.config import UserError
from stage3_detect.distillation import learning
from stage3_detect.distillation.report import distillation_blocks
from stage3_detect.distillation.start import DistilledStart, distilled_start
from stage3_detect.model.checkpoint import read_network
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training.starting_point import make_network, weights_input
from tests.stage3_detect.serving.chain_builders import make_classifier_run
from tests.stage3_detect.stage3_builders import FINDINGS, make_coco, tiny_settings

LAYERS = {"backbone_8", "backbone_16", "backbone_32"}
TORN = "train/train_004.png"


class KilledError(Exception):
    """Stands for kill -9: whatever comes after does not happen."""


def settings_of(**changes: Any) -> Stage3Settings:
    distillation = {"num_epochs": 2, "batch_size": 4, "image_px": 64}
    return tiny_settings(**{"seed": 3, "distillation": distillation, "data": {"on_problem": "exclude"}, **changes})


def weights_of(start: DistilledStart) -> dict[str, Tensor]:
    network, _ = read_network(start.weights, what="test", advice="")
    return dict(network.state_dict())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distillation")


@pytest.fixture(scope="module")
def stage1(root: Path) -> Path:
    return make_classifier_run(root / "stage1")


@pytest.fixture(scope="module")
def images(root: Path) -> CocoBoxes:
    """Ten, of which one is no image."""
    images = make_coco(root, "train", num_images=10, seed=1)
    (root / TORN).write_bytes(b"torn")
    return images


@pytest.fixture(scope="module")
def finished(root: Path, stage1: Path, images: CocoBoxes) -> DistilledStart:
    """A distillation that was not interrupted."""
    handler = logging.FileHandler(root / "log.txt")
    logging.getLogger("raybox").addHandler(handler)
    try:
        return distilled_start(root / "whole", images, settings_of(), stage1=stage1)
    finally:
        logging.getLogger("raybox").removeHandler(handler)


def test_the_file_is_a_starting_point(finished: DistilledStart, root: Path) -> None:
    assert finished.weights == root / "whole" / "weights" / "distilled.pt"
    settings = settings_of(model=str(finished.weights))
    assert weights_input(settings) == {"weights": finished.weights}
    started, own = make_network(settings, FINDINGS).state_dict(), weights_of(finished)
    assert started.keys() == own.keys() and all(torch.equal(value, own[name]) for name, value in started.items())


def test_layers_up_to_the_backbones_last_learn_and_others_stay_as_they_were(finished: DistilledStart) -> None:
    torch.manual_seed(3)
    before = make_network(settings_of(), FINDINGS).state_dict()
    after = weights_of(finished)
    changed = {int(name.split(".")[1]) for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == set(range(11))


def test_figures_and_files(finished: DistilledStart, root: Path) -> None:
    assert set(finished.metrics) == {f"distillation/r2/{name}" for name in LAYERS}
    assert all(value is not None and value < 1 for value in finished.metrics.values())
    assert [path.name for path in (root / "whole" / "distillation").iterdir()] == ["metrics.jsonl"]
    assert [path.name for path in finished.weights.parent.iterdir()] == ["distilled.pt"]


def test_a_finished_one_is_not_repeated(finished: DistilledStart, root: Path, images: CocoBoxes) -> None:
    before = finished.weights.stat().st_mtime_ns
    assert distilled_start(root / "whole", images, settings_of(), stage1=root / "none") == finished
    assert finished.weights.stat().st_mtime_ns == before


@pytest.fixture
def killed_in_second_epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real, calls = learning.augment, []

    def augment(*arguments: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 4:  # 8 pictures in batches of 4, the second batch of the second epoch
            raise KilledError
        return real(*arguments)

    monkeypatch.setattr(learning, "augment", augment)
    yield
    assert len(calls) == 6


@pytest.mark.usefixtures("killed_in_second_epoch")
def test_a_killed_one_gives_the_same_weights(
    finished: DistilledStart, root: Path, stage1: Path, images: CocoBoxes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(KilledError):
        distilled_start(root / "killed", images, settings_of(), stage1=stage1)
    (root / "killed" / "weights").mkdir()
    (root / "killed" / "weights" / "distilled.pt").write_bytes(finished.weights.read_bytes()[:1000])
    again = distilled_start(root / "killed", images, settings_of(), stage1=stage1)
    assert "resuming after epoch 1" in caplog.text and "distilled.pt cannot be loaded" in caplog.text
    assert again.explained == finished.explained
    expected = weights_of(finished)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(again).items())


def test_an_unreadable_image_is_left_out_or_an_error(
    finished: DistilledStart, root: Path, stage1: Path, images: CocoBoxes
) -> None:
    assert (
        TORN in (root / "log.txt").read_text()
        and "8 images of 64 x 64 pixels, 1 held out" in (root / "log.txt").read_text()
    )
    settings = settings_of(data={"on_problem": "error"})
    with pytest.raises(UserError, match="1 of 10 images"):
        distilled_start(root / "refused", images, settings, stage1=stage1)


def test_report(finished: DistilledStart) -> None:
    assert distillation_blocks(None) == []
    [table] = distillation_blocks(finished)
    assert table.rows == [
        ["backbone", stride, finished.explained[f"backbone_{stride}"]] for stride in ("8", "16", "32")
    ]
