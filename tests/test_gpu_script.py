"""tests/benchmarks/gpu.sh runs, here on the CPU with tiny sizes; and its own arithmetic."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.paths import ROOT

sys.path.append(str(ROOT / "tests" / "benchmarks"))

import bench_train
import gpu
import gpu_parts
import gpu_sizes
import gpu_wheels

Finished = tuple[dict[str, Any], "subprocess.CompletedProcess[str]", Path]

CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}


STARTED = ("device", "detector_predict", "detector_tensorrt")
"""Parts that the script starts here. The others run in the test's own process, which saves seconds of imports each."""

CHAIN = ("stages", "manifest")
"""Parts that take half a minute even when they are tiny."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> gpu_parts.Job:
    return gpu_parts.Job("cpu", tmp_path_factory.mktemp("parts"), gpu_sizes.TINY)


@pytest.fixture(scope="module")
def figures(job: gpu_parts.Job) -> dict[str, dict[str, Any]]:
    """Figures of the other parts that run here, by part."""
    names = [name for name in gpu.LIMITS_S if name not in (*STARTED, *CHAIN, "tests")]
    return {name: figures_of(name, job) for name in names}


@pytest.fixture(scope="module")
def chain_figures(job: gpu_parts.Job) -> dict[str, dict[str, Any]]:
    """Figures of the parts that run all stages, by part."""
    return {name: figures_of(name, job) for name in CHAIN}


def figures_of(name: str, job: gpu_parts.Job) -> dict[str, Any]:
    return {key: value for found in gpu_parts.PARTS[name](job) for key, value in found.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The report of a tiny run, its process, and the folder in which it could leave something."""
    folder = tmp_path_factory.mktemp("g")
    for name in ("tmp", "home"):
        (folder / name).mkdir()
    environment = os.environ | CPU | {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")}
    done = subprocess.run(
        [ROOT / "tests" / "benchmarks" / "gpu.sh", "--tiny", "--parts", *STARTED],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1]), done, folder


def test_the_last_line_is_one_object_and_every_part_is_in_it(finished: Finished) -> None:
    report, done, _ = finished
    statuses = {name: part["status"] for name, part in report["parts"].items()}
    expected = {"device": "done", "detector_predict": "done", "detector_tensorrt": "skipped"}
    assert statuses == expected, [part["reason"] for part in report["parts"].values()]
    assert done.returncode == 0
    assert report["tiny"] is True
    assert report["wheels"] == {"missing": [], "other_torch": None}
    assert sum(part["seconds"] for part in report["parts"].values()) <= report["seconds"]


def test_nothing_is_left_behind(finished: Finished) -> None:
    _, _, folder = finished
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == ["home", "tmp"]


