"""Code inside a checkpoint never runs, wherever a checkpoint is read."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from cxr.config import UserError
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import open_run
from stage3_detect.export.formats import open_predictor
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.model.torch_network import TorchNetwork
from stage3_detect.settings.detector import DataSettings, Stage3Settings, TrainSettings
from stage3_detect.training.loss import NoisyLabelModel
from stage3_detect.training.starting_point import weights_input
from stage3_detect.training.train import publish_weights
from stage3_detect.training.trainer import epochs_done
from tests.builders import PickledCall
from tests.stage3_detect.prediction.run_builders import make_stage3_run
from tests.stage3_detect.stage3_builders import trainer_of


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, what="model", advice="give another")


def write_hostile(path: Path, mark: Path, kind: str) -> Path:
    """A checkpoint that makes the file `mark` when all of it is unpickled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    calls = {
        "mkdir": PickledCall(Path.mkdir, mark),
        "eval": PickledCall(eval, f"__import__('os').mkdir({str(mark)!r})"),
        "exec": PickledCall(exec, f"import os; os.mkdir({str(mark)!r})"),
        "getattr": PickledCall(getattr, PickledCall(__import__, "os"), "mkdir"),
    }
    content: dict[str, Any] = {"model": torch.nn.Conv2d(1, 2, 3), "train_args": {"imgsz": 96}}
    if kind == "in_model":
        content["model"].hook = calls["mkdir"]
    content["epoch"] = calls.get(kind, calls["mkdir"])
    if kind == "raw":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    return path


KINDS = ("mkdir", "eval", "exec", "getattr", "in_model", "legacy", "raw")


def test_an_empty_file_and_none_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    for name in ("empty.pt", "none.pt"):
        with pytest.raises(UserError, match=rf"^model: .*{name} cannot be loaded: .*; give another$"):
            read(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_code_in_a_checkpoint_is_refused_before_it_runs(tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / "hostile.pt", tmp_path / "mark"
    write_hostile(path, mark, kind)
    with pytest.raises(UserError, match=r"hostile\.pt cannot be loaded"):
        read(path)
    assert not mark.exists()


def test_the_hostile_files_would_make_their_mark(tmp_path: Path) -> None:
    """Without this the tests above and below would show nothing."""
    for kind in ("mkdir", "eval", "exec", "in_model", "legacy"):
        path, mark = tmp_path / f"{kind}.pt", tmp_path / kind
        torch.load(write_hostile(path, mark, kind), weights_only=False)
        assert mark.is_dir()


def test_the_message_names_what_the_pickle_would_call(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a pickle that uses __builtin__\.eval|a pickle that uses builtins\.eval"):
        read(write_hostile(tmp_path / "hostile.pt", tmp_path / "mark", "eval"))


def use_as_start(path: Path) -> None:
    weights_input(Stage3Settings(model=str(path), data=DataSettings(image_px=64), train=TrainSettings(num_epochs=1)))


def use_in_run(path: Path) -> None:
    """The weights of a finished run exchanged, and their hash with them."""
    run = make_stage3_run(path.parent / "stage3")
    weights = run / "weights" / "best.pt"
    path.replace(weights)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["outputs"]["weights"]["sha256"] = sha256_of(weights)
    (run / "manifest.json").write_text(json.dumps(manifest))
    open_predictor(open_run(run))


def use_to_resume(path: Path) -> None:
    if epochs_done(path) is None:
        raise UserError("not taken for a checkpoint")


@pytest.mark.parametrize(
    "use",
    [use_as_start, use_in_run, use_to_resume, TorchNetwork, lambda path: publish_weights(path, path.with_name("b.pt"))],
    ids=["start", "run", "resume", "network", "publish"],
)
def test_no_way_to_use_a_checkpoint_runs_its_code(tmp_path: Path, use: Callable[[Path], object]) -> None:
    path = write_hostile(tmp_path / "train" / "weights" / "hostile.pt", tmp_path / "mark", "mkdir")
    with pytest.raises(UserError):
        use(path)
    assert not (tmp_path / "mark").exists()


def test_ultralytics_itself_refuses_code_when_it_starts_from_a_file(tmp_path: Path) -> None:
    path = write_hostile(tmp_path / "hostile.pt", tmp_path / "mark", "mkdir")
    with pytest.raises(TypeError, match="outside the supported"):
        trainer_of(tmp_path, model=str(path)).setup_model()
    assert not (tmp_path / "mark").exists()


def test_code_in_an_architecture_is_not_run(tmp_path: Path) -> None:
    call = f"__import__('os').mkdir('{tmp_path / 'mark'}')"
    with pytest.raises(TypeError, match="unsupported activation"):
        DetectionModel(
            {"nc": 2, "activation": call, "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": []}, ch=1, verbose=False
        )
    assert not (tmp_path / "mark").exists()


def test_our_own_class_may_be_in_a_checkpoint(tmp_path: Path) -> None:
    """A training that is resumed reads such a file."""
    torch.manual_seed(0)
    model = NoisyLabelModel("yolo26n.yaml", ch=1, nc=2, verbose=False)
    torch.save({"ema": model, "epoch": 3}, tmp_path / "last.pt")
    found = read(tmp_path / "last.pt")["ema"]
    assert type(found) is NoisyLabelModel
    torch.testing.assert_close(found.state_dict(), model.state_dict(), rtol=0, atol=0)
