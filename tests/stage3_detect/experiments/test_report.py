"""Tables, charts and metrics of an experiment, from hand-made detections."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cxr.coco import read_coco
from cxr.runs.run_folder import FinishedRun, open_run
from eval.experiments.comparison import spread
from eval.experiments.plan import Runs
from eval.experiments.runner import Trained, compare_groups
from eval.report.blocks import Figure, read_report
from eval.stats.bootstrap import Estimate
from stage3_detect.experiments.experiment import compare_detectors, experiment_metrics
from stage3_detect.experiments.report import (
    Result,
    findings_table,
    main_table,
    places_of,
    summary,
    write_experiment_report,
)
from stage3_detect.experiments.scores import DetectionScorer
from stage3_detect.settings.experiments import CurveSettings
from tests.stage3_detect.experiments.experiment_builders import detections, experiment_settings, write_base
from tests.stage3_detect.stage3_builders import make_stage2_run


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return open_run(make_stage2_run(tmp_path_factory.mktemp("experiment"), num_train=3, num_test=40))


@pytest.fixture(scope="module")
def scorer(stage2: FinishedRun) -> DetectionScorer:
    return DetectionScorer(stage2, read_coco(stage2.output("gt_test")), 200)


def compared(scorer: DetectionScorer, skills: dict[str, float], *, reference: str, seeds: Sequence[int]) -> Result:
    """A result of detectors with these skills. "lost" is a variant whose training failed."""
    own = {
        name: {seed: scorer.score(detections(scorer.truth, skill=skill, seed=seed)) for seed in seeds}
        for name, skill in skills.items()
    }
    runs: dict[str, Runs] = {name: {seed: Path(name) for seed in seeds} for name in skills}
    trained = Trained({"": runs}, {"": {"lost": "the loss is nan"}}, (), len(runs), synthetic=True)
    groups = compare_groups(
        trained, {"": reference}, lambda given: ({name: own[name] for name in given}, "40 test images.")
    )
    return compare_detectors(groups[""], scorer.score_stage2(), scorer=scorer)


@pytest.fixture(scope="module")
def result(scorer: DetectionScorer) -> Result:
    skills = {"bad": 0.2, "pseudo": 0.6, "same": 0.6, "supervised": 1.0}
    return compared(scorer, skills, reference="pseudo", seeds=(0, 1))


def test_the_reference_comes_first_and_the_others_are_compared_with_it(result: Result) -> None:
    assert [row.variant for row in result.group.rows] == ["pseudo", "bad", "same", "supervised"]
    assert [row.verdict.split(":")[0] for row in result.group.rows] == [
        "reference", "significant", "not significant", "significant",
    ]  # fmt: skip
    assert result.group.rows[2].difference == Estimate(0.0, 0.0, 0.0)
    means = {row.variant: row.values[0].value for row in result.group.rows}
    assert result.group.rows[1].difference is not None
    assert result.group.rows[1].difference.value == pytest.approx(means["bad"] - means["pseudo"])
    assert means["bad"] == pytest.approx(np.mean(list(result.group.rows[1].by_seed.values())))
    assert means["supervised"] == pytest.approx(1.0)
    assert result.shares["bad"].value == pytest.approx(means["bad"])
    assert set(result.shares) == {"pseudo", "bad", "same", "teacher", "prior_mean_box", "prior_center_box"}
    teacher = result.group.others["teacher"][0].value
    assert result.minus_teacher["bad"].value == pytest.approx(means["bad"] - teacher)


def test_metrics_have_their_names(result: Result) -> None:
    metrics = experiment_metrics(result)
    for name in ("pseudo", "supervised", "teacher", "prior_mean_box"):
        assert {f"ap40/{name}", f"ap40/{name}/low", f"ap40/{name}/nodule_mass/high"} <= metrics.keys()
    assert metrics["ap40/bad_minus_reference/high"] < 0
    assert "ap40/pseudo_minus_reference" not in metrics
    assert metrics["ap40/bad_minus_teacher/low"] == result.minus_teacher["bad"].low
    assert metrics["ap40/bad/seed1"] == result.group.rows[1].by_seed[1]
    assert metrics["ap40/bad/seed_sd"] == pytest.approx(spread(list(result.group.rows[1].by_seed.values())))
    assert metrics["p_holm/bad"] == pytest.approx(3 * metrics["p/bad"])
    assert metrics["share_of_supervised/pseudo"] == result.shares["pseudo"].value
    assert (metrics["comparisons"], metrics["real"], metrics["real_after_holm"]) == (3, 2, 2)


def test_without_its_reference_nothing_is_compared(scorer: DetectionScorer, tmp_path: Path) -> None:
    alone = compared(scorer, {"bad": 0.3}, reference="gone", seeds=(0,))
    assert alone.group.rows[0].verdict == "no reference"
    assert experiment_metrics(alone)["comparisons"] == 0
    assert alone.shares == {}
    text = summary(experiment_settings(write_base(tmp_path)), alone)
    assert "comparisons: 0" in text
    assert text.endswith("not compared: lost.")


def trainings(result: Result) -> dict[tuple[str, int | None], tuple[str, float]]:
    return {
        (row.variant, seed): (f"runs/{row.variant}_s{seed}", 1.5) for row in result.group.rows for seed in row.by_seed
    }


SKILLS = {"pseudo": {}, "bad": {"seed": 1}, "same": {}, "supervised": {}, "lost": {}}


def test_tables_hold_variants_failures_and_what_is_not_compared(result: Result, tmp_path: Path) -> None:
    settings = experiment_settings(write_base(tmp_path), variants=SKILLS, reference="pseudo", seeds=[0, 1])
    table = main_table(result)
    rows = {str(row[0]): row for row in table.rows}
    assert list(rows) == [
        "pseudo", "bad", "same", "supervised", "lost", "CAM teacher: PCAM", "prior: mean box", "prior: centre box",
    ]  # fmt: skip
    assert rows["lost"][3] == "failed: the loss is nan"
    assert rows["bad"][3].startswith("significant: -0.")
    assert rows["bad"][4].endswith(", significant")
    first, second = result.group.rows[1].by_seed.values()
    assert rows["bad"][2] == f"{first:.3f}, {second:.3f} (sd {spread([first, second]):.3f})"
    assert rows["supervised"][-1] is None
    assert [row[0] for row in findings_table(result).rows] == [name for name in rows if name != "lost"]
    shown_text = summary(settings, result)
    assert f"AP40 {result.group.rows[0].values[0].value:.3f} against " in shown_text
    assert "2 of 3 comparisons" in shown_text
    assert "bad -0." in shown_text
    assert shown_text.endswith("not compared: lost.")


def test_columns_that_would_repeat_or_be_empty_are_omitted(scorer: DetectionScorer, tmp_path: Path) -> None:
    table = main_table(compared(scorer, {"good": 0.8, "bad": 0.3}, reference="good", seeds=(0,)))
    assert list(table.columns) == [
        "variant", "AP40 [95 %]", "difference from the reference", "p (Holm)", "minus CAM teacher",
    ]  # fmt: skip
    assert table.rows[1][2].startswith("significant, one training: -0.")


CURVE = {"label": "true boxes", "lines": {"mixed": {"bad": 0, "pseudo": "all"}, "alone": {"same": 25, "lost": 7}}}


def test_the_report_has_the_table_a_chart_and_the_curve(result: Result, tmp_path: Path) -> None:
    settings = experiment_settings(write_base(tmp_path), variants=SKILLS, reference="pseudo", seeds=[0, 1], curve=CURVE)
    outputs = write_experiment_report(tmp_path, settings, result, trainings=trainings(result))
    report = read_report(tmp_path)
    assert report is not None and report.synthetic
    figures = [block.path for block in report.blocks if isinstance(block, Figure)]
    assert figures == ["pictures/ap40.png", "pictures/curve.png"]
    page = outputs["markdown"].read_text()
    assert "phantom images" in page
    assert "| bad |" in page


def test_numbers_come_before_words() -> None:
    lines = {"a": {"x": "all", "y": 100}, "b": {"z": 25, "w": "none", "v": 100}}
    curve = CurveSettings(label="boxes", lines=lines)
    assert list(places_of(curve)) == [25, 100, "all", "none"]