def test_figures_of_the_script_are_plausible(finished: Finished) -> None:
    found = {name: part["figures"] for name, part in finished[0]["parts"].items()}
    assert found["device"]["torch"] == torch.__version__
    assert found["device"]["gpus"] == []
    assert 0 < found["detector_predict"]["torch/engine"] <= found["detector_predict"]["torch/whole"]
    assert found["detector_predict"]["torch/batch2"] > 0
    assert found["detector_tensorrt"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_eager", "train_compiled"])
def test_figures_of_training_are_plausible(figures: dict[str, dict[str, Any]], name: str) -> None:
    assert figures[name]["images_per_second"] > 1
    assert 0 < figures[name]["share_of_measured_peak"] < 1
    assert figures[name]["reaches_aim"] is None


@pytest.mark.slow
def test_figures_of_the_maps_are_plausible(figures: dict[str, dict[str, Any]]) -> None:
    found = figures["cam"]
    assert all(found[f"{name}/{side}"] > 0 for name in ("layercam", "scorecam") for side in ("ours", "library"))
    assert found["one_pass/ratio"] > 1
    assert found["scorecambudget/ours"] > 0


@pytest.mark.slow
def test_figures_of_the_detectors_training_are_plausible(figures: dict[str, dict[str, Any]]) -> None:
    assert figures["detector_train"]["images_per_second"] > 0.1


@pytest.mark.slow
def test_figures_of_the_stages_are_plausible(chain_figures: dict[str, dict[str, Any]], job: gpu_parts.Job) -> None:
    assert 0 <= chain_figures["stages"]["stage1/auroc/mean"] <= 1
    assert chain_figures["stages"]["stage2/seconds"] > 0
    assert 0 <= chain_figures["stages"]["stage3/ap40/detector"] <= 1
    assert [chain_figures["manifest"][f"{stage}/gpus"] for stage in gpu_parts.STAGES] == [[], [], []]
    assert list((job.folder / "cache").rglob("pictures.bin"))  # not beside the real data


def test_the_parts_have_limits_and_the_whole_ends_within_9_minutes() -> None:
    assert list(gpu_parts.PARTS) == list(gpu.LIMITS_S)
    assert gpu.TOTAL_S < 540
    assert max(gpu.LIMITS_S.values()) < gpu.TOTAL_S


def test_a_part_out_of_time_is_ended_and_named(tmp_path: Path) -> None:
    report = gpu.run_part("stages", tmp_path, limit_s=0.2, tiny=True)
    assert report["status"] == "out of time"
    assert "0.2 s" in report["reason"]
    assert report["figures"] == {}


def test_a_part_without_time_left_is_not_started(tmp_path: Path) -> None:
    report = gpu.run_part("cam", tmp_path, limit_s=-3, tiny=True)
    assert (report["status"], report["seconds"]) == ("out of time", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_part_that_fails_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lacking = gpu.run_part("manifest", tmp_path, limit_s=60, tiny=True)
    assert lacking["status"] == "failed"
    assert "stage1" in lacking["reason"]
    without_gpu = gpu.run_part("manifest", tmp_path, limit_s=60, tiny=False)
    assert without_gpu["status"] == "failed"
    assert "CUDA" in without_gpu["reason"]


@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (4, False), (8, False), (4, True)])
def test_each_gradient_of_a_convolution_costs_what_the_forward_costs(groups: int, transposed: bool) -> None:
    kind = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    layer = kind(8, 16, 3, padding=1, stride=2, groups=groups, bias=False)
    images = torch.randn(2, 8, 10, 14, requires_grad=True)
    places = 10 * 14 if transposed else 5 * 7
    forward = 2 * 2 * places * 9 * 8 * 16 / groups / 1e12
    assert bench_train.tflop_of(lambda: layer(images)) == pytest.approx(forward)

    def step() -> torch.Tensor:
        loss = layer(images).sum()
        loss.backward()
        return loss

    assert bench_train.tflop_of(step) == pytest.approx(3 * forward)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989.0),
        ("NVIDIA GH200 480GB", 989.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40", 181.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 4090", 165.0),
        ("Tesla T4", None),
    ],
)
def test_the_peak_is_that_of_the_card(name: str, peak: float | None) -> None:
    assert bench_train.nominal_peak(name) == peak


def test_missing_wheels_are_named_with_those_they_need(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\ndependencies = ["numpy>=1", "Absent-One>=2"]\n'
        '[project.optional-dependencies]\ntrain = ["torch"]\n'
    )
    (tmp_path / "requirements.lock").write_text(
        "absent-one==2.1 \\\n    --hash=sha256:00\n    # via raybox (pyproject.toml)\n"
        "absent-two==3.0 ; python_full_version >= '3.11' \\\n    --hash=sha256:00\n    # via\n    #   absent-one\n"
        "absent-three==1.0 ; sys_platform == 'win32' \\\n    # via absent-one\n"
        "absent-four==1.0 \\\n    # via numpy\n"
        "numpy==1.26 \\\n    # via absent-one\n"
        "torch==0.1 \\\n    # via raybox (pyproject.toml)\n"
    )
    assert gpu_wheels.missing_wheels(tmp_path) == ["absent-one==2.1", "absent-two==3.0"]
    assert gpu_wheels.wrong_torch(tmp_path) == version("torch")


def test_the_script_needs_python_alone() -> None:
    """A bare machine gets the list of what it lacks."""
    code = "import sys; sys.path.append('tests/benchmarks'); import gpu; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
