"""AP40 of hand-made runs: equal to that of the functions in eval, refused on other images."""

import math
from pathlib import Path

import numpy as np
import pytest

from cxr.coco import read_coco
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, open_run
from eval.detection.average_precision import evaluate, main_ap_measure
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import bootstrap, difference
from stage3_detect.experiments.scores import DetectionScorer
from tests.stage3_detect.experiments.experiment_builders import detections, write_run
from tests.stage3_detect.stage3_builders import make_stage2_run


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return open_run(make_stage2_run(tmp_path_factory.mktemp("experiment"), num_train=3, num_test=40))


@pytest.fixture(scope="module")
def scorer(stage2: FinishedRun) -> DetectionScorer:
    return DetectionScorer(stage2, read_coco(stage2.output("gt_test")), 200)


def test_no_detections_score_zero_and_intervals_are_there(scorer: DetectionScorer) -> None:
    empty = scorer.truth.with_boxes(scorer.truth.boxes.iloc[:0])
    value = scorer.score(empty).estimates()[0]
    assert (value.value, value.low) == (0, 0)
    num = 1 / np.mean(1 / scorer.truth.boxes["finding"].value_counts()) * len(scorer.truth.findings)
    high = math.sin(math.asin(math.sqrt(0.375 / (num + 0.75))) + 1.96 / math.sqrt(4 * num + 2)) ** 2
    assert value.high == pytest.approx(high, abs=1e-4)


def test_figures_are_those_of_the_paired_bootstrap(scorer: DetectionScorer) -> None:
    """Compared with functions of eval that resample by themselves."""
    own, other = (detections(scorer.truth, skill=skill, seed=seed) for skill, seed in ((0.8, 1), (0.4, 2)))
    counts = resample_counts(scorer.truth.groups, num_resamples=200)
    results = [bootstrap(main_ap_measure(scorer.truth, one), counts) for one in (own, other)]
    figures = scorer.score(own)
    mean, *by_finding = figures.estimates()
    interval = results[0].mean_interval
    assert (mean.value, mean.low, mean.high) == pytest.approx((results[0].mean, interval.low, interval.high))
    for k, (finding, value) in enumerate(zip(scorer.truth.findings, by_finding, strict=True)):
        interval = results[0].interval(finding)
        assert value.value == pytest.approx(results[0].values[k])
        assert (value.low, value.high) == pytest.approx((interval.low, interval.high))
    gap = difference(*results)
    assert figures.minus(scorer.score(other))[0] == pytest.approx(gap)


def test_teacher_and_priors_are_those_of_stage_2(stage2: FinishedRun, scorer: DetectionScorer) -> None:
    others = scorer.score_stage2()
    assert list(others) == ["teacher", "prior_mean_box", "prior_center_box"]
    teacher = evaluate(scorer.truth, read_coco(stage2.output("detections_pcam"))).mean_ap(0.4)
    assert others["teacher"].values[0] == pytest.approx(teacher)
    boxes = scorer.truth.boxes["finding"].value_counts()
    assert scorer.describe() == (
        f"40 test images of 40 patients; true boxes: Nodule/Mass {boxes['Nodule/Mass']}, "
        f"Pleural Effusion {boxes['Pleural Effusion']}."
    )


def test_a_run_on_other_images_is_refused(stage2: FinishedRun, scorer: DetectionScorer, tmp_path: Path) -> None:
    written = write_run(tmp_path / "run", stage2, skill=0.8, seed=1)
    np.testing.assert_allclose(scorer.score_run(tmp_path / "run").values, scorer.score(written).values)
    other = open_run(make_stage2_run(tmp_path / "other", num_train=3, num_test=9))
    write_run(tmp_path / "foreign", other, skill=0.8, seed=1)
    with pytest.raises(UserError, match=r"detections are of 9 images, of which 9 are among the 40 test images"):
        scorer.score_run(tmp_path / "foreign")
    with pytest.raises(UserError, match="is a run of stage2, expected stage3"):
        scorer.score_run(stage2.dir)
