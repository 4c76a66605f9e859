"""The three stages in order: phantom data, kill -9 on the way, finished and refused runs.

What is killed is started as users start it. All else is called in this process, since each start of a script imports
for seconds.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import stage1_classify.run
import stage2_pseudolabel.run
import stage3_detect.run
from cxr.cli import EXIT_DONE, EXIT_USER, exit_code, parse_stage_arguments
from cxr.runs.run_folder import open_run
from eval.experiments.reproduce import SCRIPTS, differences_of
from eval.run import main as evaluate
from tests.paths import ROOT

STAGES = {
    "stage1": (stage1_classify.run.main, None),
    "stage2": (stage2_pseudolabel.run.main, "stage1"),
    "stage3": (stage3_detect.run.main, "stage2"),
}
"""Name -> the script's function, and the stage before."""

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
    "train": {"num_epochs": 2, "batch_size": 8, "min_positives": 1},
}
STAGE2 = {
    "methods": ["gradcam", "layercam", "layercamfusion", "scorecambudget", "dff", "pcam"],
    "fuse_maps": [["layercamfusion", "pcam"]],
    "fuse_boxes": [["layercamfusion", "pcam"]],
    "cam": {"scorecam_budget": 4},
    "pseudo_labels": {"min_likelihood_ratio": 0.0},
    "max_faithfulness_pairs": 2,
    "num_resamples": 50,
}
STAGE3 = {
    "data": {"image_px": 64},
    "train": {"num_epochs": 1, "batch_size": 4, "learning_rate": 0.002},
    "self_training": {"max_rounds": 0},
    "export": {"formats": ["onnx"]},
    "num_resamples": 50,
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


def run(stage: str, folder: Path, *options: str) -> int:
    """A stage by its settings file in `folder`; returns the exit code."""
    main, previous = STAGES[stage]
    arguments = parse_stage_arguments(stage, [str(folder / f"{stage}.yaml"), *options], previous=previous)
    with contextlib.chdir(folder):
        return exit_code(lambda: main(arguments))


def start_and_kill(stage: str, folder: Path, *options: str, when: Path) -> None:
    """Start a stage's script and kill -9 it as soon as the file `when` is there."""
    command = [sys.executable, str(ROOT / SCRIPTS[stage]), str(folder / f"{stage}.yaml"), *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not when.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert when.exists()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a tiny experiment, the first two of which were killed once; tests/stage3_detect kills the third."""
    folder = tmp_path_factory.mktemp("chain")
    write_configs(folder)
    experiment = folder / "runs" / folder.name
    for stage, made in (("stage1", "last.ckpt"), ("stage2", "maps")):
        start_and_kill(stage, folder, when=experiment / stage / made)
        assert not (experiment / stage / "manifest.json").exists()
        assert run(stage, folder) == EXIT_DONE
    assert run("stage3", folder) == EXIT_DONE
    return experiment


def test_a_killed_stage_goes_on(chain: Path) -> None:
    assert "resuming after epoch" in (chain / "stage1" / "log.txt").read_text()
    steps = [json.loads(line)["step"] for line in (chain / "stage1" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_run_that_was_killed_is_made_again_equal_by_an_undisturbed_one(
    chain: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same seed twice: the same weights, boxes and figures."""
    with contextlib.chdir(chain.parents[1]):
        assert evaluate(["reproduce", str(chain / stage)]) == EXIT_DONE
    wanted = rf"{stage}_again: equal to .*{stage} in \d\d+ metrics and the bytes of \d+ outputs"
    assert re.search(wanted, capsys.readouterr().out)


@pytest.mark.slow
def test_a_killed_training_of_the_detector_ends_as_an_undisturbed_one(chain: Path) -> None:
    folder, killed = chain.parents[1], chain / "stage3_killed"
    out = ("--out", str(killed))
    start_and_kill("stage3", folder, *out, when=killed / "rounds" / "0" / "train" / "weights" / "last.pt")
    assert not (killed / "manifest.json").exists()
    assert run("stage3", folder, *out) == EXIT_DONE
    found = differences_of(open_run(chain / "stage3"), open_run(killed))
    assert (found.other_outputs, found.other_metrics) == ((), ())
    assert found.num_outputs > 3


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
    third = open_run(chain / "stage3")
    assert third.settings["distillation"]["num_epochs"] == 0
    assert "weights_distilled" not in third.manifest["outputs"] and not (chain / "stage3" / "distillation").exists()
    assert "training" in third.manifest["phases"] and "distillation" not in third.manifest["phases"]
    assert "start" not in open_run(chain / "stage3" / "rounds" / "0").manifest["inputs"]


def test_runs_say_that_their_data_is_synthetic(chain: Path) -> None:
    for number in (1, 2, 3):
        assert "phantom" in (chain / f"stage{number}" / "report.html").read_text().lower()


def test_a_finished_stage_says_so_and_changes_nothing(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (chain / "stage2" / "manifest.json").read_bytes()
    assert run("stage2", chain.parents[1]) == EXIT_DONE
    assert "already finished" in capsys.readouterr().err
    assert (chain / "stage2" / "manifest.json").read_bytes() == before


def test_other_settings_are_refused(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stage1", chain.parents[1], "--set", "seed=9") == EXIT_USER
    assert "settings.seed: 0 -> 9" in capsys.readouterr().err


def test_compare_makes_one_page(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["compare", *(str(chain / stage) for stage in STAGES)]) == EXIT_DONE
    assert (chain / "report.html").is_file()
    assert "GradCAM" in capsys.readouterr().out


def test_the_chains_own_files_can_be_scored(chain: Path) -> None:
    truth = chain / "stage2" / "coco" / "gt_test.json"
    found = chain / "stage3" / "coco" / "detections_detector.json"
    words = ["score", "--gt", str(truth), "--pred", f"yolo={found}", "--out", str(chain / "s")]
    assert evaluate(words) == EXIT_DONE
    metrics = json.loads((chain / "s" / "metrics.json").read_text())
    assert metrics["yolo/ap40"] == pytest.approx(open_run(chain / "stage3").metrics["ap40/detector"])
