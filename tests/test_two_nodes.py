"""Stages 1 and 2 on two nodes: two torchruns, which meet on this machine, give what one process gives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.cli import EXIT_DONE
from cxr.runs.run_folder import FinishedRun, open_run
from eval.experiments.reproduce import SCRIPTS, differences_of
from tests.paths import ROOT
from tests.stage1_classify.training.train_builders import logged
from tests.test_pipeline import run, write_configs

pytestmark = pytest.mark.slow

EXACT = ["--set", "train.precision=fp32", "train.memory_format=contiguous"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def on_two_nodes(stage: str, folder: Path, *options: str) -> FinishedRun:
    """A torchrun with one process for each node. They know each other by the endpoint alone."""
    out = folder / "two" / stage
    meeting = ["--rdzv-backend", "c10d", "--rdzv-id", stage, "--rdzv-endpoint", f"localhost:{free_port()}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *meeting]
    command = [*launcher, "--local-addr", "localhost", str(ROOT / SCRIPTS[stage]), str(folder / f"{stage}.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    nodes = [
        subprocess.Popen(
            [*command, "--out", str(out), *options],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"{stage}_{node}.txt").open("w"),
        )
        for node in range(2)
    ]
    codes = [node.wait(300) for node in nodes]
    assert codes == [0, 0], "\n".join((folder / f"{stage}_{node}.txt").read_text()[-2000:] for node in range(2))
    return open_run(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a tiny experiment, and both stages by one process."""
    made = tmp_path_factory.mktemp("nodes")
    write_configs(made)
    assert run("stage1", made, *EXACT) == EXIT_DONE
    assert run("stage2", made) == EXIT_DONE
    return made


def by_one(stage: str, folder: Path) -> FinishedRun:
    return open_run(folder / "runs" / folder.name / stage)


def test_stage_1_trains_on_two_nodes_as_in_one_process(folder: Path) -> None:
    one, two = by_one("stage1", folder), on_two_nodes("stage1", folder, *EXACT)
    assert (one.manifest["world_size"], two.manifest["world_size"]) == (1, 2)
    for line, of_two in zip(logged(one.dir), logged(two.dir), strict=True):
        assert of_two == pytest.approx(line, rel=1e-4)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-3)


def test_stage_2_gives_on_two_nodes_what_one_process_gives(folder: Path) -> None:
    one = by_one("stage2", folder)
    source = str(by_one("stage1", folder).dir)
    two = on_two_nodes("stage2", folder, "--from", source)
    found = differences_of(one, two)
    assert found.num_metrics > 100
    assert found.other_metrics == ()
    assert found.other_outputs == ()
