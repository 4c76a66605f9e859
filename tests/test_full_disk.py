"""Every command on a disk that is full at different moments, and in a folder that turns read-only: one line each, and
the same command ends as an undisturbed one once there is room."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.runs.run_folder import open_run
from eval.experiments.reproduce import differences_of
from tests.disks import Disk, disk_at
from tests.kill_stages import Chain
from tests.paths import ROOT

pytestmark = pytest.mark.slow

ROOM_KIB = 10**6
STAGES = [(stage, share) for stage in ("stage1", "stage2", "stage3") for share in (0.02, 0.3, 0.6, 0.9)]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A tiny experiment, whose undisturbed runs are made when they are asked for."""
    return Chain(tmp_path_factory.mktemp("chain"))


def size_kib(folder: Path) -> int:
    done = subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def assert_refused(disk: Disk, command: list[str], reason: str) -> None:
    """Exit code 2, and one line of error that gives the reason."""
    done = disk.run(command)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(reason, errors[0]), errors


@pytest.mark.parametrize(("stage", "share"), STAGES)
def test_a_stage_goes_on_when_there_is_room_again(chain: Chain, tmp_path: Path, stage: str, share: float) -> None:
    command = chain.command(stage, Path("run"))
    reference = chain.reference(stage)
    with disk_at(tmp_path / "disk", kib=max(8, int(share * size_kib(reference)))) as disk:
        assert_refused(disk, command, "No space left on device")
        disk.grow(kib=ROOM_KIB)
        done = disk.run(command)
        assert done.returncode == 0, done.stderr[-3000:]
        found = differences_of(open_run(reference), open_run(disk.seen / "run"))
        assert (found.other_outputs, found.other_metrics) == ((), ())


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_a_stage_in_a_read_only_folder_is_one_line(chain: Chain, tmp_path: Path, stage: str) -> None:
    with disk_at(tmp_path / "disk", kib=ROOM_KIB) as disk:
        disk.make_read_only()
        assert_refused(disk, chain.command(stage, Path("run")), "Read-only file system")


def predict(stage: str, *options: str) -> Callable[[Chain], list[str]]:
    script = {"stage1": "stage1_classify/predict.py", "stage3": "stage3_detect/predict.py"}[stage]
    return lambda chain: [str(ROOT / script), str(chain.reference(stage)), str(chain.images), "--out", "run", *options]


COMMANDS: dict[str, Callable[[Chain], list[str]]] = {
    "predict.py of stage 1": predict("stage1"),
    "predict.py of stage 3": predict("stage3"),
    "DICOM results": predict("stage3", "--dicom", "results"),
    "label_reports.py": lambda chain: [
        str(ROOT / "stage1_classify/label_reports.py"), str(chain.reports), "--out", "run", "--workers", "1",
    ],
    "compare": lambda chain: [
        str(ROOT / "eval/run.py"), "compare", *(str(chain.reference(stage)) for stage in ("stage1", "stage2")),
        "--out", "run",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kib", [8, 20])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_when_there_is_room_again(chain: Chain, tmp_path: Path, name: str, kib: int) -> None:
    command = COMMANDS[name](chain)
    with disk_at(tmp_path / "disk", kib=kib) as disk:
        assert_refused(disk, command, "No space left on device")
        disk.grow(kib=ROOM_KIB)
        done = disk.run(command)
        assert done.returncode == 0, done.stderr[-3000:]
