"""Figures of a study on hand-made runs: AP, intervals, differences, shares, tables, charts."""

import math
from pathlib import Path

import numpy as np
import pytest

from cxr.coco import read_coco
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, open_run
from eval.detection.average_precision import bootstrap_difference, bootstrap_mean_ap, resampled_ap
from eval.detection.coco_ap import evaluate
from eval.experiments.variants import Figures
from eval.report.blocks import Figure, read_report
from eval.stats.bootstrap import Difference, percentile_interval, resample_counts
from stage3_detect.experiments.comparison import Comparison, compare_variants, study_metrics
from stage3_detect.experiments.report import (
    Result,
    RunFacts,
    findings_table,
    main_table,
    places_of,
    summary,
    write_study_report,
)
from stage3_detect.experiments.scored_runs import Judge, open_judge, share_of, spread
from stage3_detect.settings.experiments import CurveSettings
from tests.stage3_detect.experiments.study_builders import detections, study_settings, write_base, write_run
from tests.stage3_detect.stage3_builders import make_stage2_run


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return open_run(make_stage2_run(tmp_path_factory.mktemp("study"), num_train=3, num_test=40))


@pytest.fixture(scope="module")
def judge(stage2: FinishedRun) -> Judge:
    return open_judge(stage2, num_resamples=200)


def test_no_detections_score_zero_and_intervals_are_there(judge: Judge) -> None:
    empty = judge.truth.with_boxes(judge.truth.boxes.iloc[:0])
    value = judge.figures(empty).estimates()[0]
    assert value == Difference(0.0, 0.0, 0.0)


def test_figures_are_those_of_the_paired_bootstrap(judge: Judge) -> None:
    """Beside eval.stats.bootstrap, which draws by itself."""
    own, other = (detections(judge.truth, skill=skill, seed=seed) for skill, seed in ((0.8, 1), (0.4, 2)))
    results = [evaluate(judge.truth, one) for one in (own, other)]
    figures = judge.figures(own)
    mean, *by_finding = figures.estimates()
    interval = bootstrap_mean_ap(results[0].matches, judge.truth.groups, num_resamples=200)
    assert (mean.value, mean.low, mean.high) == pytest.approx(
        (results[0].mean_ap(0.4), interval.low, interval.high)
    )
    aps = resampled_ap(results[0].matches, resample_counts(judge.truth.groups, num_resamples=200), iou=0.4)
    for k, (finding, value) in enumerate(zip(judge.truth.findings, by_finding, strict=True)):
        interval = percentile_interval(aps[:, k])
        assert value.value == pytest.approx(results[0].ap(0.4)[finding])
        assert (value.low, value.high) == pytest.approx((interval.low, interval.high))
    gap = bootstrap_difference(
        (results[0].matches, results[1].matches), judge.truth.groups, num_resamples=200
    )
    assert figures.minus(judge.figures(other)).estimates()[0] == pytest.approx(gap)


def test_teacher_and_priors_are_those_of_stage_2(stage2: FinishedRun, judge: Judge) -> None:
    others = judge.of_stage2()
    assert list(others) == ["teacher", "prior_mean_box", "prior_center_box"]
    teacher = evaluate(judge.truth, read_coco(stage2.output("detections_pcam"))).mean_ap(0.4)
    assert others["teacher"].point[0] == pytest.approx(teacher)
    boxes = judge.truth.boxes["finding"].value_counts()
    assert judge.in_words() == (
        f"40 test images of 40 patients; true boxes: Nodule/Mass {boxes['Nodule/Mass']}, "
        f"Pleural Effusion {boxes['Pleural Effusion']}."
    )


def test_a_run_on_other_images_is_refused(stage2: FinishedRun, judge: Judge, tmp_path: Path) -> None:
    written = write_run(tmp_path / "run", stage2, skill=0.8, seed=1)
    np.testing.assert_allclose(judge.of_run(tmp_path / "run").point, judge.figures(written).point)
    other = open_run(make_stage2_run(tmp_path / "other", num_train=3, num_test=9))
    write_run(tmp_path / "foreign", other, skill=0.8, seed=1)
    with pytest.raises(
        UserError, match=r"detections are of 9 images, of which 9 are among the 40 test images"
    ):
        judge.of_run(tmp_path / "foreign")
    with pytest.raises(UserError, match="is a run of stage2, expected stage3"):
        judge.of_run(stage2.dir)


