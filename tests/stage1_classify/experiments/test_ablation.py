"""Ablations: the plan, the figures, and all of it with a quick script in place of trainings and ensembles."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr.cli import StageArguments
from cxr.config import UserError, load_config, parse_settings
from cxr.runs.run_folder import open_run, start_run
from cxr.tracking import read_log
from eval.classification.prediction_file import Cases, read_cases
from eval.experiments.comparison import Figures, compare
from eval.experiments.plan import Plan
from eval.leaderboard.compare import compare_runs
from eval.report.blocks import Table, read_report
from eval.report.format import gap_text
from eval.stats.bootstrap import Estimate, percentile_interval, resample_counts
from stage1_classify.ablate import main
from stage1_classify.experiments.ablation import run_ablation
from stage1_classify.experiments.ablation_plan import make_plan
from stage1_classify.experiments.ablation_scores import mean_figures, probabilities_on
from stage1_classify.settings.classifier import EnsembleSettings, Stage1Settings
from stage1_classify.settings.experiments import AblationSettings
from tests.paths import ROOT
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "stage1.yaml"
    path.write_text(yaml.safe_dump(stage1_settings(tmp_path / "data").model_dump(mode="json")))
    return path


def ablation_settings(base: Path, variants_of: Mapping[str, Any], **changes: Any) -> AblationSettings:
    """variants_of: group -> variants, the first one the reference."""
    values = {
        "base": str(base),
        "num_resamples": 300,
        "groups": {
            name: {"reference": next(iter(variants)), "variants": variants} for name, variants in variants_of.items()
        },
    }
    return parse_settings(AblationSettings, values | changes, source="ablation.yaml")


HEADS = {"pcam": {"head.kind": "pcam"}, "lse": {"head.kind": "lse"}}


def names(plan: Plan) -> list[str]:
    return [job.name for job in plan.jobs]


# The plan


def test_every_variant_is_trained_once_with_each_seed(base: Path, tmp_path: Path) -> None:
    plan = make_plan(ablation_settings(base, {"heads": HEADS}, seeds=[3, 7]), tmp_path / "out")
    assert names(plan) == ["heads/pcam seed 3", "heads/pcam seed 7", "heads/lse seed 3", "heads/lse seed 7"]
    assert plan.runs["heads", "lse"] == {seed: tmp_path / f"out/runs/heads/lse/seed{seed}" for seed in (3, 7)}
    command = plan.jobs[3].command
    assert command[1:] == (str(base), "--set", "head.kind=lse", "seed=7")


def test_overrides_reach_every_variant_and_variants_have_the_last_word(base: Path, tmp_path: Path) -> None:
    groups = {"g": {"a": {}, "b": {"train.num_epochs": 1}}}
    plan = make_plan(ablation_settings(base, groups, overrides={"train": {"num_epochs": 2}}), tmp_path)
    read = [load_config(Stage1Settings, base, job.command[3:]).train for job in plan.jobs]
    assert [(train.num_epochs, train.batch_size) for train in read] == [(2, 4), (1, 4)]


def test_runs_with_equal_settings_are_shared_however_they_are_written(base: Path, tmp_path: Path) -> None:
    groups = {
        "heads": HEADS,
        "size": {"base": {}, "same": {"head": {"kind": "pcam"}}, "small": {"train.batch_size": 2}},
    }
    plan = make_plan(ablation_settings(base, groups), tmp_path)
    assert names(plan) == ["heads/pcam seed 0", "heads/lse seed 0", "size/small seed 0"]
    assert plan.runs["size", "base"] == plan.runs["size", "same"] == plan.runs["heads", "pcam"]


def test_a_teacher_is_trained_before_with_the_same_seed(base: Path, tmp_path: Path) -> None:
    taught = {"labels.uncertain": "self_train", "labels.teacher": "{run:ignore}"}
    groups = {"uncertain": {"taught": taught, "ignore": {}}}
    plan = make_plan(ablation_settings(base, groups, seeds=[0, 1]), tmp_path)
    assert names(plan)[:2] == ["uncertain/ignore seed 0", "uncertain/taught seed 0"]
    for seed in (0, 1):
        teacher = tmp_path / f"runs/uncertain/ignore/seed{seed}"
        (job,) = [job for job in plan.jobs if job.name == f"uncertain/taught seed {seed}"]
        assert job.needs == (teacher,)
        assert f"labels.teacher={teacher}" in job.command


def test_ensembles_take_runs_of_the_same_seed_or_of_all(base: Path, tmp_path: Path) -> None:
    groups = {
        "heads": HEADS,
        "ensemble": {
            "single": {},
            "tta": {"ensemble": ["single"], "flips": ["none", "horizontal"]},
            "both": {"ensemble": ["heads/pcam", "heads/lse"], "combine": "minimum"},
            "seeds": {"ensemble": ["all seeds of single"], "combine": "maximum"},
        },
    }
    plan = make_plan(ablation_settings(base, groups, seeds=[0, 1]), tmp_path)
    pcam = [tmp_path / f"runs/heads/pcam/seed{seed}" for seed in (0, 1)]
    by_name = {job.name: job for job in plan.jobs}
    assert by_name["ensemble/tta seed 1"].needs == (pcam[1],)
    assert by_name["ensemble/both seed 1"].needs == (pcam[1], tmp_path / "runs/heads/lse/seed1")
    assert by_name["ensemble/seeds all seeds"].needs == tuple(pcam)
    assert plan.runs["ensemble", "seeds"] == {None: tmp_path / "runs/ensemble/seeds/all_seeds"}
    script, config, source, *rest = by_name["ensemble/seeds all seeds"].command
    assert (Path(script).name, config, source) == ("ensemble.py", str(tmp_path / "ensemble.yaml"), "--from")
    assert rest == [*map(str, pcam), "--set", "combine=maximum", "flips=[none]"]


def test_all_problems_are_reported_at_once(base: Path, tmp_path: Path) -> None:
    groups = {
        "heads": {
            "pcam": {"head.kin": "pcam"},
            "lse": {"head.kind": "lsee"},
            "seeded": {"seed": 3},
            "round": {"init_from": "{run:trip}"},
            "trip": {"init_from": "{run:round}"},
            "orphan": {"init_from": "{run:pcan}"},
            "other": {"findings": ["Lung Lesion"]},
        },
        "ensemble": {
            "one": {"ensemble": ["heads/other"]},
            "nested": {"ensemble": ["two", "heads/other"]},
            "two": {"ensemble": ["heads/other", "heads/other"]},
        },
    }
    with pytest.raises(UserError) as error:
        make_plan(ablation_settings(base, groups, seeds=[0, 1], num_resamples=1000), tmp_path)
    text = "\n".join(error.value.problems)
    assert "heads/pcam: " in text
    assert "unknown key 'head.kin'; nearest: 'head.kind'" in text
    assert "heads/lse: " in text
    assert "got 'lsee'" in text
    assert "heads/seeded: seed is among its changes; give it under `seeds` instead" in text
    assert "heads/round: needs itself, through heads/round, heads/trip" in text
    assert "heads/orphan: no variant 'pcan' (nearest: 'heads/pcam')" in text
    assert "heads/other: findings differ from those of" in text
    assert "ensemble/one: one member and flips [none] leave nothing to combine" in text
    assert "ensemble/nested: 'two' is itself an ensemble" in text
    assert "ensemble/two: two of its members are the same run" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seeds": [1, 1]}, "each seed must be given once"),
        ({"groups": {}}, "at least 1 item"),
        ({"groups": {"g": {"reference": "c", "variants": HEADS}}}, "reference 'c' is none of pcam, lse"),
        ({"groups": {"a/b": {"reference": "pcam", "variants": HEADS}}}, "should match pattern"),
        ({"jobs": 2}, "jobs: renamed, use num_parallel"),
        ({"num_resamples": 39}, "1 comparisons need 40 or more"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(base: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        ablation_settings(base, {"heads": HEADS}, **changes)


# The figures


def scored_cases(num_cases: int = 60) -> Cases:
    """Two findings, some labels missing, two cases a patient."""
    rng = np.random.default_rng(1)
    labels = (rng.random((num_cases, 2)) < 0.4).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    ids = tuple(f"c{index}" for index in range(num_cases))
    return Cases(ids, labels, tuple(f"p{index // 2}" for index in range(num_cases)))


def guess(cases: Cases, *, skill: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random(cases.labels.shape)
    return np.round(noise + skill * np.nan_to_num(cases.labels), 2)


def scored(cases: Cases, probabilities: np.ndarray, *, min_positives: int = 1) -> Figures:
    return mean_figures(cases, probabilities, num_resamples=200, min_positives=min_positives, seed=5)


def test_figures_are_those_of_scikit_learn() -> None:
    cases = scored_cases()
    scores = guess(cases, skill=0.5, seed=2)
    expected = []
    for metric in (roc_auc_score, average_precision_score):
        known = ~np.isnan(cases.labels)
        expected.append(np.mean([metric(cases.labels[known[:, k], k], scores[known[:, k], k]) for k in range(2)]))
    assert scored(cases, scores).values == pytest.approx(expected)


def copied_auroc(cases: Cases, scores: np.ndarray, row: np.ndarray) -> float:
    """Mean AUROC of a resample made by copying its cases, by scikit-learn, over findings with both labels."""
    copies = np.repeat(np.arange(len(row)), row)
    found = []
    for k in range(cases.labels.shape[1]):
        known = copies[~np.isnan(cases.labels[copies, k])]
        if len(set(cases.labels[known, k])) == 2:
            found.append(roc_auc_score(cases.labels[known, k], scores[known, k]))
    return float(np.mean(found)) if found else float("nan")


def copied_difference(cases: Cases, sides: list[list[np.ndarray]]) -> Estimate:
    """First side minus second, each the mean of its trainings, by the same resamples of patients as `scored`."""
    counts = resample_counts(cases.patients, num_resamples=200, seed=5)
    rows = [np.ones(len(cases.ids), dtype=int), *counts]
    first, second = (
        np.array([np.mean([copied_auroc(cases, scores, row) for scores in side]) for row in rows]) for side in sides
    )
    interval = percentile_interval((first - second)[1:])
    return Estimate(float((first - second)[0]), interval.low, interval.high)


def test_differences_are_those_of_the_paired_bootstrap() -> None:
    cases = scored_cases()
    sides = [[guess(cases, skill=skill, seed=seed) for seed in seeds] for skill, seeds in ((0.6, (1,)), (0.0, (3,)))]
    expected = copied_difference(cases, sides)
    by_seed = [{seed: scored(cases, scores) for seed, scores in enumerate(side)} for side in sides]
    reference, row = compare({"b": by_seed[1], "a": by_seed[0]}, by_seed[1])
    assert reference.verdict == "reference"
    assert row.difference is not None
    found = row.difference
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert row.is_significant
    assert row.differences_by_seed == pytest.approx(
        [by_seed[0][seed].values[0] - by_seed[1][seed].values[0] for seed in (0,)]
    )
    assert row.verdict == f"significant, one training: {gap_text(expected)}"


def test_a_run_for_all_seeds_is_compared_with_each() -> None:
    cases = scored_cases()
    one, other, together = (scored(cases, guess(cases, skill=0.3, seed=seed)) for seed in (1, 2, 3))
    single, all_seeds = {0: one, 1: other}, {None: together}
    _, row = compare({"single": single, "all": all_seeds}, single)
    assert row.differences_by_seed == pytest.approx(
        [together.values[0] - one.values[0], together.values[0] - other.values[0]]
    )
    _, row = compare({"all": all_seeds, "single": single}, all_seeds)
    assert row.differences_by_seed == pytest.approx(
        [one.values[0] - together.values[0], other.values[0] - together.values[0]]
    )


def test_findings_with_few_positives_do_not_count() -> None:
    cases = scored_cases()
    cases.labels[3:, 1] = 0
    cases.labels[:3, 1] = 1
    scores = guess(cases, skill=0.5, seed=1)
    alone = Cases(cases.ids, cases.labels[:, :1], cases.patients)
    assert scored(cases, scores, min_positives=4).values == pytest.approx(scored(alone, scores[:, :1]).values)
    assert scored(cases, scores, min_positives=3).values != pytest.approx(scored(alone, scores[:, :1]).values)
    text = cases.describe(["A", "B"], min_positives=4)
    assert text.startswith("60 test cases of 30 patients; positives: A ")
    assert text.endswith("B 3 (too few for the mean).")


def test_predictions_are_paired_by_case() -> None:
    table = pd.DataFrame(
        {
            "image_id": ["v", "a", "b", "c"],
            "split": ["val", "test", "test", "test"],
            "patient_id": ["p0", "p1", "p1", ""],
            "X": [0.9, 0.1, 0.2, 0.3],
            "X label": pd.array([1, 0, 1, None], dtype="Int64"),
        }
    )
    cases = read_cases(table, ["X"])
    assert (cases.ids, cases.patients) == (("a", "b", "c"), ("p1", "p1", "c"))
    np.testing.assert_array_equal(cases.labels, [[0], [1], [np.nan]])
    mixed = table.iloc[[3, 0, 2, 1]]
    np.testing.assert_array_equal(probabilities_on(cases, mixed, ["X"], source="run"), [[0.1], [0.2], [0.3]])
    with pytest.raises(UserError, match=r"run: was evaluated on other cases \(2, of which 2 are among the 3"):
        probabilities_on(cases, table.iloc[:3], ["X"], source="run")
    with pytest.raises(UserError, match="against other labels"):
        probabilities_on(cases, table.assign(**{"X label": 0}), ["X"], source="run")


# The whole

PRETENDED = """
import csv, random, sys, time
from pathlib import Path
from cxr.cli import exit_code, parse_stage_arguments
from cxr.config import Settings, UserError, load_config
from cxr.runs.run_folder import open_run, start_run

