"""Labels of a round: exact boxes and confidences of tiny cases."""

import math

import numpy as np
import pandas as pd
import pytest

from cxr.coco import BOX_FIELDS, IMAGE_FIELDS, CocoBoxes, boxes_table, read_coco, write_coco
from eval.detection.average_precision import main_ap_measure
from eval.detection.confidence import fit_confidence
from eval.detection.curves import Confidence
from eval.stats.calibration import Curve
from stage3_detect.self_training.figures import label_figures, sources, tune_figures
from stage3_detect.self_training.relabel import (
    UNSURE,
    StudentScale,
    affirmed_pairs,
    chosen_boxes,
    relabel,
    student_boxes,
    student_scale,
)
from stage3_detect.settings.labels import SelfTrainingSettings

N, E = "Nodule/Mass", "Pleural Effusion"
PLAIN = SelfTrainingSettings(fusion_iou=0.4, min_confidence=0.0, student_weight=1)
CORNERS = BOX_FIELDS[2:6]


def images(labels: dict[str, dict[str, int | None]] | list[str]) -> pd.DataFrame:
    table = pd.DataFrame([(image_id, f"{image_id}.png", "full", 130, 90) for image_id in labels], columns=IMAGE_FIELDS)
    if isinstance(labels, dict):
        table["labels"] = pd.Series(list(labels.values()), dtype=object)
    return table


def labels(told: dict[str, dict[str, int | None]] | list[str], *rows: tuple[object, ...]) -> CocoBoxes:
    """Rows: image, finding, corners, confidence, iscrowd."""
    boxes = boxes_table([(*row[:6], 0.01) for row in rows]).assign(
        confidence=np.array([row[6] for row in rows], dtype=float),
        method=["layercam" if not row[7] else "" for row in rows],
        iscrowd=np.array([row[7] for row in rows], dtype=int),
        ignored_by=["uncertain label" if row[7] else "" for row in rows],
    )
    return CocoBoxes(images(told), boxes, (N, E))


