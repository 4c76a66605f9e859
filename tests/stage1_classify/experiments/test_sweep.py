"""Sweeps. Most tests replace the training by a script with a known optimum."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from cxr.cli import StageArguments
from cxr.config import UserError, load_config, parse_settings
from cxr.runs.jobs import flatten
from cxr.runs.run_folder import Run, open_run, start_run
from cxr.tracking import Tracker, read_log
from eval.leaderboard.compare import compare_runs
from eval.report.blocks import Table, read_report
from stage1_classify.experiments.sweep_space import check_space, wandb_sweep_config
from stage1_classify.experiments.sweep_trials import Trial, Trials
from stage1_classify.experiments.sweep_work import Sweep, kept_figure, make_trial, work
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.experiments import SweepSettings
from stage1_classify.sweep import main
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

PRETENDED = """
import math, os, sys, time
from cxr.cli import exit_code, parse_stage_arguments
from cxr.config import Settings, UserError, load_config
from cxr.runs.run_folder import start_run
from cxr.tracking import Tracker, read_log

class Whatever(Settings, extra="allow"):  # stage 1's settings take a second to import
    optimizer: dict

def main():
    given = parse_stage_arguments("stage1")
    settings = load_config(Whatever, given.config, given.overrides)
    rate = settings.optimizer["learning_rate"]
    run = start_run(given.out, stage="stage1", settings=settings, inputs={})
    if run.state == "finished":
        return
    if rate > 0.05:
        raise UserError("training: the loss is nan")
    best = 1 - abs(math.log10(rate) + 2) / 5  # highest at 0.01
    tracker = Tracker(run.dir)
    for epoch, auroc in list(enumerate((best - 0.1, best, 0.99), start=1))[len(read_log(run.dir)):]:
        time.sleep(float(os.environ.get("EPOCH_S", "0")))
        tracker.log(epoch, {"val/auroc": auroc, "val/loss": 1 - auroc, "val/f1": None})
    log = run.dir / "metrics.jsonl"
    run.finish({"auroc/mean": best - 0.05, "auroc/lung_lesion": best}, {"log": log}, best_epoch=2,
               findings=settings.findings, synthetic=True)

sys.exit(exit_code(main))
"""

LEARNING_RATE = {"low": 0.001, "high": 0.04, "log": True}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "stage1.yaml"
    path.write_text(yaml.safe_dump(stage1_settings(tmp_path / "data").model_dump(mode="json")))
    return path


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run a script that is quick and has its best AUROC at a learning rate of 0.01, and none above 0.05."""
    from stage1_classify.experiments import sweep_work

    script = tmp_path / "run.py"
    script.write_text(PRETENDED)
    monkeypatch.setattr(sweep_work, "TRAINING", script)


def sweep_settings(base: Path, **changes: Any) -> SweepSettings:
    values = {"base": str(base), "space": {"optimizer.learning_rate": LEARNING_RATE}, "num_trials": 3}
    return parse_settings(SweepSettings, values | changes, source="sweep.yaml")


def sweep(settings: SweepSettings, out: Path) -> Path:
    check_space(settings)
    run = start_run(out, stage="sweep", settings=settings, inputs={"base": settings.base})
    try:
        if run.state != "finished":
            Sweep(run, settings)()
    finally:
        run.release()
    return out


def trials_in(out: Path) -> list[Trial]:
    settings = load_config(SweepSettings, out / "config.yaml")
    return Trials(out / "trials", settings).all()


def tried(trials: Trials, figure: Callable[[dict[str, Any]], float], count: int) -> list[Trial]:
    """Make trials without a training."""
    made = []
    for _ in range(count):
        trial = trials.take()
        assert trial is not None
        made.append(replace(trial, state="finished", figure=figure(trial.values)))
        trials.end(made[-1])
    return made


