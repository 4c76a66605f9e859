"""Which device computes, and what needs a single process."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.config import UserError
from stage1_classify.training.fabric import make_fabric
from tests.stage1_classify.stage1_builders import stage1_settings


def test_the_processor_can_be_asked_for(tmp_path: Path) -> None:
    assert make_fabric(stage1_settings(tmp_path, train={"device": "cpu"})).device == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_of_a_kind_is_taken_or_refused(tmp_path: Path, device: str) -> None:
    settings = stage1_settings(tmp_path, train={"device": device})
    if {"cuda": torch.cuda, "mps": torch.mps}[device].is_available():
        assert make_fabric(settings).device.type == device
        return
    with pytest.raises(UserError, match=f"train.device: got {device}, but PyTorch finds no such device"):
        make_fabric(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": {"backbones": "by_view"}}, "views.backbones: by_view needs one process"),
        ({"loss": {"kind": "auc_margin"}}, "loss.kind: auc_margin needs one process"),
    ],
)
def test_what_several_processes_would_train_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=message):
        make_fabric(stage1_settings(tmp_path, **changes))