class Whatever(Settings, extra="allow"):  # stage 1's settings take a second to import
    pass

SKILL = {"pcam": 0.9, "lse": 0.2, "average": 0.88}

def column(settings, label):
    noise = random.Random(f"{settings.seed} {settings.head}")
    return [noise.random() + SKILL[settings.head["kind"]] * one for one in label]

def members(paths):
    read = [list(csv.DictReader(open_run(path).output("predictions").open())) for path in paths]
    return [sum(float(row["Lung Lesion"]) for row in rows) for rows in zip(*read)]

def main():
    given = parse_stage_arguments("stage1", previous="stage1")
    settings = load_config(Whatever, given.config, given.overrides)
    run = start_run(given.out, stage="stage1", settings=settings, inputs={})
    if run.state == "finished":
        return
    with (run.dir / "began.txt").open("a") as file:
        file.write("once\\n")
    ensemble = hasattr(settings, "combine")
    if not ensemble and settings.head["kind"] == "max":
        raise UserError("training: the loss is nan")
    label = [int(random.Random(case).random() < 0.5) for case in range(80)]
    scores = members(given.sources) if ensemble else column(settings, label)
    if not ensemble:
        (run.dir / "metrics.jsonl").write_text('{"step": 1, "val/auroc": 0.5}')
    out = run.dir / "predictions.csv"
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "split", "patient_id", "study_id", "num_views", "Lung Lesion", "Lung Lesion label",
                         "Lung Lesion call"])
        for case, (one, score) in enumerate(zip(label, scores)):
            writer.writerow([f"i{case}", "test", f"p{case}", "", 1, score, one, one])
    run.finish({}, {"predictions": out}, findings=["Lung Lesion"], synthetic=True)