# What may be searched


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "at least 1 item"),
        ({"space": {"a": {"low": 2, "high": 1}}}, "low must be below high"),
        ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "log needs a low above 0"),
        ({"space": {"a": {"low": 0.5, "high": 2, "integer": True}}}, "integer needs whole numbers"),
        ({"space": {"a": {"choices": []}}}, "at least 1 item"),
        ({"metric": "auroc/mean"}, "Input should be 'val/auroc'"),
        ({"metric": "val/loss"}, "val/loss must be minimized"),
        ({"direction": "minimize"}, "every other metric maximized"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(base: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sweep_settings(base, **changes)


def test_every_key_and_value_of_the_space_must_be_a_setting(base: Path) -> None:
    space = {
        "optimizer.learning_rat": LEARNING_RATE,
        "train.batch_size": {"low": 4, "high": 32},
        "head.kind": {"choices": ["pcam", "pcm"]},
    }
    with pytest.raises(UserError) as error:
        check_space(sweep_settings(base, space=space))
    problems = "\n".join(error.value.problems)
    assert "unknown key 'optimizer.learning_rat'; nearest: 'optimizer.learning_rate'" in problems
    assert "train.batch_size: got 21.3" in problems  # a range of whole numbers is asked for with integer: true
    assert "head.kind: got 'pcm'" in problems
    check_space(sweep_settings(base, space={"train.batch_size": {"low": 4, "high": 32, "integer": True}}))


def test_settings_that_need_each_other_may_be_searched_together(base: Path) -> None:
    both = {"input.channels": {"choices": ["clahe3"]}, "backbone.in_channels": {"choices": [3]}}
    check_space(sweep_settings(base, space=both))
    with pytest.raises(UserError, match=r"clahe3 needs backbone\.in_channels"):
        check_space(sweep_settings(base, space={"input.channels": {"choices": ["grey", "clahe3"]}}))


def test_sections_in_overrides_change_the_keys_they_name() -> None:
    given = {"train.num_epochs": 8, "head": {"kind": "lse"}, "train": {"num_epochs": 1}, "loss.class_weights": {}}
    assert flatten(given) == {"head.kind": "lse", "train.num_epochs": 1, "loss.class_weights": {}}


# How it is searched


def test_suggestions_depend_on_seed_and_earlier_trials_alone(base: Path, tmp_path: Path) -> None:
    space = {
        "optimizer.learning_rate": LEARNING_RATE,
        "train.batch_size": {"low": 4, "high": 32, "integer": True},
        "input.size_hw": {"choices": [[32, 48], [64, 96]]},
    }
    settings = sweep_settings(base, space=space, num_trials=12)
    made = tried(Trials(tmp_path / "a", settings), lambda values: values["train.batch_size"] / 32, 12)
    for trial in made:
        assert 0.001 <= trial.values["optimizer.learning_rate"] <= 0.04
        assert trial.values["train.batch_size"] in range(4, 33)
        assert trial.values["input.size_hw"] in ([32, 48], [64, 96])
    assert len({trial.values["optimizer.learning_rate"] for trial in made}) == 12
    again = Trials(tmp_path / "b", settings)
    first = tried(again, lambda values: values["train.batch_size"] / 32, 5)
    resumed = Trials(tmp_path / "b", settings)  # another process goes on
    assert first + tried(resumed, lambda values: values["train.batch_size"] / 32, 7) == made
    assert resumed.take() is None
    other = Trials(tmp_path / "c", sweep_settings(base, space=space, sampler_seed=1)).take()
    assert other is not None
    assert other.values != made[0].values


@pytest.mark.parametrize(("direction", "metric", "sign"), [("maximize", "val/auroc", 1), ("minimize", "val/loss", -1)])
def test_the_search_goes_where_trials_were_good(
    base: Path, tmp_path: Path, direction: str, metric: str, sign: int
) -> None:
    space = {"loss.label_smoothing": {"low": 0.0, "high": 0.4}}
    settings = sweep_settings(base, space=space, direction=direction, metric=metric, num_trials=40)
    made = tried(Trials(tmp_path / "t", settings), lambda v: -sign * abs(v["loss.label_smoothing"] - 0.3), 40)
    far = [abs(trial.values["loss.label_smoothing"] - 0.3) for trial in made]
    assert sum(far[30:]) / 10 < 0.5 * sum(far[:10]) / 10


def test_importance_names_the_setting_that_mattered(base: Path, tmp_path: Path) -> None:
    space = {"loss.label_smoothing": {"low": 0.0, "high": 0.4}, "head.dropout": {"low": 0.0, "high": 0.9}}
    trials = Trials(tmp_path / "t", sweep_settings(base, space=space, num_trials=30))
    for number in range(20):
        assert (trials.importance() == {}) is (number < 10)
        trial = trials.add({"loss.label_smoothing": number * 7 % 20 / 50, "head.dropout": number / 25})
        trials.end(replace(trial, figure=number / 25))
    shares = trials.importance()
    assert next(iter(shares)) == "head.dropout"
    failed = trials.take()
    assert failed is not None
    trials.end(replace(failed, problem="nan"))
    assert trials.importance() == pytest.approx(shares)
    same = Trials(tmp_path / "same", sweep_settings(base, space=space, num_trials=30))
    tried(same, lambda values: 0.5, 12)
    assert same.importance() == {}


# Who makes which trial


def test_no_trial_is_taken_twice_and_one_that_was_interrupted_again(base: Path, tmp_path: Path) -> None:
    settings = sweep_settings(base)
    one, other = (Trials(tmp_path / "t", settings) for _ in range(2))
    assert one.all() == []
    taken = [one.take(), other.take(), one.take()]
    assert [trial.number for trial in taken if trial] == [0, 1, 2]
    assert one.take() is other.take() is other.take_interrupted() is None
    del one  # its locks go with it, as with a process
    assert [other.take(), other.take()] == [taken[0], taken[2]]
    assert other.take() is None


def test_a_trial_without_values_and_half_a_line_of_the_journal_are_what_a_kill_leaves(
    base: Path, tmp_path: Path
) -> None:
    settings = sweep_settings(base)
    whole = Trials(tmp_path / "whole", settings).take()
    killed = Trials(tmp_path / "t", settings)
    killed.take()
    del killed
    journal = tmp_path / "t" / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]) + lines[-2][:-9])  # the last two lines: the value, all values
    assert Trials(tmp_path / "t", settings).take() == whole


