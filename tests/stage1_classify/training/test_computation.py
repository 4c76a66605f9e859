"""Precision and memory format: the faster one is chosen, once in a run, unless the settings name one."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from cxr.runs.run_folder import Run, open_run, start_run
from stage1_classify import pipeline
from stage1_classify.model.classifier import Classifier
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.training import TrainSettings
from stage1_classify.training import computation
from stage1_classify.training.computation import (
    COMPUTATION,
    Computation,
    fastest,
    time_steps,
    ways_to_compute,
    with_computation,
)
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.trainer import Trainer
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

FP32, FP32_CONTIGUOUS = Computation("fp32", "channels_last"), Computation("fp32", "contiguous")
BF16, BF16_CONTIGUOUS = Computation("bf16", "channels_last"), Computation("bf16", "contiguous")
OPEN = {"precision": "auto", "memory_format": "auto"}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({FP32: 2.5, BF16: 3.0}, FP32),
        ({FP32: 2.5, FP32_CONTIGUOUS: 3.2, BF16: 1.4, BF16_CONTIGUOUS: 1.6}, BF16),
        ({FP32: 2.5, FP32_CONTIGUOUS: 2.0}, FP32_CONTIGUOUS),
        ({FP32: 2.5, BF16: 2.45}, FP32),
        ({FP32: float("inf"), BF16: 3.0}, BF16),
        ({FP32: float("inf"), BF16: float("inf")}, FP32),
        ({BF16: 1.0}, BF16),
    ],
)
def test_the_fastest_is_chosen_and_the_first_unless_another_is_clearly_faster(
    seconds: dict[Computation, float], expected: Computation
) -> None:
    assert fastest(seconds) == expected


@pytest.mark.parametrize(
    ("given", "has_bf16", "expected"),
    [
        (OPEN, True, [FP32, FP32_CONTIGUOUS, BF16, BF16_CONTIGUOUS]),
        (OPEN, False, [FP32, FP32_CONTIGUOUS]),
        ({"precision": "bf16"}, False, [BF16, BF16_CONTIGUOUS]),
        ({"memory_format": "contiguous"}, True, [FP32_CONTIGUOUS, BF16_CONTIGUOUS]),
        ({"precision": "fp32", "memory_format": "channels_last"}, True, [FP32]),
    ],
)
def test_what_the_settings_leave_open_is_compared(
    given: dict[str, Any], has_bf16: bool, expected: list[Computation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computation, "computes_in_bf16", lambda device_type: has_bf16)
    assert ways_to_compute(TrainSettings(num_epochs=1, **given), "cpu") == expected


def test_every_way_is_timed_as_it_says(tmp_path: Path) -> None:
    model = Classifier(stage1_settings(tmp_path, backbone={"name": "test_resnet", "feature_stage": 2})).train()
    seen = []
    model.backbone.network.register_forward_hook(lambda module, given, features: seen.append((given[0], features[-1])))
    options = [FP32, BF16_CONTIGUOUS]
    seconds = time_steps(model, torch.randn(3, 1, 32, 48), options)
    assert list(seconds) == options
    assert all(0 < value < 60 for value in seconds.values())
    for images, features in seen[0::2]:
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert features.dtype == torch.float32
        assert features.is_contiguous(memory_format=torch.channels_last)
    for images, features in seen[1::2]:
        assert images.is_contiguous()
        assert features.dtype == torch.bfloat16
        assert features.is_contiguous()
    assert len(seen) == 6
    assert all(parameter.grad is None for parameter in model.parameters())


def begun(out: Path, settings: Stage1Settings, *, last: Computation | None = None) -> Run:
    """A started run; with `last` one that was interrupted after this choice."""
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    if last is not None:
        run.release()
        (out / "last.ckpt").touch()
        (out / COMPUTATION).write_text(json.dumps({"precision": last.precision, "memory_format": last.memory_format}))
        run = start_run(out, stage="stage1", settings=settings, inputs={})
    return run


def chosen(run: Run, settings: Stage1Settings) -> Computation:
    train = with_computation(run, settings, make_fabric(settings)).train
    return Computation(train.precision, train.memory_format)


@pytest.mark.parametrize("kept", [FP32_CONTIGUOUS, BF16])
def test_a_resumed_run_keeps_its_choice_and_a_new_one_makes_its_own(tmp_path: Path, kept: Computation) -> None:
    settings = stage1_settings(tmp_path, train=OPEN)
    with mock.patch.object(computation, "fastest", lambda seconds: FP32):
        assert chosen(begun(tmp_path / "resumed", settings, last=kept), settings) == kept
        fresh = begun(tmp_path / "fresh", settings)
        (fresh.dir / COMPUTATION).write_text('{"precision": "bf16", "memory_format": "contiguous"}')
        assert chosen(fresh, settings) == FP32
    assert json.loads((fresh.dir / COMPUTATION).read_text()) == {"precision": "fp32", "memory_format": "channels_last"}


def test_nothing_is_timed_where_the_settings_leave_nothing_open(tmp_path: Path) -> None:
    settings = stage1_settings(tmp_path, train={"precision": "bf16", "memory_format": "contiguous"})
    with mock.patch.object(computation, "time_steps", side_effect=AssertionError):
        assert chosen(begun(tmp_path / "run", settings), settings) == BF16_CONTIGUOUS


def test_a_run_trains_resumes_and_ends_with_its_choice(tmp_path: Path) -> None:
    """Chosen, interrupted in the second epoch, resumed: the same choice, though another would be faster by then."""
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={**OPEN, "num_epochs": 2})
    original, trained_in = Trainer.end_epoch, []

    def end_epoch(trainer: Trainer, figures: dict[str, float | None]) -> None:
        trained_in.append((trainer._fabric.strategy.precision.precision, trainer._memory_format))
        if len(trained_in) == 2:
            raise KeyboardInterrupt
        original(trainer, figures)

    for choice, error in ((BF16_CONTIGUOUS, KeyboardInterrupt), (FP32, None)):
        run = start_run(tmp_path / "run", stage="stage1", settings=settings, inputs={})
        with (
            mock.patch.object(computation, "fastest", lambda seconds, choice=choice: choice),
            mock.patch.object(Trainer, "end_epoch", end_epoch),
        ):
            if error is None:
                pipeline.run(run, settings, make_fabric(settings))
            else:
                with pytest.raises(error):
                    pipeline.run(run, settings, make_fabric(settings))
        run.release()
    assert trained_in == [("bf16-mixed", torch.contiguous_format)] * 3
    manifest = open_run(tmp_path / "run").manifest
    assert (manifest["precision"], manifest["memory_format"]) == ("bf16", "contiguous")
    assert manifest["settings"]["train"]["precision"] == "auto"