sys.exit(exit_code(main))
"""


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are made by a script that is quick: pcam and average are good, lse is bad, max diverges."""
    from stage1_classify.experiments import ablation_plan

    script = tmp_path / "script.py"
    script.write_text(PRETENDED)
    monkeypatch.setattr(ablation_plan, "TRAINING", script)
    monkeypatch.setattr(ablation_plan, "ENSEMBLE", script)


def ablate(settings: AblationSettings, out: Path) -> Path:
    plan = make_plan(settings, out)
    run = start_run(out, stage="ablation", settings=settings, inputs={"base": settings.base})
    try:
        if run.state != "finished":
            run_ablation(run, settings, plan)
    finally:
        run.release()
    return out


def trainings(out: Path) -> dict[str, int]:
    """How often each run was begun."""
    return {
        path.parent.relative_to(out / "runs").as_posix(): len(path.read_text().splitlines())
        for path in sorted(out.glob("runs/*/*/*/began.txt"))
    }


def tables_of(out: Path) -> dict[str, Sequence[Any]]:
    report = read_report(out)
    assert report is not None
    rows = [block.rows for block in report.blocks if isinstance(block, Table)]
    return {str(row[0]): row for table in rows for row in table}


GROUPS = {
    "heads": {"pcam": {}, "lse": {"head.kind": "lse"}, "average": {"head.kind": "average"}},
    "ensemble": {
        "single": {},
        "seeds": {"ensemble": ["all seeds of single"]},
        "tta": {"ensemble": ["single"], "flips": ["none", "horizontal"]},
    },
}