def test_wandb_is_given_the_same_space(base: Path) -> None:
    space = {
        "a": {"low": 0.1, "high": 1},
        "b": LEARNING_RATE,
        "c": {"low": 1, "high": 64, "integer": True},
        "d": {"low": 1, "high": 64, "integer": True, "log": True},
        "e": {"choices": ["pcam", [1, 2]]},
    }
    assert wandb_sweep_config(sweep_settings(base, space=space, backend="wandb")) == {
        "method": "bayes",
        "metric": {"name": "val/auroc", "goal": "maximize"},
        "run_cap": 3,
        "parameters": {
            "a": {"distribution": "uniform", "min": 0.1, "max": 1.0},
            "b": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.04},
            "c": {"distribution": "int_uniform", "min": 1, "max": 64},
            "d": {"distribution": "q_log_uniform_values", "q": 1, "min": 1, "max": 64},
            "e": {"values": ["pcam", [1, 2]]},
        },
    }


# The whole


def test_the_best_trial_by_validation_is_chosen_and_reported(base: Path, tmp_path: Path, pretended: None) -> None:
    run = open_run(sweep(sweep_settings(base), tmp_path / "sweep"), stage="sweep")
    table = pd.read_csv(run.output("trials"))
    assert table["trial"].tolist() == [0, 1, 2]
    distance = (table["optimizer.learning_rate"].map(lambda rate: abs(log10(rate) + 2))) / 5
    assert table["val/auroc"].to_numpy() == pytest.approx(1 - distance)  # of epoch 2, not of the last one
    best = int(table["val/auroc"].argmax())
    assert run.manifest["best_trial"] == best
    assert run.metrics["val/auroc"] == pytest.approx(table["val/auroc"][best])
    assert run.metrics["auroc/mean"] == pytest.approx(table["val/auroc"][best] - 0.05)
    settings = load_config(Stage1Settings, run.output("best"))
    assert settings.optimizer.learning_rate == table["optimizer.learning_rate"][best]
    assert settings == parse_settings(
        Stage1Settings, open_run(run.dir / "trials" / f"{best:04d}").settings, source="trial"
    )
    report = read_report(run.dir)
    assert report is not None
    assert report.synthetic
    (ranking,) = [block for block in report.blocks if isinstance(block, Table)]
    assert [row[0] for row in ranking.rows] == table.sort_values("val/auroc", ascending=False)["trial"].tolist()
    assert compare_runs([run.dir], out=tmp_path / "compared").is_file()
    before = (run.dir / "manifest.json").stat().st_mtime_ns
    sweep(sweep_settings(base), run.dir)
    assert (run.dir / "manifest.json").stat().st_mtime_ns == before