def test_shares_and_spreads() -> None:
    own = Figures(np.array([0.3, 0.1]), np.array([[0.2, 0.1], [0.4, 0.1], [0.1, 0.1]]))
    whole = Figures(np.array([0.6, 0.9]), np.array([[0.4, 0.9], [0.5, 0.9], [0.0, 0.9]]))
    share = share_of(own, whole)
    np.testing.assert_allclose(share.point, [0.5])
    np.testing.assert_allclose(share.draws, [[0.5], [0.8], [np.nan]])
    assert math.isnan(spread([0.4]))
    assert spread([0.4, 0.6]) == pytest.approx(math.sqrt(0.02))


def trained(judge: Judge, skills: dict[str, float], seeds: tuple[int, ...]) -> dict[str, dict[int, Figures]]:
    return {
        name: {seed: judge.figures(detections(judge.truth, skill=skill, seed=seed)) for seed in seeds}
        for name, skill in skills.items()
    }


@pytest.fixture(scope="module")
def comparison(judge: Judge) -> Comparison:
    skills = {"bad": 0.2, "pseudo": 0.6, "same": 0.6, "supervised": 1.0}
    own = trained(judge, skills, (0, 1))
    return compare_variants(own, judge.of_stage2(), reference="pseudo", findings=judge.truth.findings)


def test_the_reference_comes_first_and_the_others_are_compared_with_it(comparison: Comparison) -> None:
    assert [row.variant for row in comparison.rows] == ["pseudo", "bad", "same", "supervised"]
    assert [row.verdict.split(":")[0] for row in comparison.rows] == [
        "reference", "real", "not shown", "real",
    ]  # fmt: skip
    assert comparison.rows[2].gap == Difference(0.0, 0.0, 0.0)
    means = {row.variant: row.values[0].value for row in comparison.rows}
    assert comparison.rows[1].gap is not None
    assert comparison.rows[1].gap.value == pytest.approx(means["bad"] - means["pseudo"])
    assert means["bad"] == pytest.approx(np.mean(list(comparison.by_seed["bad"].values())))
    assert means["supervised"] == pytest.approx(1.0)
    assert comparison.shares["bad"].value == pytest.approx(means["bad"])
    assert set(comparison.shares) == {
        "pseudo",
        "bad",
        "same",
        "teacher",
        "prior_mean_box",
        "prior_center_box",
    }
    teacher = comparison.others["teacher"][0].value
    assert comparison.minus_teacher["bad"].value == pytest.approx(means["bad"] - teacher)


def test_metrics_have_their_names(comparison: Comparison) -> None:
    metrics = study_metrics(comparison)
    for name in ("pseudo", "supervised", "teacher", "prior_mean_box"):
        assert {f"ap40/{name}", f"ap40/{name}/low", f"ap40/{name}/nodule_mass/high"} <= metrics.keys()
    assert metrics["ap40/bad_minus_reference/high"] < 0
    assert "ap40/pseudo_minus_reference" not in metrics
    assert metrics["ap40/bad_minus_teacher/low"] == comparison.minus_teacher["bad"].low
    assert metrics["ap40/bad/seed1"] == comparison.by_seed["bad"][1]
    assert metrics["ap40/bad/seed_sd"] == pytest.approx(spread(list(comparison.by_seed["bad"].values())))
    assert metrics["p_holm/bad"] == pytest.approx(3 * metrics["p/bad"])
    assert metrics["share_of_supervised/pseudo"] == comparison.shares["pseudo"].value
    assert (metrics["comparisons"], metrics["real"], metrics["real_after_holm"]) == (3, 2, 2)