def test_tables_say_what_differs_significantly(base: Path, tmp_path: Path, pretended: None) -> None:
    settings = ablation_settings(base, GROUPS, seeds=[0, 1], num_parallel=2)
    run = open_run(ablate(settings, tmp_path / "out"), stage="ablation")
    assert set(trainings(run.dir).values()) == {1}
    assert len(trainings(run.dir)) == 9  # three heads and tta with two seeds, one ensemble of all
    table = tables_of(run.dir)
    assert table["lse"][3].startswith("significant: -0.")
    assert float(table["lse"][4].split(",")[0]) == pytest.approx(run.metrics["heads/lse/p_holm"], abs=5e-4)
    assert table["average"][3].startswith("not significant: ")
    assert table["tta"][3] == "not significant: +0.000 [0.000, 0.000]"
    assert table["pcam"][3] == table["single"][3] == "reference"
    assert table["seeds"][2] is None  # one ensemble stands for all seeds
    first, second, _ = table["single"][2].replace(" (", ", ").split(", ")
    assert first != second
    assert run.metrics["comparisons"] == 4
    assert run.metrics["heads/lse/auroc_minus_reference/high"] < 0  # type: ignore[operator]
    assert run.manifest["runs"]["ensemble/single"] == {
        "0": "runs/heads/pcam/seed0", "1": "runs/heads/pcam/seed1",
    }  # fmt: skip
    flat = pd.read_csv(run.output("table")).set_index(["group", "variant"])
    assert flat.loc[("heads", "lse"), "auroc"] == pytest.approx(run.metrics["heads/lse/auroc"])
    assert flat.loc[("heads", "lse"), "verdict"] == table["lse"][3]
    page = run.output("markdown").read_text()
    assert "phantom images" in page
    assert "| lse |" in page
    assert "heads/lse -0." in page
    assert "80 test cases of 80 patients" in page
    assert 'class="banner"' in run.output("report").read_text()
    assert all((run.dir / "pictures" / f"{group}_curves.png").is_file() for group in ("heads", "ensemble"))
    assert compare_runs([run.dir], out=tmp_path / "compared").is_file()
    ensemble = load_config(EnsembleSettings, run.dir / "ensemble.yaml")
    assert ensemble.operating_point == load_config(Stage1Settings, base).operating_point


