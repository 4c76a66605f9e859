"""Several processes train as one, and a training whose processes do not is stopped in words."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cxr.cli import parse_stage_arguments
from cxr.runs.run_folder import open_run
from stage1_classify.run import main
from stage1_classify.training.recording import largest_difference
from tests.builders import write_rows
from tests.paths import ROOT
from tests.stage1_classify.stage1_builders import FINDINGS, patch_folder, stage1_settings
from tests.stage1_classify.training.distributed_train import BROKEN, SCENARIOS, settings_of
from tests.stage1_classify.training.train_builders import assert_same, fitted, logged, splits, trainer

WORKER = ROOT / "tests" / "stage1_classify" / "training" / "distributed_train.py"

IN_THREE = ("weighted", "views", "norms")
"""Scenarios that three processes train, too."""


def torchrun(num_processes: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    return [sys.executable, *launcher]


TORCHRUN = torchrun(2)


def run(command: Sequence[str | Path]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`patch_folder`, a table of it in which every second patient has a study of two or three views, and settings."""
    root = patch_folder(tmp_path_factory.mktemp("distributed") / "data", num_images=60)
    table = pd.read_csv(root / "labels.csv")
    rows, patient = [], 0
    while len(rows) < len(table):
        taken = table.iloc[len(rows) : len(rows) + (1, 2, 1, 3)[patient % 4]]
        labels = taken[FINDINGS].max().tolist()
        rows += [[path, f"q{patient}", "s", ("PA", "LL", "")[i], *labels] for i, path in enumerate(taken["path"])]
        patient += 1
    write_rows(root / "studies.csv", ["path", "patient", "study", "view", *FINDINGS], rows)
    settings = stage1_settings(root, train={"num_epochs": 2, "precision": "fp32"})
    (root / "stage1.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return root


@pytest.fixture(scope="module")
def two(data: Path) -> Path:
    """All scenarios, and all ways to be broken, one after the other by two processes."""
    out = data.parent / "two"
    out.mkdir()
    run([*TORCHRUN, WORKER, data, out, *SCENARIOS, "interrupted", "whole", "computation", *BROKEN])
    return out


@pytest.fixture(scope="module")
def one(data: Path) -> Callable[[str], Path]:
    """A scenario by one process, trained when it is first asked for."""
    return cache(lambda name: fitted(settings_of(data, name), data.parent / "one" / name))


@pytest.fixture(scope="module")
def three(data: Path) -> Path:
    """Some scenarios by three processes."""
    out = data.parent / "three"
    out.mkdir()
    run([*torchrun(3), WORKER, data, out, *IN_THREE])
    return out


TWO = [("two", name) for name in SCENARIOS if name not in ("dropout", "mixed")]
THREE = [pytest.param("three", name, marks=pytest.mark.slow) for name in IN_THREE]


@pytest.mark.parametrize(("processes", "name"), [*TWO, *THREE])
def test_several_processes_train_as_one(
    one: Callable[[str], Path], processes: str, name: str, request: pytest.FixtureRequest
) -> None:
    """The same batches, targets, positive weights and batch statistics: losses agree to rounding."""
    alone, together = one(name), request.getfixturevalue(processes) / name
    for line, of_many in zip(logged(alone), logged(together), strict=True):
        assert line == pytest.approx(of_many, rel=1e-5)
    states = [torch.load(out / "last.ckpt", weights_only=True) for out in (alone, together)]
    assert states[0]["progress"]["steps"] == states[1]["progress"]["steps"]
    best = [load_file(out / "best.safetensors") for out in (alone, together)]
    for ours, theirs in ((states[0]["model"], states[1]["model"]), best):
        assert largest_difference(ours, theirs)[0] < 1e-4


def test_mixed_precision_in_two_processes_differs_by_its_rounding(one: Callable[[str], Path], two: Path) -> None:
    for line, of_two in zip(logged(one("mixed")), logged(two / "mixed"), strict=True):
        assert line == pytest.approx(of_two, rel=1e-2)


def test_what_the_scenarios_are_about(data: Path, one: Callable[[str], Path]) -> None:
    """Weighted sampling repeats cases, batches are left out, and there are batch norms."""
    sampler = trainer(settings_of(data, "weighted"), data.parent / "weighted")._sampler
    cases = [case for batch in sampler for case in batch]
    assert len(cases) == 18 > len(set(cases))
    assert torch.load(one("weighted") / "last.ckpt", weights_only=True)["progress"]["steps"] == 4
    state = torch.load(one("norms") / "last.ckpt", weights_only=True)["model"]
    assert any(name.endswith("running_var") and not torch.equal(t, torch.ones_like(t)) for name, t in state.items())


def test_views_are_uneven_between_the_processes(data: Path) -> None:
    """Without it the scenario "views" would show nothing."""
    counts = [len(views) for views in splits(settings_of(data, "views"))[0].cases.views]
    assert {1, 2} == set(counts)


def test_two_processes_go_on_bit_for_bit_where_they_were_killed(two: Path) -> None:
    """With dropout, which differs by process."""
    assert logged(two / "interrupted") == logged(two / "dropout")
    one, other = (torch.load(two / name / "last.ckpt", weights_only=True) for name in ("dropout", "interrupted"))
    assert_same(one, other)


def test_all_processes_compute_as_the_first_one_chose(two: Path) -> None:
    first, second = ((two / f"computation.{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert first.endswith(" contiguous")


@pytest.fixture(scope="module")
def said(two: Path) -> dict[str, tuple[str, str]]:
    """What both processes say of each way to be broken."""
    texts = {name: [(two / f"{name}.{rank}.txt").read_text() for rank in range(2)] for name in BROKEN}
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


def test_a_training_that_drifts_apart_keeps_its_last_good_epoch(two: Path) -> None:
    out = two / "drift"
    assert torch.load(out / "last.ckpt", weights_only=True)["progress"]["epoch"] == 1
    assert len(logged(out)) == 1


def test_the_whole_of_stage_1_in_two_processes_equals_one(data: Path, two: Path, tmp_path: Path) -> None:
    main(parse_stage_arguments("stage1", [str(data / "stage1.yaml"), "--out", str(tmp_path / "one")]))
    alone, together = open_run(tmp_path / "one"), open_run(two / "whole")
    assert together.manifest["world_size"] == 2
    for line, of_two in zip(logged(alone.dir), logged(together.dir), strict=True):
        assert line == pytest.approx(of_two, rel=1e-3)
    of_one, of_two = (load_file(done.output("weights")) for done in (alone, together))
    for name, tensor in of_one.items():
        torch.testing.assert_close(of_two[name], tensor, rtol=1e-3, atol=1e-4)
    assert alone.metrics.keys() == together.metrics.keys()