def test_without_its_reference_nothing_is_compared(judge: Judge, tmp_path: Path) -> None:
    own = trained(judge, {"bad": 0.3}, (0,))
    alone = compare_variants(own, judge.of_stage2(), reference="gone", findings=judge.truth.findings)
    assert alone.rows[0].verdict == "no reference"
    assert study_metrics(alone)["comparisons"] == 0
    assert alone.shares == {}
    told = summary(study_settings(write_base(tmp_path)), result(alone, good="the loss is nan"))
    assert told == (
        "Mean AP40 on the test split, seed 0. Clear on these cases, with one training each: none. "
        "After Holm's correction for 0 comparisons: none. Failed, and not compared: good."
    )


def result(comparison: Comparison, **failed: str) -> Result:
    runs = tuple(
        RunFacts(name, seed, ap40, f"runs/{name}_s{seed}", 1.5)
        for name, seeds in comparison.by_seed.items()
        for seed, ap40 in seeds.items()
    )
    return Result(comparison, failed, runs, "40 test images.", "pcam", synthetic=True)


SKILLS = {"pseudo": {}, "bad": {"seed": 1}, "same": {}, "supervised": {}, "lost": {}}


def test_tables_hold_variants_failures_and_what_is_beside(comparison: Comparison, tmp_path: Path) -> None:
    settings = study_settings(write_base(tmp_path), variants=SKILLS, reference="pseudo", seeds=[0, 1])
    found = result(comparison, lost="the loss is nan")
    table = main_table(settings, found)
    rows = {str(row[0]): row for row in table.rows}
    assert list(rows) == [
        "pseudo", "bad", "same", "supervised", "lost", "CAM teacher: PCAM", "prior: mean box", "prior: centre box",
    ]  # fmt: skip
    assert rows["lost"][3] == "failed: the loss is nan"
    assert rows["bad"][3].startswith("real: −.")
    assert rows["bad"][4].endswith(", stays")
    first, second = comparison.by_seed["bad"].values()
    assert rows["bad"][2] == f"{first:.3f}, {second:.3f} (sd {spread([first, second]):.3f})"
    assert rows["supervised"][-1] is None
    assert [row[0] for row in findings_table(found).rows] == [name for name in rows if name != "lost"]
    told = summary(settings, found)
    assert told.startswith("Mean AP40 on the test split, seeds 0, 1. The reference pseudo has 0.")
    assert "Real differences: 2 (bad −." in told
    assert told.endswith("Failed, and not compared: lost.")


def test_columns_that_would_repeat_or_be_empty_are_left_out(judge: Judge, tmp_path: Path) -> None:
    own = trained(judge, {"good": 0.8, "bad": 0.3}, (0,))
    alone = compare_variants(own, judge.of_stage2(), reference="good", findings=judge.truth.findings)
    table = main_table(study_settings(write_base(tmp_path)), result(alone))
    assert list(table.columns) == [
        "variant", "AP40 [95 %]", "difference to the reference", "p by Holm", "minus CAM teacher",
    ]  # fmt: skip
    assert table.rows[1][2].startswith("clear, one training: −.")


CURVE = {
    "label": "true boxes",
    "lines": {"mixed": {"bad": 0, "pseudo": "all"}, "alone": {"same": 25, "lost": 7}},
}


def test_the_report_has_the_table_a_chart_and_the_curve(comparison: Comparison, tmp_path: Path) -> None:
    settings = study_settings(
        write_base(tmp_path), variants=SKILLS, reference="pseudo", seeds=[0, 1], curve=CURVE
    )
    outputs = write_study_report(tmp_path, settings, result(comparison, lost="x"))
    report = read_report(tmp_path)
    assert report is not None and report.synthetic
    figures = [block.path for block in report.blocks if isinstance(block, Figure)]
    assert figures == ["pictures/ap40.png", "pictures/curve.png"]
    page = outputs["markdown"].read_text()
    assert "drawn phantom images" in page
    assert "| bad |" in page


def test_numbers_come_before_words() -> None:
    lines = {"a": {"x": "all", "y": 100}, "b": {"z": 25, "w": "none", "v": 100}}
    curve = CurveSettings(label="boxes", lines=lines)
    assert list(places_of(curve)) == [25, 100, "all", "none"]
