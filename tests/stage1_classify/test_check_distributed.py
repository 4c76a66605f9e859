"""`run.py --check-distributed`."""

import json
from pathlib import Path

import pytest
import yaml

from cxr.cli import parse_stage_arguments
from cxr.config import UserError
from stage1_classify.check_distributed import check_distributed, fixed_computation, main
from stage1_classify.run import main as run
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings


def test_a_batch_that_cannot_be_divided_is_refused_before_anything_starts(tmp_path: Path) -> None:
    settings = stage1_settings(tmp_path, train={"batch_size": 4})
    with pytest.raises(UserError, match=r"train.batch_size: got 4, expected a multiple of the 3 processes"):
        check_distributed(settings, 3)
    with pytest.raises(UserError, match="--check-distributed: got 0, expected the number of processes"):
        check_distributed(settings, 0)


def test_what_depends_on_timing_is_fixed(tmp_path: Path) -> None:
    given = stage1_settings(tmp_path, train={"memory_format": "auto"}, tracking="offline")
    fixed = fixed_computation(given)
    assert (fixed.train.precision, fixed.train.memory_format, fixed.tracking) == ("fp32", "contiguous", "off")
    bf16 = stage1_settings(tmp_path, train={"precision": "bf16", "memory_format": "channels_last"})
    assert fixed_computation(bf16).train == bf16.train


@pytest.mark.slow
def test_one_and_two_processes_are_compared_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network with batch norms, two batches a step, and a last step of one batch."""
    train = {"batch_size": 4, "accumulate_steps": 2}
    backbone = {"name": "resnet10t", "feature_stage": 1}
    settings = stage1_settings(patch_folder(tmp_path / "data", num_images=60), backbone=backbone, train=train)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    there = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run(parse_stage_arguments("stage1", ["c.yaml", "--check-distributed", "2"], options=["check"]))
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "2 processes train as one: 6 steps in fp32, 39 comparisons"
    assert [line.split(":")[0].strip() for line in lines] == [
        *(
            "val/loss",
            "val/auroc",
            "val/f1",
            "val/auprc",
            "val/probabilistic_f1",
            "cases of the epoch",
            "cases",
            "loss",
        ),
        *("gradients", "statistics", "updates"),
    ]
    assert "auroc: equal" in lines[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_what_the_trainings_refuse_is_told(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"), findings=["Edema"])
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    assert main(tmp_path) == 2
    (problem,) = json.loads((tmp_path / "problem.json").read_text())
    assert "finding 'Edema' is not there" in problem
