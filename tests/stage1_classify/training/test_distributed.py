"""Two processes train as one, and a training whose processes do not is stopped in words."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cxr.runs.run_folder import open_run
from tests.builders import write_rows
from tests.paths import ROOT
from tests.stage1_classify.stage1_builders import FINDINGS, patch_folder, stage1_settings
from tests.stage1_classify.training.distributed_train import BROKEN, SCENARIOS, settings_of
from tests.stage1_classify.training.train_builders import assert_same, fitted, logged, splits

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(command: Sequence[str | Path]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`patch_folder`, and a table of it in which every second patient has a study of two or three views."""
    root = patch_folder(tmp_path_factory.mktemp("distributed") / "data", num_images=60)
    table = pd.read_csv(root / "labels.csv")
    rows, patient = [], 0
    while len(rows) < len(table):
        taken = table.iloc[len(rows) : len(rows) + (1, 2, 1, 3)[patient % 4]]
        labels = taken[FINDINGS].max().tolist()
        rows += [[path, f"q{patient}", "s", ("PA", "LL", "")[i], *labels] for i, path in enumerate(taken["path"])]
        patient += 1
    write_rows(root / "studies.csv", ["path", "patient", "study", "view", *FINDINGS], rows)
    return root


@pytest.fixture(scope="module")
def two(data: Path) -> Path:
    """All scenarios, one after the other, by two processes."""
    out = data.parent / "two"
    out.mkdir()
    run(
        [
            *TORCHRUN,
            ROOT / "tests" / "stage1_classify" / "training" / "distributed_train.py",
            data,
            out,
            *SCENARIOS,
            "interrupted",
            "computation",
        ]
    )
    return out


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in ("norms", "dropout")])
def test_two_processes_train_as_one(data: Path, two: Path, name: str) -> None:
    """The same batches, targets and positive weights: losses and weights agree to rounding (no batch norm here)."""
    one = fitted(settings_of(data, name), data.parent / "one" / name)
    for line, of_two in zip(logged(one), logged(two / name), strict=True):
        assert line == pytest.approx(of_two, rel=1e-3)
    states = [torch.load(out / "last.ckpt", weights_only=True) for out in (one, two / name)]
    assert states[0]["progress"]["steps"] == states[1]["progress"]["steps"]
    for tensor_name, tensor in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][tensor_name], tensor, rtol=1e-3, atol=1e-4)
    best = [load_file(out / "best.safetensors") for out in (one, two / name)]
    for tensor_name, tensor in best[0].items():
        torch.testing.assert_close(best[1][tensor_name], tensor, rtol=1e-3, atol=1e-4)


def test_views_are_uneven_between_the_processes(data: Path) -> None:
    """What test_two_processes_train_as_one[views] is about: without it that test would show nothing."""
    counts = [len(views) for views in splits(settings_of(data, "views"))[0].cases.views]
    assert {1, 2} == set(counts)


def test_two_processes_go_on_bit_for_bit_where_they_were_killed(two: Path) -> None:
    """With dropout, which differs by process, and batch norm, whose statistics do."""
    assert logged(two / "interrupted") == logged(two / "dropout")
    one, other = (torch.load(two / name / "last.ckpt", weights_only=True) for name in ("dropout", "interrupted"))
    assert_same(one, other)


def test_batch_norms_train_in_two_processes_and_are_kept(two: Path) -> None:
    """Their statistics differ by process, so figures do not equal those of one; but they must be sound."""
    lines = logged(two / "norms")
    assert len(lines) == 3
    best = load_file(two / "norms" / "best.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in best.values())
    assert any(name.endswith("running_var") and not torch.equal(t, torch.ones_like(t)) for name, t in best.items())


def test_all_processes_compute_as_the_first_one_chose(two: Path) -> None:
    first, second = ((two / f"computation.{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert first.endswith(" contiguous")


@pytest.fixture(scope="module")
def said(data: Path) -> dict[str, tuple[str, str]]:
    """What both processes say of each way to be broken."""
    out = data.parent / "broken"
    out.mkdir()
    run([*TORCHRUN, ROOT / "tests" / "stage1_classify" / "training" / "distributed_train.py", data, out, *BROKEN])
    texts = {name: [(out / f"{name}.{rank}.txt").read_text() for rank in range(2)] for name in BROKEN}
    return {name: (first, second) for name, (first, second) in texts.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("other_weights", "at the start 1 of 37 parameters of process 1 differ from those of process 0, first head"),
        ("own_gradients", "the gradient of the first batch differs by"),
        ("summed_gradients", "the gradient of the first batch differs by 100.0%"),
        ("same_cases", "their first batches have the cases"),
        ("drift", "after epoch 2 1 of 37 parameters of process 1 differ from those of process 0, first backbone"),
        ("poisoned_picture", "the network's input, for images/p"),
    ],
    ids=lambda value: value if value in BROKEN else "",
)
def test_processes_that_do_not_train_as_one_are_stopped(
    said: dict[str, tuple[str, str]], name: str, expected: str
) -> None:
    first, second = said[name]
    assert expected in first
    assert first == second  # no process waits for one that has stopped


def test_a_training_that_drifts_apart_keeps_its_last_good_epoch(data: Path, said: dict[str, tuple[str, str]]) -> None:
    out = data.parent / "broken" / "drift"
    assert torch.load(out / "last.ckpt", weights_only=True)["progress"]["epoch"] == 1
    assert len(logged(out)) == 1


def test_the_whole_of_stage_1_in_two_processes_equals_one(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"num_epochs": 2, "precision": "fp32"})
    config = tmp_path / "stage1.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    for name, launch in (("one", [sys.executable]), ("two", TORCHRUN)):
        run([*launch, ROOT / "stage1_classify" / "run.py", config, "--out", tmp_path / name])
    one, two = (open_run(tmp_path / name) for name in ("one", "two"))
    assert two.manifest["world_size"] == 2
    for line, of_two in zip(logged(one.dir), logged(two.dir), strict=True):
        assert line == pytest.approx(of_two, rel=1e-3)
    of_one, of_two = (load_file(done.output("weights")) for done in (one, two))
    for name, tensor in of_one.items():
        torch.testing.assert_close(of_two[name], tensor, rtol=1e-3, atol=1e-4)
    assert json.loads((one.dir / "metrics.json").read_text()).keys() == two.metrics.keys()
