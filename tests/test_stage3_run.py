"""The whole stage as a user runs it: offline, killed in the middle, finished, with other settings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stage3_builders import make_coco, make_stage2_run

from cxr.cli import StageArguments, parse_stage_arguments
from cxr.coco import read_coco
from cxr.config import UserError
from cxr.runs import open_run
from stage3_detect.judging.evaluate import compare_with_teacher, comparison_metrics, timing_metrics, verdict
from stage3_detect.run import main

ROOT = Path(__file__).parents[1]

# Every attempt to reach the network is written down and refused; the home folder is a fresh one.
GUARD = """
import os, runpy, socket, sys
def refuse(*arguments, **options):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{arguments[:2]}\\n")
    raise OSError("no network in this test")
class NoSocket(socket.socket):
    connect = connect_ex = refuse
socket.socket, socket.getaddrinfo, socket.create_connection = NoSocket, refuse, refuse
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def given(command: list[str]) -> StageArguments:
    """What the script parses out of a command line."""
    script = next(index for index, word in enumerate(command) if word.endswith("run.py"))
    return parse_stage_arguments("stage3", command[script + 1 :], previous="stage2")


def command(folder: Path, *changes: str) -> list[str]:
    settings = ["data.image_px=64", "train.num_epochs=3", "train.batch_size=8", "train.precision=fp32"]
    small = ["num_bootstrap=20", "num_export_checks=2", "num_gallery_images=3", "device=cpu", "num_workers=1"]
    paths = ["--from", str(folder / "stage2"), "--out", str(folder / "stage3")]
    return [str(ROOT / "stage3_detect" / "run.py"), *paths, "--set", *settings, *small, *changes]


def start(folder: Path) -> "subprocess.Popen[bytes]":
    home = folder / "home"
    home.mkdir(exist_ok=True)
    settings = {"HOME": str(home), "NETWORK_LOG": str(folder / "network.log"), "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in os.environ.items() if "YOLO" not in name}
    environment = (
        kept | settings | {"ULTRALYTICS_API_KEY": "ul_" + "0" * 40, "MPLCONFIGDIR": str(folder / "mpl")}
    )
    script = [sys.executable, "-c", GUARD, *command(folder)]
    return subprocess.Popen(script, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage 3 run that was killed after its first epoch and then given the same command again."""
    folder = tmp_path_factory.mktemp("stage3")
    make_stage2_run(folder)
    first = start(folder)
    last = folder / "stage3" / "train" / "weights" / "last.pt"
    deadline = time.monotonic() + 300
    while not last.is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert last.is_file() and not (folder / "stage3" / "manifest.json").exists()
    second = start(folder)
    _, errors = second.communicate(timeout=600)
    assert second.returncode == 0, errors.decode()
    return folder


def test_killed_run_goes_on_where_it_was(folder: Path):
    assert "training goes on after epoch" in (folder / "stage3" / "log.txt").read_text()
    steps = [
        json.loads(line)["step"] for line in (folder / "stage3" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps[-1] == 3 and sorted(set(steps)) == [1, 2, 3]


def test_nothing_reached_for_the_network_or_wrote_into_the_home(folder: Path):
    assert not (folder / "network.log").exists()
    assert list((folder / "home").rglob("*")) == []


def test_run_holds_detections_weights_and_page(folder: Path):
    run = open_run(folder / "stage3", stage="stage3")
    detections = read_coco(run.output("detections_detector"))
    truth = read_coco(open_run(folder / "stage2").output("gt_test"))
    assert detections.images.equals(truth.images) and detections.findings == truth.findings
    assert len(detections.boxes) and detections.boxes["score"].min() >= 0.001
    assert run.output("weights").name == "best.pt" and run.output("onnx").name == "best.onnx"
    page = run.output("report").read_text()
    assert "CAM teacher (pcam)" in page and str(folder) not in page


def test_figures_have_their_names(folder: Path):
    metrics = open_run(folder / "stage3").metrics
    for name in ("detector", "teacher", "prior_mean_box", "prior_center_box"):
        for key in (f"ap40/{name}", f"ap40/{name}/low", f"ap40/{name}/high", f"ap40/{name}/nodule_mass/high"):
            assert metrics[key] is not None
    assert {"ap10/detector", "ap30/detector", "ap50/detector", "ap70/detector", "ap5095/detector"} <= set(
        metrics
    )
    assert metrics["ms_per_image/teacher"] == 50.0 and metrics["ms_per_image/detector"] > 0
    assert metrics["ms_per_image/detector/p99"] >= metrics["ms_per_image/detector"]
    assert metrics["onnx/box_difference_px"] <= 1 and metrics["onnx/score_difference"] <= 1e-3


def test_weights_hold_no_path_of_this_machine(folder: Path):
    data = (folder / "stage3" / "weights" / "best.pt").read_bytes()
    assert str(folder).encode() not in data and str(ROOT).encode() not in data
    assert not list((folder / "stage3" / "weights").glob("*.partial"))


def test_finished_run_says_so_and_other_settings_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.chdir(ROOT)
    manifest = (folder / "stage3" / "manifest.json").read_bytes()
    main(given(command(folder)))
    assert (folder / "stage3" / "manifest.json").read_bytes() == manifest
    assert "nothing to do" in (folder / "stage3" / "log.txt").read_text()
    with pytest.raises(UserError, match=r"settings.train.lr: 0.002 -> 0.5"):
        main(given(command(folder, "train.lr=0.5")))


def test_teacher_that_is_right_beats_a_detector_that_sees_nothing(folder: Path):
    stage2 = open_run(folder / "stage2")
    truth = read_coco(stage2.output("gt_test"))
    nothing = truth.with_boxes(truth.boxes.iloc[:0].assign(score=[]))
    comparison = compare_with_teacher(nothing, stage2, num_resamples=50, seed=0)
    metrics = comparison_metrics(comparison)
    assert metrics["ap40/detector"] == 0 and metrics["ap40/teacher"] == pytest.approx(1)
    assert metrics["ap40/detector_minus_teacher"] == pytest.approx(-1)
    assert verdict(comparison).startswith("The detector is clearly worse")
    same = compare_with_teacher(comparison.scored["teacher"].predictions, stage2, num_resamples=50, seed=0)
    assert verdict(same).startswith("No clear difference")


def test_timings_of_no_image_are_absent(folder: Path):
    stage2 = open_run(folder / "stage2")
    empty = timing_metrics(np.zeros(0), stage2, "pcam")
    assert empty == {"ms_per_image/detector": None, "ms_per_image/teacher": 50.0}


def test_builder_is_deterministic(tmp_path: Path):
    first, second = (make_coco(tmp_path / name, "x", num_images=4, seed=3) for name in "ab")
    assert first.boxes.equals(second.boxes)
