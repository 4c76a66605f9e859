"""Images in parts: the result of all parts is that of a single call, byte for byte."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.imaging.files import write_png8
from cxr.imaging.shards import Shard
from cxr.runs.run_folder import open_run
from stage3_detect.prediction.call import Call
from stage3_detect.prediction.files import predict_files
from stage3_detect.prediction.shards import SCRIPT, predict_in_shards
from tests.stage3_detect.prediction.run_builders import make_stage3_run
from tests.stage3_detect.stage3_builders import draw_image


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stage3_run(tmp_path_factory.mktemp("runs") / "stage3")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Seven files in two folders; one cannot be read, and one is no image."""
    folder = tmp_path / "scans"
    for number in range(6):
        path = folder / ("a" if number < 4 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png8(path, draw_image(np.random.default_rng(number), num_boxes=2)[0])
    (folder / "a" / "2b.png").write_bytes(b"no picture")
    (folder / "b" / "notes.txt").write_text("no image")
    return folder


def call(run: Path, scans: Path, name: str, **changes: object) -> Call:
    given = Call(run, (scans,), scans.parent / name, points="0.0", on_problem="exclude", quality_gate="off")
    return replace(given, **changes)  # type: ignore[arg-type]


def content_of(folder: Path) -> dict[str, bytes]:
    """The results: all files but those that say when and how they were made."""
    files = [path for path in folder.rglob("*") if path.suffix == ".png" or path.name == "predictions.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_three_parts_give_the_bytes_of_one_call(run: Path, scans: Path) -> None:
    """Each part by a call of its own, as on three machines, in another order."""
    summary = predict_files(call(run, scans, "one"))
    for number, count in ((3, "3 images"), (1, "2 images"), (2, "1 image")):
        said = predict_files(call(run, scans, "three", shard=Shard(number, 3)))
        assert said.startswith(f"shard {number}/3: {count}, ")
    together = predict_in_shards(call(run, scans, "three"), 3)
    assert together == summary.replace(str(scans.parent / "one"), str(scans.parent / "three"))
    one, three = scans.parent / "one", scans.parent / "three"
    assert len(content_of(one)) == 7
    assert content_of(three) == content_of(one)
    assert open_run(three).metrics == open_run(one).metrics
    assert open_run(three).manifest["unreadable"] == open_run(one).manifest["unreadable"]
    assert not (scans.parent / "three.shards").exists()
    assert predict_in_shards(call(run, scans, "three"), 3) == together  # finished


def test_parts_of_other_images_are_refused(run: Path, scans: Path) -> None:
    for number in (1, 2):
        predict_files(call(run, scans, "out", shard=Shard(number, 2), pictures=False))
    write_png8(scans / "b" / "5.png", draw_image(np.random.default_rng(9), num_boxes=1)[0])
    with pytest.raises(UserError, match=r"(?s)2_of_2.*image_files"):
        predict_in_shards(call(run, scans, "out", pictures=False), 2)
    assert not (scans.parent / "out" / "predictions.json").exists()


def test_parts_with_other_settings_are_refused(run: Path, scans: Path) -> None:
    for number in (1, 2):
        predict_files(call(run, scans, "out", shard=Shard(number, 2), pictures=False, points="0.5"))
    with pytest.raises(UserError, match=r"(?s)1_of_2.*points"):
        predict_in_shards(call(run, scans, "out", pictures=False), 2)


@pytest.mark.slow
def test_the_command_starts_the_parts_and_resumes(run: Path, scans: Path) -> None:
    """Without a cluster and with one; of the second call, one part is there already."""
    predict_files(call(run, scans, "one"))
    options = ("--points", "0.0", "--on-problem", "exclude", "--quality-gate", "off", "--shards", "3")
    predict_files(call(run, scans, "b", shard=Shard(2, 3)))
    for name, cluster in (("a", ()), ("b", ("--cluster", "local"))):
        out = scans.parent / name
        command = [sys.executable, str(SCRIPT), str(run), str(scans), "--out", str(out), *options, *cluster]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert content_of(out) == content_of(scans.parent / "one")