def test_common_overrides_reach_every_trial(base: Path, tmp_path: Path, pretended: None) -> None:
    out = sweep(sweep_settings(base, num_trials=1, overrides={"train.batch_size": 7}), tmp_path / "sweep")
    assert open_run(out / "trials" / "0000").settings["train"]["batch_size"] == 7


def test_a_failing_trial_is_reported_and_the_others_go_on(base: Path, tmp_path: Path, pretended: None) -> None:
    space = {"optimizer.learning_rate": {"choices": [0.01, 0.1]}}  # the second diverges
    out = sweep(sweep_settings(base, space=space, num_trials=4), tmp_path / "sweep")
    table = pd.read_csv(out / "trials.csv")
    failed = table[table["state"] == "failed"]
    assert 0 < len(failed) < 4
    assert set(failed["optimizer.learning_rate"]) == {0.1}
    assert set(failed["problem"]) == {"training: the loss is nan"}
    assert open_run(out).metrics["trials/failed"] == len(failed)
    assert "training: the loss is nan" in (out / "report.html").read_text()


def test_all_trials_failing_is_an_error(base: Path, tmp_path: Path, pretended: None) -> None:
    space = {"optimizer.learning_rate": {"low": 0.1, "high": 1}}
    with pytest.raises(UserError, match=r"all 3 trials failed\n  training: the loss is nan$"):
        sweep(sweep_settings(base, space=space), tmp_path / "sweep")


def test_a_figure_that_does_not_exist_chooses_nothing(base: Path, tmp_path: Path, pretended: None) -> None:
    with pytest.raises(UserError, match="val/f1 does not exist in the epoch that the trial keeps"):
        sweep(sweep_settings(base, metric="val/f1", num_trials=1), tmp_path / "sweep")


def test_an_interrupted_sweep_makes_the_same_trials(base: Path, tmp_path: Path, pretended: None) -> None:
    settings = sweep_settings(base, num_trials=4)
    whole, halves = sweep(settings, tmp_path / "whole"), tmp_path / "halves"
    run = start_run(halves, stage="sweep", settings=settings, inputs={"base": settings.base})
    begun = Sweep(run, settings)
    for _ in range(2):
        trial = begun.trials.take()
        assert trial is not None
        make_trial(trial, begun.trials, settings)
    assert begun.trials.take() == replace(trials_in(whole)[2], state="running", figure=None)
    del begun  # in the middle of the third
    run.release()
    finished = (halves / "trials" / "0001" / "manifest.json").stat().st_mtime_ns
    sweep(settings, halves)
    assert trials_in(halves) == trials_in(whole)
    assert (halves / "trials" / "0001" / "manifest.json").stat().st_mtime_ns == finished


DRIVER = """
import sys
from pathlib import Path
from stage1_classify.experiments import sweep_work
sweep_work.TRAINING = Path(sys.argv[1])
sweep_work.SCRIPT = Path(sys.argv[1]).with_name("worker.py")
from cxr.cli import exit_code, parse_stage_arguments
from stage1_classify.sweep import main
given = parse_stage_arguments("sweep", sys.argv[2:], options=["cluster", "worker"])
sys.exit(exit_code(lambda: main(given)))
"""


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_sweep_that_was_killed_trains_nothing_twice(base: Path, tmp_path: Path, pretended: None) -> None:
    config, out = tmp_path / "sweep.yaml", tmp_path / "sweep"
    config.write_text(yaml.safe_dump(sweep_settings(base, num_trials=2).model_dump(mode="json")))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "run.py"), str(config), "--out", str(out)]
    process = subprocess.Popen(command, env=os.environ | {"EPOCH_S": "0.7"}, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(read_log(out / "trials" / "0001")) > 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "trials" / "0001" / "manifest.json").exists()  # its training lives on by itself
    before = (out / "trials" / "0000" / "manifest.json").stat().st_mtime_ns
    main(StageArguments(config, out, (), ()))
    assert (out / "trials" / "0000" / "manifest.json").stat().st_mtime_ns == before
    for trial in ("0000", "0001"):
        assert len((out / "trials" / trial / "metrics.jsonl").read_text().splitlines()) == 3
    assert [trial.state for trial in trials_in(out)] == ["finished", "finished"]