@pytest.mark.slow
def test_jobs_of_a_cluster_give_what_processes_give(base: Path, tmp_path: Path, pretended: None) -> None:
    groups = {"heads": {"pcam": {}, "lse": {"head.kind": "lse"}, "both": {"ensemble": ["pcam", "lse"]}}}
    settings = ablation_settings(base, groups, num_parallel=2)
    config = tmp_path / "ablation.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    main(StageArguments(config, tmp_path / "there", (), (), None, "local", ("time_h=0.1",)))
    here, there = open_run(ablate(settings, tmp_path / "here")), open_run(tmp_path / "there")
    assert there.metrics == here.metrics
    assert set(trainings(there.dir).values()) == {1}
    assert len(list((there.dir / "cluster").glob("*_submitted.pkl"))) == 3


def test_a_failed_variant_is_named_and_tried_again(base: Path, tmp_path: Path, pretended: None) -> None:
    heads = {"pcam": {}, "max": {"head.kind": "max"}, "lse": {"head.kind": "lse"}}
    groups = {"heads": heads, "ensemble": {"single": {}, "both": {"ensemble": ["heads/max", "single"]}}}
    settings = ablation_settings(base, groups)
    with pytest.raises(UserError) as error:
        ablate(settings, tmp_path / "out")
    assert error.value.problems == [
        "ablation: 2 of 4 runs failed; the tables lack them",
        "heads/max seed 0: training: the loss is nan",
        "ensemble/both seed 0: needs heads/max seed 0, which failed",
    ]
    assert not (tmp_path / "out" / "manifest.json").exists()
    table = tables_of(tmp_path / "out")
    assert table["lse"][2].startswith("significant, one training: ")
    assert table["max"][2] == "failed: training: the loss is nan"
    assert table["both"][2] == "failed: needs heads/max seed 0, which failed"
    assert len(table["lse"]) == 6  # no column of seeds: there is one
    script = tmp_path / "script.py"
    script.write_text(PRETENDED.replace('== "max"', '== "none"').replace('"lse": 0.2', '"lse": 0.2, "max": 0.5'))
    ablate(settings, tmp_path / "out")
    assert trainings(tmp_path / "out") == {
        "ensemble/both/seed0": 1, "heads/lse/seed0": 1, "heads/max/seed0": 2, "heads/pcam/seed0": 1,
    }  # fmt: skip


