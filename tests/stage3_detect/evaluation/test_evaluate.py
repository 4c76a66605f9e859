"""Evaluation of the detector: entries, figures, verdict, operating points, and what cannot be compared."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cxr.coco import CocoBoxes, boxes_table, read_coco
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, open_run
from eval.detection.average_precision import ap_measure
from eval.detection.curves import Confidence
from eval.detection.indexed import IndexedDetections
from eval.detection.points import read_points
from eval.stats.bootstrap import resample_counts
from eval.stats.intervals import ratio_of
from eval.stats.measures import bootstrap, difference
from stage3_detect.evaluation.evaluate import evaluate as evaluate_detector
from stage3_detect.evaluation.results import Evaluation
from stage3_detect.labels.sources import Sources
from stage3_detect.settings.detector import Stage3Settings
from tests.stage3_detect.stage3_builders import FINDINGS, make_stage2_run

SETTINGS = Stage3Settings.model_validate({"data": {"image_px": 64}, "train": {"num_epochs": 1}, "num_resamples": 50})


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return open_run(make_stage2_run(tmp_path_factory.mktemp("judging")))


def sources_of(stage2: FinishedRun) -> Sources:
    labels, tune, test = (read_coco(stage2.output(name)) for name in ("pseudo_labels", "gt_tune", "gt_test"))
    return Sources(labels, tune, None, test)


def found(truth: CocoBoxes, *, shift: float = 0.0, score: float = 0.8) -> CocoBoxes:
    """The true boxes moved aside, and one false box of a low score in every image."""
    moved = truth.boxes.assign(x1=truth.boxes["x1"] + shift, x2=truth.boxes["x2"] + shift, score=score)
    false = [(image_id, FINDINGS[0], 0, 0, 3, 3, 0.05) for image_id in truth.images["image_id"]]
    return truth.with_boxes(boxes_table([*moved[boxes_table().columns].itertuples(index=False), *false]))


def evaluated(
    stage2: FinishedRun,
    sources: Sources,
    detections: CocoBoxes,
    tune: CocoBoxes | None,
    others: dict[str, CocoBoxes] | None = None,
) -> Evaluation:
    return evaluate_detector(detections, tune, stage2=stage2, sources=sources, settings=SETTINGS, others=others or {})


def result_of(
    stage2: FinishedRun,
    detections: CocoBoxes | None = None,
    *,
    others: dict[str, CocoBoxes] | None = None,
    with_tune: bool = True,
) -> Evaluation:
    sources = sources_of(stage2)
    detections = found(sources.test) if detections is None else detections
    tune = found(sources.tune) if with_tune else None
    return evaluated(stage2, sources, detections, tune, others)


def test_a_detector_that_sees_nothing(stage2: FinishedRun) -> None:
    truth = sources_of(stage2).test
    nothing = result_of(stage2, truth.with_boxes(boxes_table()))
    metrics = nothing.metrics
    assert metrics["ap40/detector"] == metrics["froc/detector"] == metrics["voc40/detector"] == 0
    assert metrics["ap40/detector_minus_teacher"] == -metrics["ap40/teacher"]
    assert metrics["ap40/detector_minus_teacher/high"] < 0
    assert "fewer lesions than its CAM teacher (PCAM): AP40 .00 against" in nothing.sentences[0]
    assert metrics["sensitivity/f1"] == metrics["false_positives_per_image/one_fp"] == 0
    assert np.isnan(metrics["precision/f1"]) and np.isnan(metrics["ece/detector"])


def test_figures_are_those_of_the_shared_resamples(stage2: FinishedRun) -> None:
    truth = sources_of(stage2).test
    detections = found(truth, shift=4)
    metrics = result_of(stage2, detections).metrics
    counts = resample_counts(truth.groups, num_resamples=50, seed=0)
    drawn = {
        name: bootstrap(ap_measure(IndexedDetections(truth, boxes).matches, 0.4), counts)
        for name, boxes in {"detector": detections, "teacher": read_coco(stage2.output("detections_pcam"))}.items()
    }
    for name, own in drawn.items():
        assert metrics[f"ap40/{name}"] == pytest.approx(own.mean)
        assert metrics[f"ap40/{name}/low"] == pytest.approx(own.mean_interval.low)
        assert metrics[f"ap40/{name}/nodule_mass/high"] == pytest.approx(own.interval(FINDINGS[0]).high)
    gap = difference(drawn["detector"], drawn["teacher"])
    assert metrics["ap40/detector_minus_teacher/low"] == pytest.approx(gap.low)
    for measure in ("ap10", "ap70", "ap5095", "voc40", "froc", "corloc", "pointing", "iobb_accuracy70"):
        assert f"{measure}/teacher/high" in metrics


def test_the_prior_without_a_map_is_scored_where_stage_2_has_it(stage2: FinishedRun) -> None:
    names = [entry.name for entry in result_of(stage2).board.entries]
    assert names == ["detector", "teacher", "prior_mean_box", "prior_center_box"]
    outputs = stage2.manifest["outputs"]
    more = {**outputs, "detections_prior_no_map": outputs["detections_pcam"]}
    result = result_of(replace(stage2, manifest={**stage2.manifest, "outputs": more}))
    assert [entry.name for entry in result.board.entries] == [*names, "prior_no_map"]
    assert "the prior that uses no map" in result.sentences[1]  # the strongest of the three


def test_another_detector_and_the_share_of_it(stage2: FinishedRun) -> None:
    truth = sources_of(stage2).test
    half = found(truth)
    half = half.with_boxes(half.boxes.drop(index=range(0, len(truth.boxes), 2)))
    result = result_of(stage2, half, others={"supervised": found(truth)})
    metrics = result.metrics
    assert metrics["ap40/supervised"] == 1
    assert metrics["share_of_supervised"] == pytest.approx(metrics["ap40/detector"])
    board = result.board
    share = ratio_of(board.main.ap40.of(), board.entry("supervised").ap40.of())
    assert metrics["share_of_supervised/low"] == pytest.approx(share.low)
    assert metrics["ap40/detector_minus_supervised"] < 0
    assert "fewer lesions than the detector trained on true boxes" in result.sentences[1]
    assert list(result.shares) == ["supervised"]


@pytest.mark.parametrize(("name", "split"), [("ap40/human", "test"), ("tune_ap40/human", "tune")])
def test_human_ceiling_keeps_the_name_of_its_split(stage2: FinishedRun, name: str, split: str) -> None:
    readers = {name: 0.5, f"{name}/low": 0.4, f"{name}/high": 0.6, f"{name}/nodule_mass": 0.7}
    other = replace(stage2, metrics={**stage2.metrics, **readers, "rodeo/pcam": 0.3, "rodeo/pcam/low": 0.2})
    result = result_of(other)
    assert {key: value for key, value in result.metrics.items() if "human" in key} == readers
    assert any(f".50 [.40, .60] on the {split} split; the detector is above" in s for s in result.sentences)
    assert (result.metrics["rodeo/teacher"], result.metrics["rodeo/teacher/low"]) == (0.3, 0.2)


def test_points_and_curves_are_chosen_on_tune_and_come_back_from_json(stage2: FinishedRun) -> None:
    result = result_of(stage2)
    points = read_points(json.loads(json.dumps(result.operating_points, allow_nan=False)))
    assert list(points) == ["f1", "half_fp", "one_fp"]
    assert points["f1"].scores == dict.fromkeys(FINDINGS, 0.8)
    assert 0.05 < points["half_fp"].scores[FINDINGS[0]] < 0.8  # a false box in every image would be one too many
    least = {finding: result.scores.confidence.score_at(finding, 0.05) for finding in FINDINGS}
    assert points["one_fp"].scores == pytest.approx(least)
    assert Confidence.from_dict(json.loads(json.dumps(result.score_curves))) == result.scores.confidence
    metrics = result.metrics
    assert metrics["sensitivity/half_fp"] == metrics["precision/half_fp"] == metrics["f1_score/half_fp"] == 1
    assert metrics["sensitivity/one_fp"] == 1
    assert metrics["false_positives_per_image/one_fp"] == 0  # those of every image have almost no confidence
    assert metrics["rodeo/detector"] == 1
    assert metrics["ece/detector_calibrated"] < metrics["ece/detector"]


def test_without_tune_boxes_nothing_is_chosen_and_it_is_said_why(stage2: FinishedRun) -> None:
    result = result_of(stage2, with_tune=False)
    assert (result.operating_points, result.score_curves) == ({}, {})
    assert result.scores.why_none == "no image of the tune split is left to choose on"
    assert "rodeo/detector" not in result.metrics and "ece/detector" in result.metrics
    sources = sources_of(stage2)
    empty = replace(sources, tune=sources.tune.with_boxes(sources.tune.boxes[:0]))
    without = evaluated(stage2, empty, found(sources.test), found(sources.tune))
    assert without.scores.why_none == "the tune images that are left have no true box"


def test_detections_of_other_images_or_findings_are_refused(stage2: FinishedRun) -> None:
    truth = sources_of(stage2).test
    other = replace(found(truth), images=truth.images[1:], findings=FINDINGS[:1])
    with pytest.raises(UserError, match=r"compare_with\.other: findings Nodule/Mass, expected") as caught:
        result_of(stage2, others={"other": other, "teacher": found(truth)})
    assert "compare_with.other: 1 images are not in both test splits" in str(caught.value)
    assert "compare_with.teacher: the name is taken" in str(caught.value)


def test_one_patient_has_no_interval(stage2: FinishedRun) -> None:
    sources = sources_of(stage2)
    one = replace(sources.test, images=sources.test.images.assign(patient_id="p"))
    result = evaluated(stage2, replace(sources, test=one), found(one), None)
    assert "ap40/detector/low" not in result.metrics
    assert np.isnan(result.metrics["ap40/detector_minus_teacher/low"])
    assert "do not differ significantly" in result.sentences[0] and "[" not in result.verdict
    assert "single patient" in result.sentences[-1]