def student(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Rows: image, finding, corners, confidence."""
    table = boxes_table([(*row[:6], 0.5) for row in rows])
    return table.assign(confidence=np.array([row[6] for row in rows], dtype=float), method="student")


def test_nothing_gives_nothing():
    empty = labels([])
    now = relabel(empty, student(), PLAIN)
    assert now.boxes.empty and now.images.empty and label_figures(now, empty)["num_boxes"] == 0
    alone = labels({"a": {N: 0, E: None}})
    now = relabel(alone, student(), PLAIN)
    assert now.boxes.empty and now.images.equals(alone.images) and not now.is_ignored.any()
    figures = label_figures(now, alone)
    assert figures["mean_confidence"] is None and figures["mean_iou"] is None


def test_boxes_that_agree_are_the_mean_weighted_by_confidence():
    teacher = labels({"a": {N: 1}}, ("a", N, 0, 0, 40, 30, 0.6, 0))
    now = relabel(teacher, student(("a", N, 10, 0, 50, 30, 0.2)), PLAIN)
    assert now.boxes[CORNERS].to_numpy()[0] == pytest.approx([2.5, 0, 42.5, 30])
    row = now.boxes.iloc[0]
    assert row["confidence"] == row["score"] == pytest.approx(0.4)
    assert (row["method"], row["iscrowd"], row["ignored_by"]) == ("layercam+student", 0, "")


def test_say_of_a_source_moves_corners_and_confidence():
    teacher = labels({"a": {N: 1}}, ("a", N, 0, 0, 40, 30, 0.6, 0))
    say = SelfTrainingSettings(fusion_iou=0.4, min_confidence=0, student_weight=3)
    now = relabel(teacher, student(("a", N, 10, 0, 50, 30, 0.2)), say)
    assert now.boxes[CORNERS].to_numpy()[0] == pytest.approx([5, 0, 45, 30])
    assert now.boxes["confidence"].tolist() == pytest.approx([(0.6 + 3 * 0.2) / 4])


def test_box_that_the_other_source_puts_elsewhere_counts_half():
    teacher = labels({"a": {N: 1}}, ("a", N, 0, 0, 20, 20, 0.6, 0))
    now = relabel(teacher, student(("a", N, 60, 60, 80, 80, 0.9)), PLAIN)
    assert now.boxes["confidence"].tolist() == pytest.approx([0.45, 0.3])
    assert now.boxes["method"].tolist() == ["student", "layercam"]


def test_source_without_any_box_of_the_finding_in_the_image_says_nothing():
    teacher = labels({"a": {N: 1, E: 1}, "b": {N: 1}}, ("a", N, 0, 0, 20, 20, 0.6, 0), ("b", N, 0, 0, 9, 9, 0.3, 0))
    now = relabel(teacher, student(("a", E, 60, 60, 80, 80, 0.9)), PLAIN)
    found = {(row.image_id, row.finding): row.confidence for row in now.boxes.itertuples()}
    assert found == pytest.approx({("a", N): 0.6, ("a", E): 0.9, ("b", N): 0.3})


def test_second_box_of_one_source_adds_no_confidence():
    teacher = labels({"a": {N: 1}}, ("a", N, 0, 0, 40, 30, 0.6, 0), ("a", N, 1, 0, 41, 30, 0.5, 0))
    now = relabel(teacher, student(("a", N, 0, 0, 40, 30, 0.4)), PLAIN)
    assert now.boxes["confidence"].tolist() == pytest.approx([0.5])


def test_unsure_box_becomes_a_region_but_the_best_of_a_finding_stays():
    teacher = labels(
        {"a": {N: 1}, "b": {N: 1}},
        ("a", N, 0, 0, 20, 20, 0.5, 0),
        ("a", N, 40, 0, 60, 20, 0.8, 0),
        ("b", N, 0, 0, 20, 20, 0.1, 0),
    )
    rows = student(("a", N, 40, 0, 60, 20, 0.8), ("b", N, 60, 60, 80, 80, 0.05))
    now = relabel(teacher, rows, SelfTrainingSettings(fusion_iou=0.4, min_confidence=0.3, student_weight=1))
    told = [(r.image_id, r.x1, r.confidence, r.iscrowd, r.ignored_by) for r in now.boxes.itertuples()]
    assert told == [
        ("a", 40, pytest.approx(0.8), 0, ""),
        ("a", 0, pytest.approx(0.25), 1, UNSURE),
        ("b", 0, pytest.approx(0.05), 0, ""),
        ("b", 60, pytest.approx(0.025), 1, UNSURE),
    ]


def test_ignore_regions_stay_unless_an_affirmed_finding_has_a_box_now():
    told: dict[str, dict[str, int | None]] = {"a": {N: -1, E: 1}, "b": {N: 1, E: None}}
    regions = (("a", N, 0, 0, 130, 90, math.nan, 1), ("a", E, 0, 0, 9, 9, 0.1, 1), ("b", N, 0, 0, 9, 9, 0.1, 1))
    now = relabel(labels(told, *regions), student(("a", E, 50, 50, 90, 80, 0.7)), PLAIN)
    kept = [(r.image_id, r.finding, r.iscrowd, r.ignored_by) for r in now.boxes.itertuples()]
    assert kept == [("a", N, 1, "uncertain label"), ("a", E, 0, ""), ("b", N, 1, "uncertain label")]


def test_denied_doubted_and_unmentioned_findings_get_no_box():
    teacher = labels({"a": {N: 0, E: None}, "b": {N: -1, E: 0}, "c": {}})
    wild = student(*[(image, finding, 0, 0, 50, 50, 0.99) for image in "abc" for finding in (N, E)])
    assert affirmed_pairs(teacher) == set() and relabel(teacher, wild, PLAIN).boxes.empty


def test_without_a_word_of_the_label_the_teachers_box_affirms():
    rows = (("a", N, 0, 0, 9, 9, 0.5, 0), ("b", E, 0, 0, 9, 9, 0.5, 1))
    assert affirmed_pairs(labels(["a", "b"], *rows)) == {("a", N)}
    told: dict[str, dict[str, int | None]] = {"a": {N: None, E: 1}, "b": {}}
    assert affirmed_pairs(labels(told, *rows)) == {("a", N), ("a", E)}
    assert affirmed_pairs(labels({"a": {N: 0}, "b": {}}, *rows)) == set()


def test_boxes_are_in_order_of_images_and_findings_and_survive_the_file(tmp_path):
    teacher = labels(
        {"b": {N: 1, E: 1}, "a": {E: 1}},
        ("a", E, 0, 0, 9, 9, 0.5, 0),
        ("b", E, 0, 0, 9, 9, 0.5, 0),
        ("b", N, 0, 0, 9, 9, 0.5, 0),
        ("b", N, 50, 50, 70, 80, 0.6, 0),
    )
    now = relabel(teacher, student(), PLAIN)
    assert [(r.image_id, r.finding, r.x1) for r in now.boxes.itertuples()] == [
        ("b", N, 50),
        ("b", N, 0),
        ("b", E, 0),
        ("a", E, 0),
    ]
    write_coco(tmp_path / "labels.json", now)
    again = read_coco(tmp_path / "labels.json")
    assert again.boxes["confidence"].tolist() == now.boxes["confidence"].tolist()
    assert again.images["labels"].tolist() == [{N: 1, E: 1}, {E: 1}]


def test_boxes_of_readers_count_as_certain():
    table = labels(["a"], ("a", N, 0, 0, 40, 30, 0.0, 0))
    plain = table.with_boxes(table.boxes[BOX_FIELDS])
    now = relabel(plain, student(("a", N, 0, 0, 40, 30, 0.5)), PLAIN)
    assert now.boxes["confidence"].tolist() == [0.75] and now.boxes["method"].tolist() == ["teacher+student"]


def test_student_takes_part_from_its_least_score_on_and_with_its_best_box():
    line = Curve(scale=1.0, offset=0.0)  # the score is the confidence
    scale = StudentScale(Confidence(line, {}), {N: 0.5, E: math.inf})
    rows = [("a", N, 0, 0, 9, 9, 0.7), ("a", N, 5, 5, 9, 9, 0.5), ("a", N, 7, 7, 9, 9, 0.4)]
    rows += [("b", N, 0, 0, 9, 9, 0.2), ("b", N, 5, 5, 9, 9, 0.1), ("b", E, 0, 0, 9, 9, 0.3)]
    found = CocoBoxes(images(["a", "b"]), boxes_table(rows), (N, E))
    chosen = chosen_boxes(found, scale)
    assert chosen["score"].tolist() == [0.7, 0.5, 0.2, 0.3]
    assert chosen["confidence"].tolist() == pytest.approx([0.7, 0.5, 0.2, 0.3])
    assert student_boxes(found, {("b", N)}).boxes["score"].tolist() == [0.2, 0.1]
    assert chosen_boxes(student_boxes(found, set()), scale).empty


def tune_case() -> tuple[CocoBoxes, CocoBoxes]:
    """Two images with a nodule each, none with an effusion; detections of both findings."""
    truth = boxes_table([("a", N, 0, 0, 20, 20, math.nan), ("b", N, 0, 0, 20, 20, math.nan)])
    found = [("a", N, 0, 0, 20, 20, 0.8), ("a", N, 60, 60, 80, 80, 0.6), ("b", N, 0, 0, 20, 21, 0.3)]
    found += [("c", N, 0, 0, 20, 20, 0.9), ("b", E, 0, 0, 20, 20, 0.7)]
    tune = CocoBoxes(images(["a", "b", "c"]), truth, (N, E))
    return tune, tune.with_boxes(boxes_table(found))


def test_scale_is_learnt_only_where_the_finding_is():
    tune, detections = tune_case()
    scale = student_scale(detections, tune, default_confidence=0.3)
    # F1 from .8 on: 2/3, from .6 on: 1/2, from .3 on: 4/5; the false box in image c does not count
    assert scale.min_scores[N] == 0.3
    there = detections.boxes[detections.boxes["image_id"] != "c"]
    assert scale.confidence.of(there).tolist() == fit_confidence(there, tune).of(there).tolist()


def test_finding_without_tune_box_takes_the_pooled_curve_and_the_default():
    names = [f"i{number}" for number in range(20)]
    true = boxes_table([(name, N, 0, 0, 20, 20, math.nan) for name in names])
    found = [(name, N, 0, 0, 20, 20, 0.9) for name in names] + [(name, N, 60, 60, 80, 80, 0.1) for name in names]
    tune = CocoBoxes(images(names), true, (N, E))
    scale = student_scale(tune.with_boxes(boxes_table(found)), tune, default_confidence=0.3)
    assert scale.min_scores[N] == 0.9 and E not in scale.confidence.by_finding
    logit = (math.log(0.3 / 0.7) - scale.confidence.pooled.offset) / scale.confidence.pooled.scale
    assert scale.min_scores[E] == pytest.approx(1 / (1 + math.exp(-logit)))
    assert 0.1 < scale.min_scores[E] < 0.9


def test_empty_tune_split_leaves_score_and_confidence_the_same():
    tune, _ = tune_case()
    scale = student_scale(tune.with_boxes(boxes_table()), tune, default_confidence=0.3)
    assert scale.min_scores == pytest.approx({N: 0.3, E: 0.3})
    assert scale.as_dict()["min_scores"] == scale.min_scores
    out_of_reach = StudentScale(scale.confidence, {N: math.inf})
    assert out_of_reach.as_dict()["min_scores"] == {N: None}


def test_figures_of_labels_say_what_became_of_them():
    told: dict[str, dict[str, int | None]] = {"a": {N: 1, E: 1}, "b": {N: 1}}
    before = labels(told, ("a", N, 0, 0, 20, 20, 0.6, 0), ("b", N, 0, 0, 20, 20, 0.2, 0))
    rows = student(("a", N, 0, 0, 20, 10, 0.6), ("a", E, 0, 0, 9, 9, 0.5), ("b", N, 60, 60, 80, 80, 0.9))
    now = relabel(before, rows, SelfTrainingSettings(fusion_iou=0.4, min_confidence=0.3, student_weight=1))
    assert sources(now.boxes).tolist() == ["both", "student", "student", "teacher"]
    figures = label_figures(now, before)
    counted = {"num_boxes": 3, "num_regions": 1, "from_teacher": 0, "from_student": 2, "from_both": 1}
    changed = {"num_kept": 1, "num_kept/teacher": 1, "num_dropped": 1, "num_added": 2, "num_added/both": 0}
    assert {name: figures[name] for name in counted | changed} == counted | changed
    assert figures["mean_confidence"] == pytest.approx((0.6 + 0.5 + 0.45) / 3)
    assert figures["mean_iou"] == pytest.approx((0.75 + 0) / 2)  # 20 x 15 in 20 x 20; nothing near


def test_first_round_has_no_change():
    figures = label_figures(labels({"a": {N: 1}}, ("a", N, 0, 0, 20, 20, 0.6, 0)), None)
    assert figures["num_boxes"] == figures["from_teacher"] == 1
    assert figures["num_kept"] is figures["num_added/student"] is figures["mean_iou"] is None


def test_figures_on_tune_and_paired_gain():
    tune, detections = tune_case()
    half = main_ap_measure(tune, detections)
    all_right = main_ap_measure(tune, tune.with_boxes(tune.boxes.assign(score=0.9)))
    first = tune_figures(tune, half, None, num_resamples=20, seed=0)
    assert first["tune_gain"] is None and 0 < (first["tune_ap40"] or 0) < 1
    then = tune_figures(tune, all_right, half, num_resamples=20, seed=0)
    assert then["tune_ap40"] == pytest.approx(1)
    assert then["tune_gain"] == pytest.approx(1 - (first["tune_ap40"] or 0))
    same = tune_figures(tune, half, half, num_resamples=20, seed=0)
    assert same["tune_gain"] == same["tune_gain/low"] == same["tune_gain/high"] == 0