def test_a_failed_reference_leaves_figures_without_differences(base: Path, tmp_path: Path, pretended: None) -> None:
    groups = {"heads": {"max": {"head.kind": "max"}, "lse": {"head.kind": "lse"}}}
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        ablate(ablation_settings(base, groups), tmp_path / "out")
    assert tables_of(tmp_path / "out")["lse"][2] == "no reference"


def test_every_run_failing_is_an_error(base: Path, tmp_path: Path, pretended: None) -> None:
    groups = {"heads": {"max": {"head.kind": "max"}, "again": {"head.kind": "max", "train.batch_size": 2}}}
    with pytest.raises(UserError, match="every run failed"):
        ablate(ablation_settings(base, groups), tmp_path / "out")


@pytest.mark.slow
def test_a_real_ablation_that_was_killed_trains_nothing_twice(tmp_path: Path) -> None:
    base, config, out = tmp_path / "stage1.yaml", tmp_path / "ablation.yaml", tmp_path / "out"
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"num_epochs": 2, "precision": "fp32"})
    base.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    groups = {"heads": {"pcam": {}, "average": {"head.kind": "average"}}}
    config.write_text(yaml.safe_dump(ablation_settings(base, groups).model_dump(mode="json"), sort_keys=False))
    command = [sys.executable, str(ROOT / "stage1_classify" / "ablate.py"), str(config), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    while not (out / "runs/heads/average/seed0/started.json").exists():
        assert process.poll() is None
        assert time.monotonic() - begin < 600
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (out / "runs/heads/pcam/seed0/manifest.json").stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "runs/heads/pcam/seed0/manifest.json").stat().st_mtime_ns == before
    run = open_run(out, stage="ablation")
    for head in ("pcam", "average"):
        trained = open_run(out / "runs/heads" / head / "seed0", stage="stage1")
        assert len((trained.dir / "metrics.jsonl").read_text().splitlines()) == len(read_log(trained.dir)) == 2
        assert run.metrics[f"heads/{head}/auroc"] == pytest.approx(trained.metrics["auroc/mean"], abs=1e-6)
        assert trained.settings["head"]["kind"] == head
    assert json.loads((out / "metrics.json").read_text())["comparisons"] == 1
