"""Two processes make the maps of a split as one does, also where others stopped; the real kill -9 is slow."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stage2_pseudolabel.cam_maps.processes import make_processes
from stage2_pseudolabel.cam_maps.store import SplitMaps
from tests.paths import ROOT
from tests.stage1_classify.stage1_builders import patch_folder
from tests.stage2_pseudolabel.cam_maps.distributed_maps import maps_of
from tests.stage2_pseudolabel.cam_maps.teacher_builders import METHODS

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# 22 images are 6 parts of 4; the image of a bad file is in the third.
NUM_IMAGES, BAD = 22, 9
STARTS = [0, 4, 8, 12, 16, 20]


def launch(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [
        *TORCHRUN,
        str(ROOT / "tests" / "stage2_pseudolabel" / "cam_maps" / "distributed_maps.py"),
        str(data),
        str(out),
        *more,
    ]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def parts_in(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in sorted(folder.glob("tune_*.npz"))}


def start_of(part: str) -> int:
    return int(part.split("_")[1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = patch_folder(tmp_path_factory.mktemp("maps") / "data", num_images=NUM_IMAGES)
    image = root / "images" / f"p{BAD:03d}.png"
    image.write_bytes(image.read_bytes()[:60])
    return root


@pytest.fixture(scope="module")
def one(data: Path) -> SplitMaps:
    """By this process alone."""
    return maps_of(data, data.parent / "one" / "maps", make_processes())


@dataclass(frozen=True)
class Begun:
    """A job that stopped on the way. out: its folder. whole: parts that are complete, and when they were written."""

    out: Path
    whole: dict[str, int]


@dataclass(frozen=True)
class Job(Begun):
    """The same job after a second call. said: facts of each of its two processes."""

    said: list[dict[str, Any]]


@pytest.fixture(scope="module")
def stopped(data: Path, one: SplitMaps) -> Begun:
    """Files as a kill leaves them: two whole parts, a damaged one, half of another under the name of a partial file."""
    out = data.parent / "stopped"
    (out / "maps").mkdir(parents=True)
    made = sorted((data.parent / "one" / "maps").glob("tune_*.npz"))
    for part in made[1:3]:
        shutil.copy(part, out / "maps")
    whole = parts_in(out / "maps")
    (out / "maps" / made[3].name).write_bytes(made[3].read_bytes()[:-30])
    content = made[4].read_bytes()
    (out / "maps" / made[4].with_suffix(".partial").name).write_bytes(content[: len(content) // 2])
    return Begun(out, whole)


@pytest.fixture(scope="module")
def killed(data: Path) -> Begun:
    """A job whose second process was killed while it wrote its second part, one of its parts damaged afterwards."""
    out = data.parent / "killed"
    out.mkdir()
    done = launch(data, out, "1")
    assert done.returncode != 0
    assert not (out / "0.json").exists()
    (mark,) = (out / "maps").glob("killed_one_has_*")
    whole = parts_in(out / "maps")
    kept = f"{mark.name.removeprefix('killed_one_has_')}.npz"
    assert kept in whole
    assert list((out / "maps").glob("*.partial"))
    damaged = next((part for part in whole if part != kept), None)
    if damaged is not None:  # the first process may not have come to one
        (out / "maps" / damaged).write_bytes((out / "maps" / damaged).read_bytes()[:-30])
        whole.pop(damaged)
    shutil.copytree(out, data.parent / "copy")
    return Begun(out, whole)


@pytest.fixture(scope="module", params=["stopped", pytest.param("killed", marks=pytest.mark.slow)])
def job(data: Path, request: pytest.FixtureRequest) -> Job:
    """Two processes that go on."""
    begun: Begun = request.getfixturevalue(request.param)
    done = launch(data, begun.out)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads((begun.out / f"{rank}.json").read_text()) for rank in range(2)]
    return Job(begun.out, begun.whole, said)


def test_the_processes_know_each_other(job: Job) -> None:
    for rank, facts in enumerate(job.said):
        names = ("rank", "count", "is_first", "device", "told")
        assert [facts[name] for name in names] == [rank, 2, rank == 0, "cpu", {"by": 0}]


def test_a_process_alone_waits_for_nobody() -> None:
    alone = make_processes()
    alone.wait()
    assert (alone.rank, alone.count, alone.is_first, alone.from_first("value")) == (0, 1, True, "value")


def test_two_processes_give_what_one_gives_bit_for_bit(job: Job, one: SplitMaps) -> None:
    """Both of them, though the job was stopped on the way."""
    for rank in range(2):
        with np.load(job.out / f"{rank}.npz") as found:
            np.testing.assert_array_equal(found["probabilities"], one.probabilities)
            for method in METHODS:
                assert found[method].shape == (NUM_IMAGES, 2, 4, 6)
                np.testing.assert_array_equal(found[method], one.maps[method])


def test_a_repeated_job_takes_up_the_whole_parts_and_makes_the_others(job: Job) -> None:
    there = parts_in(job.out / "maps")
    assert [start_of(part) for part in there] == STARTS
    assert job.whole
    for part, stamp in job.whole.items():
        assert there[part] == stamp
    made = [facts["computed"] for facts in job.said]
    expected = [start for start in STARTS if start not in map(start_of, job.whole)]
    assert sorted(made[0] + made[1]) == expected
    assert set(made[0]) <= set(STARTS[::2])
    assert set(made[1]) <= set(STARTS[1::2])


@pytest.mark.slow
def test_one_process_goes_on_where_two_were_killed(data: Path, killed: Begun, one: SplitMaps) -> None:
    folder = data.parent / "copy" / "maps"
    stamps = {part: parts_in(folder)[part] for part in killed.whole}
    found = maps_of(data, folder, make_processes())
    np.testing.assert_array_equal(found.probabilities, one.probabilities)
    for method in METHODS:
        np.testing.assert_array_equal(found.maps[method], one.maps[method])
    assert {part: parts_in(folder)[part] for part in killed.whole} == stamps


def test_a_bad_image_is_named_in_all_processes_and_the_rest_is_there(job: Job, one: SplitMaps) -> None:
    named = [[f"images/p{BAD:03d}", "image that cannot be decoded"]]
    assert [facts["bad"] for facts in job.said] == [named, named]
    assert [[item.what, item.reason] for item in one.bad] == named
    assert [row for row in range(NUM_IMAGES) if not one.maps["gradcam"][row].any()] == [BAD]
