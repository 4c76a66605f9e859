"""Experiments of stage 3: settings, plan, all of it with a script in place of trainings, and a tiny real one."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxr.cli import StageArguments
from cxr.config import UserError, load_config
from cxr.runs.run_folder import open_run
from eval.leaderboard.compare import compare_runs
from eval.report.blocks import Table, read_report
from stage3_detect.experiments import experiment
from stage3_detect.experiments.experiment import make_plan
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.settings.experiments import DetectorExperimentSettings
from stage3_detect.study import main
from tests.paths import ROOT
from tests.stage3_detect.experiments.experiment_builders import (
    VARIANTS,
    experiment_settings,
    pretended_script,
    write_base,
    write_run,
)
from tests.stage3_detect.stage3_builders import make_stage2_run

STAGE2 = Path("stage2")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path)


# Settings


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"variants": {"good": {}}}, "at least 2 items"),
        ({"reference": "best"}, "reference 'best' is none of good, bad"),
        ({"seeds": [1, 1]}, "each seed must be given once"),
        ({"variants": VARIANTS | {"teacher": {}}}, "teacher: other metrics have this name"),
        ({"variants": VARIANTS | {"prior_x": {}}}, "prior_x: other metrics"),
        ({"variants": VARIANTS | {"a/b": {}}}, "should match pattern"),
        ({"compare_with": {"bad": "runs/x"}}, "compare_with: bad is already a variant"),
        ({"curve": {"label": "x", "lines": {"a": {"worse": 1}}}}, "curve: worse is none of good, bad"),
        ({"curve": {"label": "x", "lines": {}}}, "at least 1 item"),
        ({"beside": {"x": "runs/x"}}, "beside: renamed, use compare_with"),
        ({"num_resamples": 39}, "1 comparisons need 40 or more"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(base: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        experiment_settings(base, **changes)


# The plan


def test_every_variant_is_trained_once_with_each_seed(base: Path, tmp_path: Path) -> None:
    settings = experiment_settings(base, seeds=[3, 7], overrides={"train": {"num_epochs": 2}})
    plan = make_plan(settings, tmp_path / "out", stage2=STAGE2)
    assert [job.name for job in plan.jobs] == ["good seed 3", "good seed 7", "bad seed 3", "bad seed 7"]
    assert plan.runs["", "bad"] == {seed: tmp_path / f"out/runs/bad_s{seed}" for seed in (3, 7)}
    script, *rest = plan.jobs[3].command
    assert Path(script) == ROOT / "stage3_detect" / "run.py"
    given = ["train.num_epochs=2", "noise.box_weights=false", "seed=7"]
    assert rest == [str(base), "--from", "stage2", "--set", *given]
    read = load_config(Stage3Settings, base, given)
    assert (read.train.num_epochs, read.train.batch_size, read.noise.box_weights, read.seed) == (2, 8, False, 7)


def test_equal_settings_are_trained_once_however_they_are_written(base: Path, tmp_path: Path) -> None:
    same = {"noise": {"box_weights": True}, "labels.normals_per_positive": 0.5}
    plan = make_plan(experiment_settings(base, variants=VARIANTS | {"same": same}), tmp_path, stage2=STAGE2)
    assert [job.name for job in plan.jobs] == ["good seed 0", "bad seed 0"]
    assert plan.runs["", "same"] == plan.runs["", "good"]


def test_all_problems_are_reported_at_once(base: Path, tmp_path: Path) -> None:
    wrong = {"typo": {"noise.box_weigths": 1}, "range": {"train.learning_rate": -1}, "seeded": {"seed": 3}}
    settings = experiment_settings(base, variants=VARIANTS | wrong, seeds=[0, 1])
    with pytest.raises(UserError) as error:
        make_plan(settings, tmp_path, stage2=STAGE2)
    typo, below, seeded = error.value.problems
    assert typo.startswith("typo: ")
    assert "unknown key 'noise.box_weigths'; nearest: 'noise.box_weights'" in typo
    assert below.startswith("range: ")
    assert seeded == "seeded: seed is among its changes; give it under `seeds` instead"


# The whole


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stage2_run(tmp_path_factory.mktemp("made"), num_train=3, num_test=40)


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = pretended_script(tmp_path)
    monkeypatch.setattr(experiment, "TRAINING", script)
    return script


def finish(settings: DetectorExperimentSettings, stage2: Path, out: Path, *changes: str) -> Path:
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
    problems = []
    try:
        main(StageArguments(config, out, (stage2,), changes))
    except UserError as error:  # not passed on as it is: its frames would keep the folder locked
        problems = error.problems
    if problems:
        raise UserError(problems)
    return out


def trainings(out: Path) -> dict[str, int]:
    """How often each run was begun."""
    return {path.parent.name: len(path.read_text().splitlines()) for path in sorted(out.glob("runs/*/began.txt"))}


def main_rows(out: Path) -> dict[str, Any]:
    report = read_report(out)
    assert report is not None
    table = next(block for block in report.blocks if isinstance(block, Table))
    return {str(row[0]): row for row in table.rows}


def test_an_experiment_from_settings_to_verdicts(
    base: Path, stage2: Path, tmp_path: Path, pretended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "supervised", open_run(stage2), skill=1.0, seed=5)
    variants = VARIANTS | {"same": {"noise.box_weights": True}}
    settings = experiment_settings(
        base, variants=variants, seeds=[0, 1], num_parallel=2, compare_with={"supervised": tmp_path / "supervised"}
    )
    run = open_run(finish(settings, stage2, tmp_path / "out"), stage="study")
    assert trainings(run.dir) == {"good_s0": 1, "good_s1": 1, "bad_s0": 1, "bad_s1": 1}
    rows = main_rows(run.dir)
    assert rows["bad"][3].startswith("significant: -0.")
    assert rows["same"][3].startswith("not significant: +0.000")
    assert rows["supervised (finished run)"][1].startswith("1.000")
    assert run.metrics["ap40/bad_minus_reference/high"] < 0
    assert run.metrics["share_of_supervised/good"] == pytest.approx(run.metrics["ap40/good"])
    assert run.manifest["runs"]["same"] == run.manifest["runs"]["good"] == {
        "0": "runs/good_s0", "1": "runs/good_s1",
    }  # fmt: skip
    assert (run.manifest["reference"], run.manifest["teacher_method"]) == ("good", "pcam")
    assert run.manifest["synthetic"] is True
    assert set(run.manifest["inputs"]) == {"base", "stage2", "compare_with_supervised"}
    assert f"finished: {run.dir}" in capsys.readouterr().out
    page = run.output("report").read_text()
    assert 'class="banner"' in page and str(tmp_path) not in page
    assert compare_runs([run.dir], out=tmp_path / "compared").is_file()
    finish(settings, stage2, run.dir)
    assert set(trainings(run.dir).values()) == {1}
    with pytest.raises(UserError, match=r"settings\.seeds: \[0, 1\] -> \[0, 2\]"):
        finish(settings, stage2, run.dir, "seeds=[0,2]")


def test_a_failed_variant_is_named_and_tried_again(base: Path, stage2: Path, tmp_path: Path, pretended: Path) -> None:
    settings = experiment_settings(base, variants=VARIANTS | {"lost": {"train.learning_rate": 0.9}})
    out = tmp_path / "out"
    with pytest.raises(UserError) as error:
        finish(settings, stage2, out)
    assert error.value.problems == [
        "study: 1 of 3 runs failed; the tables lack them",
        "lost seed 0: training: the loss is nan",
    ]
    assert not (out / "manifest.json").exists()
    rows = main_rows(out)
    assert rows["lost"][2] == "failed: training: the loss is nan"
    assert rows["bad"][2].startswith("significant, one training: ")
    pretended.write_text(pretended.read_text().replace("== 0.9", "== 10"))
    finish(settings, stage2, out)
    assert trainings(out) == {"good_s0": 1, "bad_s0": 1, "lost_s0": 2}
    assert open_run(out).metrics["ap40/lost"] is not None


def test_every_run_failing_is_an_error(base: Path, stage2: Path, tmp_path: Path, pretended: Path) -> None:
    settings = experiment_settings(base, overrides={"train.learning_rate": 0.9})
    with pytest.raises(UserError, match="every run failed"):
        finish(settings, stage2, tmp_path / "out")


def test_runs_to_compare_with_are_checked_before_training(
    base: Path, stage2: Path, tmp_path: Path, pretended: Path
) -> None:
    other = open_run(make_stage2_run(tmp_path / "other", num_train=3, num_test=9))
    write_run(tmp_path / "foreign", other, skill=0.8, seed=1)
    settings = experiment_settings(base, compare_with={"foreign": tmp_path / "foreign"})
    with pytest.raises(UserError, match="test images"):
        finish(settings, stage2, tmp_path / "out")
    assert trainings(tmp_path / "out") == {}


def test_one_stage_2_run_is_needed(base: Path, tmp_path: Path) -> None:
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(experiment_settings(base).model_dump(mode="json")))
    with pytest.raises(UserError, match="got 0 runs, expected one finished stage 2 run"):
        main(StageArguments(config, tmp_path / "out", (), ()))


@pytest.mark.slow
def test_a_real_experiment_that_was_killed_trains_nothing_twice(tmp_path: Path) -> None:
    base = write_base(tmp_path, export={"formats": []})
    stage2 = make_stage2_run(tmp_path, num_train=24, num_test=9)
    off = {"box_weights": False, "ignore_regions": False, "image_labels": False, "shared_boxes_iou": None}
    settings = experiment_settings(base, variants={"good": {}, "all_off": {"noise": off}})
    config, out = tmp_path / "study.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
    script = str(ROOT / "stage3_detect" / "study.py")
    command = [sys.executable, script, str(config), "--from", str(stage2), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    while not (out / "runs" / "all_off_s0" / "started.json").exists():
        assert process.poll() is None
        assert time.monotonic() - begin < 600
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (out / "runs/good_s0/manifest.json").stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "runs/good_s0/manifest.json").stat().st_mtime_ns == before
    run = open_run(out, stage="study")
    for variant in ("good", "all_off"):
        trained = open_run(out / "runs" / f"{variant}_s0", stage="stage3")
        assert trained.settings["noise"]["box_weights"] is (variant == "good")
        assert run.metrics[f"ap40/{variant}"] == pytest.approx(trained.metrics["ap40/detector"])
    assert run.metrics["ap40/teacher"] == pytest.approx(trained.metrics["ap40/teacher"])
    assert run.metrics["comparisons"] == 1
