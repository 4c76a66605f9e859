"""An architecture or a weights file: what is there, what is not, and what a network for colours becomes on grey."""

from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

from cxr.config import UserError
from stage3_detect.settings.detector import DataSettings, Stage3Settings, TrainSettings
from stage3_detect.training.starting_point import make_network, weights_input
from tests.stage3_detect.stage3_builders import tiny_settings, trainer_of

SIZES = "nsmlx"


def settings(model: str | Path) -> Stage3Settings:
    return Stage3Settings(model=str(model), data=DataSettings(image_px=64), train=TrainSettings(num_epochs=1))


def saved(path: Path, model: torch.nn.Module) -> Path:
    torch.save({"model": model, "train_args": {}, "epoch": -1}, path)
    return path


@pytest.mark.parametrize("family", ["yolo26", "yolo11"])
def test_architectures_of_all_sizes_are_known_and_no_inputs(family: str) -> None:
    for size in SIZES:
        assert weights_input(settings(f"{family}{size}.yaml")) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolo99n.yaml", r"no architecture yolo99n.yaml; try yolo26n.yaml"),
        ("yolo11n-seg.yaml", r"ends in Segment and is no detection network"),
        ("yolo26n-cls.yaml", r"ends in Classify and is no detection network"),
    ],
)
def test_other_architectures_are_the_users_mistake(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        weights_input(settings(name))


def test_yaml_that_is_none_of_ultralytics_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "stage9.yaml").write_text("data: 1\n")
    with pytest.raises(UserError, match="does not describe an ultralytics network"):
        weights_input(settings(tmp_path / "stage9.yaml"))


def test_name_that_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an architecture"):
        settings("yolo26n")


def test_missing_weights_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is downloaded"):
        weights_input(settings(tmp_path / "none.pt"))


def test_files_that_are_no_detection_network_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    torch.save({"state_dict": {}}, tmp_path / "state.pt")
    saved(tmp_path / "linear.pt", torch.nn.Linear(2, 3))
    saved(tmp_path / "segment.pt", SegmentationModel("yolo11n-seg.yaml", ch=1, nc=2, verbose=False))
    expected = {
        "broken": "cannot be loaded",
        "state": "holds no network",
        "linear": "holds a Linear, not a detection network",
        "segment": "holds a Segment, not a detection network",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message):
            weights_input(settings(tmp_path / f"{name}.pt"))


def test_fused_network_is_the_users_mistake(tmp_path: Path) -> None:
    fused = DetectionModel("yolo11n.yaml", ch=1, nc=2, verbose=False).eval().fuse(verbose=False)
    with pytest.raises(UserError, match="fused for inference"):
        weights_input(settings(saved(tmp_path / "fused.pt", fused)))


@pytest.mark.parametrize("architecture", ["yolo26n.yaml", "yolo11n.yaml"])
def test_network_for_colours_gives_the_same_for_grey(tmp_path: Path, architecture: str) -> None:
    torch.manual_seed(0)
    colour = DetectionModel(architecture, ch=3, nc=2, verbose=False)
    for module in colour.modules():  # as after training: the norms are no identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = saved(tmp_path / "colour.pt", colour)
    assert weights_input(settings(path)) == {"weights": path}
    trainer = trainer_of(tmp_path, model=str(path))
    trainer.setup_model()
    grey = trainer.model.eval()
    assert grey.yaml["channels"] == 1 and next(grey.parameters()).shape[1] == 1
    picture = torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, wanted = grey(picture)[0], colour.eval()(picture.repeat(1, 3, 1, 1))[0]
    assert found.std() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_channel_goes_on_as_it_is_and_other_classes_start_anew(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grey = DetectionModel("yolo26n.yaml", ch=1, nc=5, verbose=False)
    grey.names = dict(enumerate("abcde"))
    path = saved(tmp_path / "grey.pt", grey)
    assert weights_input(settings(path)) == {"weights": path}
    trainer = trainer_of(tmp_path, model=str(path))
    trainer.setup_model()
    before, after = grey.state_dict(), trainer.model.state_dict()
    assert trainer.model.names == dict(enumerate(("Nodule/Mass", "Pleural Effusion")))
    others = [name for name in after if before[name].shape != after[name].shape]
    last = {
        f"model.23.{branch}.{level}.2.{kind}"
        for branch in ("cv3", "one2one_cv3")
        for level in range(3)
        for kind in ("weight", "bias")
    }
    assert set(others) == last and all(len(after[name]) == 2 for name in others)
    assert torch.equal(before["model.0.conv.weight"], after["model.0.conv.weight"])
    own = make_network(settings(path), ("Nodule/Mass", "Pleural Effusion")).state_dict()
    assert all(torch.equal(own[name], after[name]) for name in after if name not in others)
    assert all(own[name].shape == after[name].shape for name in others)


def test_outputs_of_classes_are_found_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    colour = DetectionModel("yolo26n.yaml", ch=3, nc=2, verbose=False)
    colour.names = {0: "b", 1: "a"}
    network = make_network(settings(saved(tmp_path / "colour.pt", colour)), "abc")
    assert network.yaml["channels"] == 1 and network.names == {0: "a", 1: "b", 2: "c"}
    given, found = (model.state_dict() for model in (colour, network))
    torch.testing.assert_close(found["model.0.conv.weight"], given["model.0.conv.weight"].sum(1, keepdim=True))
    last = "model.23.cv3.0.2.weight"
    assert torch.equal(found[last][:2], given[last].flip(0))


def test_an_architecture_gets_one_grey_channel(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.setup_model()
    assert next(trainer.model.parameters()).shape[1] == 1


@pytest.mark.parametrize("architecture", ["yolo26n.yaml", "yolo11n.yaml"])
def test_nms_free_needs_a_head_for_it(tmp_path: Path, architecture: str) -> None:
    network = DetectionModel(architecture, ch=1, nc=2, verbose=False)
    path = saved(tmp_path / "start.pt", network)
    for model, inputs in ((architecture, {}), (str(path), {"weights": path})):
        given = tiny_settings(model=model, predict={"nms_free": True})
        if architecture == "yolo26n.yaml":
            assert weights_input(given) == inputs
            continue
        with pytest.raises(UserError, match=r"predict.nms_free: .* has no one-to-one head; set it to false"):
            weights_input(given)
