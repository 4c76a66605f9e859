"""The three scripts in order, as users call them: phantom data, a kill -9 on the way, finished and refused runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cxr.runs.run_folder import open_run
from tests.paths import ROOT

DRAWING = {
    "num_patients_train": 40,
    "num_patients_valid": 24,
    "num_vindr_train": 14,
    "num_vindr_test": 16,
    "normal_share": 0.3,
}

STAGE1 = {
    "findings": ["Cardiomegaly", "Lung Opacity"],
    "backbone": {"name": "test_convnext", "feature_stage": 1},
    "input": {"size_hw": [48, 64]},
    "optimizer": {"learning_rate": 0.003},
    "train": {"num_epochs": 3, "batch_size": 8, "min_positives": 1},
}
STAGE2 = {
    "methods": ["gradcam", "layercam", "layercamfusion", "scorecambudget", "dff", "pcam"],
    "fuse_maps": [["layercamfusion", "pcam"]],
    "fuse_boxes": [["layercamfusion", "pcam"]],
    "cam": {"scorecam_budget": 4},
    "pseudo_labels": {"min_probability": 0.0},
    "max_faithfulness_pairs": 2,
    "num_resamples": 50,
}
STAGE3 = {
    "data": {"image_px": 64},
    "train": {"num_epochs": 1, "batch_size": 4, "learning_rate": 0.002},
    "self_training": {"max_rounds": 0},
    "export": {"formats": ["onnx"]},
    "num_workers": 0,
}


def write_configs(folder: Path) -> None:
    """The demo's settings with a tiny size, in a folder that is the experiment's name."""
    for stage, changes in (("stage1", STAGE1), ("stage2", STAGE2), ("stage3", STAGE3)):
        values = yaml.safe_load((ROOT / "configs" / "demo" / f"{stage}.yaml").read_text())
        for key, value in changes.items():
            values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
        if stage != "stage3":
            values["data"] |= {"root": str(folder / "data"), "generate": DRAWING}
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(values))


def call(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def start_and_kill(script: str, config: Path, *, cwd: Path, when: Path) -> None:
    """Start a script and kill -9 it as soon as the file `when` is there."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / script), str(config)],
        cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not when.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert when.exists()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of a tiny experiment, each of which was killed once."""
    folder = tmp_path_factory.mktemp("chain")
    write_configs(folder)
    experiment = folder / "runs" / folder.name
    for stage, script, made in (
        ("stage1", "stage1_classify/run.py", "last.ckpt"),
        ("stage2", "stage2_pseudolabel/run.py", "maps"),
        ("stage3", "stage3_detect/run.py", "rounds/0/train/weights/last.pt"),
    ):
        start_and_kill(script, folder / f"{stage}.yaml", cwd=folder, when=experiment / stage / made)
        assert not (experiment / stage / "manifest.json").exists()
        done = call(script, str(folder / f"{stage}.yaml"), cwd=folder)
        assert done.returncode == 0, done.stderr[-3000:]
    return experiment


def test_a_killed_stage_goes_on(chain: Path) -> None:
    assert "resuming after epoch" in (chain / "stage1" / "log.txt").read_text()
    steps = [json.loads(line)["step"] for line in (chain / "stage1" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3]


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_a_run_that_was_killed_is_made_again_equal_by_an_undisturbed_one(chain: Path, stage: str) -> None:
    """The same seed twice: the same weights, boxes and figures."""
    done = call("eval/run.py", "reproduce", str(chain / stage), cwd=chain.parents[1])
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(rf"{stage}_again: equal to .*{stage} in \d\d+ metrics and the bytes of \d+ outputs", done.stdout)


def test_figures_have_their_names(chain: Path) -> None:
    first, second, third = (open_run(chain / f"stage{n}").metrics for n in (1, 2, 3))
    for name in ("auroc/mean", "auroc/cardiomegaly", "f1/mean", "auprc/mean", "auroc/mean/low"):
        assert name in first
    fused = [f"{kind}_layercamfusion+pcam" for kind in ("maps", "boxes")]
    for method in (*STAGE2["methods"], *fused, "prior_mean_box", "prior_center_box", "prior_no_map"):
        assert f"ap40/{method}" in second
        assert f"ap40/{method}/cardiomegaly" in second
    assert second["ms_per_image/pcam"] is not None
    assert second["peak_mib/pcam"] is not None
    assert all(second[f"{what}/{name}"] is not None for name in fused for what in ("ms_per_image", "road", "deletion"))
    assert "blank_ap40" in second
    for name in ("ap40/detector", "ap40/teacher", "ap40/prior_mean_box", "ms_per_image/detector"):
        assert name in third
    best = open_run(chain / "stage2").manifest["best_method"]
    assert third["ap40/teacher"] == pytest.approx(second[f"ap40/{best}"])


def test_without_a_distillation_nothing_of_it_runs(chain: Path) -> None:
    run = open_run(chain / "stage3")
    assert run.settings["distillation"]["num_epochs"] == 0
    assert "weights_distilled" not in run.manifest["outputs"] and not (chain / "stage3" / "distillation").exists()
    assert "training" in run.manifest["phases"] and "distillation" not in run.manifest["phases"]
    assert "start" not in open_run(chain / "stage3" / "rounds" / "0").manifest["inputs"]


def test_runs_say_that_their_data_is_synthetic(chain: Path) -> None:
    for number in (1, 2, 3):
        assert "phantom" in (chain / f"stage{number}" / "report.html").read_text().lower()


def test_a_finished_stage_says_so_and_changes_nothing(chain: Path) -> None:
    folder = chain.parent.parent
    before = (chain / "stage2" / "manifest.json").read_bytes()
    done = call("stage2_pseudolabel/run.py", str(folder / "stage2.yaml"), cwd=folder)
    assert done.returncode == 0
    assert "already finished" in done.stderr
    assert (chain / "stage2" / "manifest.json").read_bytes() == before


def test_other_settings_are_refused(chain: Path) -> None:
    folder = chain.parent.parent
    done = call("stage1_classify/run.py", str(folder / "stage1.yaml"), "--set", "seed=9", cwd=folder)
    assert done.returncode == 2
    assert "settings.seed: 0 -> 9" in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_makes_one_page(chain: Path) -> None:
    done = call("eval/run.py", "compare", *(str(chain / f"stage{n}") for n in (1, 2, 3)), cwd=chain)
    assert done.returncode == 0, done.stderr
    assert (chain / "report.html").is_file()
    assert "GradCAM" in done.stdout


def test_the_chains_own_files_can_be_scored(chain: Path) -> None:
    truth = chain / "stage2" / "coco" / "gt_test.json"
    found = chain / "stage3" / "coco" / "detections_detector.json"
    done = call(
        "eval/run.py", "score", "--gt", str(truth), "--pred", f"yolo={found}", "--out", str(chain / "s"), cwd=chain
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((chain / "s" / "metrics.json").read_text())
    assert metrics["yolo/ap40"] == pytest.approx(open_run(chain / "stage3").metrics["ap40/detector"])