WORKERS = """
import runpy, sys
from pathlib import Path
from stage1_classify.experiments import sweep_work
sweep_work.TRAINING = Path({training!r})
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.fixture
def workers(tmp_path: Path, pretended: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers are real processes, whose trainings are pretended."""
    from stage1_classify.experiments import sweep_work

    script = tmp_path / "worker.py"
    script.write_text(WORKERS.format(training=str(tmp_path / "run.py"), script=str(sweep_work.SCRIPT)))
    monkeypatch.setattr(sweep_work, "SCRIPT", script)
    return script


@pytest.mark.slow
def test_two_workers_share_a_sweep_and_make_no_trial_twice(
    base: Path, tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPOCH_S", "0.3")
    out = sweep(sweep_settings(base, num_trials=4, num_parallel=2), tmp_path / "sweep")
    made = [open_run(path, stage="sweep_worker").manifest["made"] for path in sorted((out / "workers").glob("0?"))]
    assert len(made) == 2
    assert all(made)
    assert sorted(made[0] + made[1]) == [0, 1, 2, 3]
    assert [trial.state for trial in trials_in(out)] == ["finished"] * 4
    for trial in range(4):
        assert [entry["step"] for entry in read_log(out / "trials" / f"{trial:04d}")] == [1, 2, 3]
    assert open_run(out).metrics["trials"] == 4


@pytest.mark.slow
def test_a_worker_that_was_killed_is_replaced_and_its_trial_goes_on(
    base: Path, tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call and its workers are killed; a worker from elsewhere and a second call go on, on a cluster."""
    config, out = tmp_path / "sweep.yaml", tmp_path / "sweep"
    settings = sweep_settings(base, num_trials=4, num_parallel=2)
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "run.py"), str(config), "--out", str(out)]
    process = subprocess.Popen(
        command, env=os.environ | {"EPOCH_S": "0.7"}, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: len(read_log(out / "trials" / "0001")) > 0)
    for started in [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]:
        os.kill(started, signal.SIGKILL)
    process.wait()
    assert [trial.state for trial in trials_in(out)] == ["running", "running"]
    kept = read_log(out / "trials" / "0001")
    joined = subprocess.run([*command, "--worker", "elsewhere"], check=False, stderr=subprocess.DEVNULL)
    assert joined.returncode == 0
    assert open_run(out / "workers" / "elsewhere").manifest["made"] == [0, 1, 2, 3]
    assert read_log(out / "trials" / "0001")[: len(kept)] == kept
    main(StageArguments(config, out, (), (), None, "local"))
    assert [trial.state for trial in trials_in(out)] == ["finished"] * 4
    assert open_run(out, stage="sweep").metrics["trials"] == 4


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("a/b", {}, "--worker a/b: expected a name"),
        ("..", {}, r"--worker \.\.: expected a name"),
        ("", {}, "--worker : expected a name"),
        ("a", {"num_trials": 9}, "its sweep has other settings"),
    ],
)
def test_a_worker_joins_a_sweep_with_its_settings(
    base: Path, tmp_path: Path, name: str, changes: dict[str, Any], told: str
) -> None:
    out = tmp_path / "sweep"
    with pytest.raises(UserError, match="holds no sweep"):
        work(out, sweep_settings(base), "a")
    start_run(out, stage="sweep", settings=sweep_settings(base), inputs={}).release()
    with pytest.raises(UserError, match=told):
        work(out, sweep_settings(base, **changes), name)


@pytest.mark.parametrize("line", ["garbage\n", "{}\n", "\0\0\n"])
def test_a_damaged_journal_is_named(base: Path, tmp_path: Path, line: str) -> None:
    settings, out = sweep_settings(base), tmp_path / "sweep"
    start_run(out, stage="sweep", settings=settings, inputs={}).release()
    (out / "trials").mkdir()
    (out / "trials" / "journal.log").write_text(line)
    with pytest.raises(UserError, match=r"journal\.log is damaged"):
        work(out, settings, "a")


def test_a_changed_base_is_refused(base: Path, tmp_path: Path, pretended: None) -> None:
    settings = sweep_settings(base, num_trials=1)
    sweep(settings, tmp_path / "sweep")
    base.write_text(base.read_text() + "\n")
    with pytest.raises(UserError, match=r"inputs\.base: as it was -> changed since"):
        sweep(settings, tmp_path / "sweep")


def test_wandb_chooses_through_the_agent(
    base: Path, tmp_path: Path, pretended: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the server: its choices are trained here, and the figures are passed to it."""
    passed = []

    def agent(sweep_id: str, trial: Callable[[dict[str, Any]], Any], *, folder: Path, count: int) -> None:
        assert (sweep_id, folder) == ("id1", tmp_path / "sweep")
        passed.extend(trial({"optimizer.learning_rate": rate}) for rate in (0.01, 0.1, 0.001)[-count:])

    monkeypatch.setattr("stage1_classify.experiments.sweep_work.create_sweep", lambda config: "id1")
    monkeypatch.setattr("stage1_classify.experiments.sweep_work.run_sweep_agent", agent)
    settings = sweep_settings(base, backend="wandb", overrides={"tracking": "offline"})
    out = sweep(settings, tmp_path / "sweep")
    assert passed == [{"val/auroc": 1.0}, None, {"val/auroc": pytest.approx(0.8)}]
    assert open_run(out).manifest["best_trial"] == 0
    assert (out / "wandb_sweep.txt").read_text() == "id1"
    assert open_run(out / "trials" / "0000").settings["tracking"] == "off"
    passed.clear()
    two = sweep_settings(base, backend="wandb", num_trials=2, overrides={"tracking": "offline"})
    shutil.rmtree(out)
    sweep(two, out)
    changed = yaml.safe_load((out / "config.yaml").read_text()) | {"num_trials": 3}
    (out / "manifest.json").unlink()
    run = Run(out, "sweep", "resumed", SweepSettings.model_validate(changed), {})
    Sweep(run, SweepSettings.model_validate(changed))()  # two trials are there: the agent is asked for one
    assert len(passed) == 3


def test_the_kept_epochs_figure_counts(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", stage="stage1", settings=SweepSettings.model_construct(), inputs={})
    tracker = Tracker(run.dir)
    for epoch, auroc in enumerate((0.7, 0.9, 0.95), start=1):
        tracker.log(epoch, {"val/auroc": auroc})
    run.finish({}, {}, best_epoch=2)
    assert kept_figure(open_run(run.dir), "val/auroc") == 0.9
    assert kept_figure(open_run(run.dir), "val/loss") is None


def test_a_real_sweep_ends_with_a_classifier_to_use(tmp_path: Path) -> None:
    base, config = tmp_path / "stage1.yaml", tmp_path / "sweep.yaml"
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"num_epochs": 2})
    base.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    values = {
        "base": str(base),
        "space": {"optimizer.learning_rate": LEARNING_RATE, "head.kind": {"choices": ["pcam", "lse"]}},
        "num_trials": 1,
    }
    config.write_text(yaml.safe_dump(values))
    main(StageArguments(config, tmp_path / "out", (), ()))
    run = open_run(tmp_path / "out", stage="sweep")
    best = open_run(run.dir / "trials" / f"{run.manifest['best_trial']:04d}", stage="stage1")
    highest = max(entry["val/auroc"] for entry in read_log(best.dir))
    assert run.metrics["val/auroc"] == highest
    assert run.metrics["auroc/mean"] == best.metrics["auroc/mean"]
    assert best.output("weights").is_file()
