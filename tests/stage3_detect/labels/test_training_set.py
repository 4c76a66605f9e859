"""Which images the detector learns from and what each of them tells: boxes with weights, regions, a validation part."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table, write_coco
from cxr.config import UserError
from cxr.runs.run_folder import open_run, start_run
from stage3_detect.labels.rows import cut_to_images
from stage3_detect.labels.sources import Sources, first_boxes, in_fixed_order, open_sources, require_pictures
from stage3_detect.labels.training_set import TrainingSet, choose_images, held_out, make_training_set
from stage3_detect.settings.detector import DataSettings, Stage3Settings, TrainSettings
from stage3_detect.settings.labels import LabelSettings, NoiseSettings, TrueBoxSettings
from tests.stage3_detect.stage3_builders import Stage2Settings

A, B, C = "Lung Opacity", "Nodule/Mass", "Pleural Effusion"
FINDINGS = (A, B, C)
WIDTH, HEIGHT = 130, 90
WHOLE = (0.0, 0.0, 130.0, 90.0)
OFF = {"box_weights": False, "ignore_regions": False, "image_labels": False, "shared_boxes_iou": None}


def coco_of(
    boxes: Mapping[str, list[tuple[Any, ...]]],
    *,
    labels: Mapping[str, Any] | None = None,
    patients: Mapping[str, str] | None = None,
    findings: tuple[str, ...] = FINDINGS,
) -> CocoBoxes:
    """boxes: image id -> (finding, box, score, ignored, confidence), the last three at will."""
    images = pd.DataFrame([(name, f"{name}.png", "full", WIDTH, HEIGHT) for name in boxes], columns=IMAGE_FIELDS)
    if labels is not None:
        images["labels"] = pd.Series([labels.get(name) for name in boxes], dtype=object)
    if patients is not None:
        images["patient_id"] = [patients[name] for name in boxes]
    marks = [(name, *mark) for name, own in boxes.items() for mark in own]
    full = [(*mark, *(0.5, 0, math.nan)[len(mark) - 3 :]) for mark in marks]
    table = boxes_table([(name, finding, *box, score) for name, finding, box, score, _, _ in full])
    table = table.assign(iscrowd=[row[4] for row in full], confidence=[float(row[5]) for row in full])
    return CocoBoxes(images, table, findings, {"data_root": "somewhere"})


BOX = (10.0, 20.0, 40.0, 50.0)


def settings(
    noise: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    true: Mapping[str, Any] | None = None,
    **data: Any,
) -> Stage3Settings:
    return Stage3Settings(
        data=DataSettings(image_px=64, **data),
        train=TrainSettings(num_epochs=1),
        noise=NoiseSettings(**(noise or {})),
        labels=LabelSettings(**(labels or {}), true_boxes=TrueBoxSettings(**(true or {}))),
    )


def many(count: int, *, prefix: str = "i", every: int = 1) -> dict[str, list[tuple[Any, ...]]]:
    """Images with one box of A each; of `every` 3 each third."""
    return {f"{prefix}{number:03d}": [(A, BOX)] if number % every == 0 else [] for number in range(count)}


def rows_of(training: TrainingSet, image_id: str) -> set[tuple[Any, ...]]:
    """(finding, box, weight, is_region) of an image."""
    number = training.images.index[training.images["image_id"] == image_id][0]
    rows = training.rows[training.rows["image"] == number]
    return {
        (finding, tuple(corners), round(weight, 6), bool(is_region))
        for finding, *corners, weight, is_region in rows.drop(columns="image").itertuples(index=False)
    }


def learned_without_holding_out(coco: CocoBoxes, given: Stage3Settings) -> TrainingSet:
    return make_training_set(coco, None, coco_of({"t": [(A, BOX)]}), given)


# --- choosing images --------------------


def test_nothing_to_choose_from() -> None:
    chosen = choose_images(coco_of({}), settings(), seed=0)
    assert (chosen.positives, chosen.normals, chosen.uncertain, chosen.left_out) == ([], [], [], [])
    with pytest.raises(UserError, match="no training image has a box"):
        make_training_set(coco_of({}), None, None, settings())


def test_an_image_is_positive_normal_uncertain_or_left_out() -> None:
    coco = coco_of(
        {
            "box": [(A, BOX)],
            "both": [(A, BOX), (B, BOX, math.nan, 1)],
            "weak": [(A, BOX, 0.2)],
            "region": [(A, BOX, math.nan, 1)],
            "empty": [],
            "reader": [(C, BOX, math.nan)],
        }
    )
    strict = {"min_score": 0.4, "normals_per_positive": 9}
    on = choose_images(coco, settings(labels=strict), seed=0)
    assert set(on.positives) == {"box", "both", "reader"}
    assert (on.normals, set(on.uncertain), on.left_out) == (["empty"], {"weak", "region"}, [])
    off = choose_images(coco, settings(OFF, strict), seed=0)
    assert (set(off.positives), off.normals) == (set(on.positives), on.normals)
    assert (off.uncertain, set(off.left_out)) == ([], {"weak", "region"})
    assert on.kinds == dict.fromkeys(on.positives, "positive") | {
        "empty": "normal",
        "weak": "uncertain",
        "region": "uncertain",
    }


def test_an_image_of_which_nothing_counts_is_no_normal() -> None:
    labels = {
        "denied": {A: 0, B: None},
        "silent": {A: None, "Fracture": 0},  # denies what is no class
        "unknown": None,
        "nan": {A: math.nan, B: 0},
        "box": {A: 1},
    }
    coco = coco_of({name: [(A, BOX)] if name == "box" else [] for name in labels}, labels=labels)
    wish = {"normals_per_positive": 9}
    masked = choose_images(coco, settings(labels=wish), seed=0)
    assert set(masked.normals) == {"denied", "nan"}
    for noise in ({"unmentioned_weight": 0.1}, {"image_labels": False}):
        assert set(choose_images(coco, settings(noise, wish), seed=0).normals) == set(labels) - {"box"}


def test_an_image_without_boxes_is_not_normal_if_its_label_is_positive_or_uncertain() -> None:
    labels = {"affirmed": {A: 1, B: 0}, "unsure": {A: -1, B: 0}, "other": {"Fracture": 1, A: 0}, "box": {A: 1}}
    coco = coco_of({name: [(A, BOX)] if name == "box" else [] for name in labels}, labels=labels)
    for noise in ({}, OFF):
        chosen = choose_images(coco, settings(noise, {"normals_per_positive": 9}), seed=0)
        assert chosen.normals == ["other"] and set(chosen.left_out) == {"affirmed", "unsure"}


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.25, 2), (0.5, 3), (1, 6), (9, 12)])
def test_share_of_normals_is_a_setting(share: float, count: int) -> None:
    coco = coco_of(many(18, every=3))
    chosen = choose_images(coco, settings(labels={"normals_per_positive": share}), seed=0)
    everything = choose_images(coco, settings(labels={"normals_per_positive": 9}), seed=0)
    assert len(chosen.positives) == 6 and chosen.normals == everything.normals[:count]


def test_other_images_change_nobodys_place() -> None:
    names = list(many(12))
    order = in_fixed_order(names, seed=0)
    assert in_fixed_order(names[3:], seed=0) == [name for name in order if name in names[3:]]
    assert order != names and in_fixed_order(names, seed=1) != order


# --- boxes and regions --------------------


def region(finding: str, weight: float) -> tuple[Any, ...]:
    return (finding, WHOLE, weight, True)


@pytest.mark.parametrize(
    ("label", "noise", "expected"),
    [
        (0, {}, set()),
        (None, {}, {region(B, 0)}),
        (math.nan, {}, {region(B, 0)}),
        (None, {"unmentioned_weight": 0.3}, {region(B, 0.3)}),
        (None, {"unmentioned_weight": 1}, set()),
        (1, {}, {region(B, 0.5)}),
        (1, {"affirmed_weight": 1}, set()),
        (-1, {}, {region(B, 0)}),
        (-1, {"image_labels": False}, set()),
        (None, {"image_labels": False}, set()),
        (1, OFF, set()),
    ],
)
def test_regions_by_what_the_label_says_of_a_class_without_a_box(
    label: Any, noise: Mapping[str, Any], expected: set[Any]
) -> None:
    coco = coco_of({"i": [(A, BOX)]}, labels={"i": {A: 0, B: label, C: 0, "Fracture": 1}})
    training = learned_without_holding_out(coco, settings(noise))
    assert rows_of(training, "i") == {(A, BOX, 1, False)} | expected


def test_a_class_that_the_label_leaves_out_and_an_image_without_labels_are_not_mentioned() -> None:
    coco = coco_of({"some": [(A, BOX)], "none": [(A, BOX)]}, labels={"some": {A: 0, C: 0}})
    training = learned_without_holding_out(coco, settings())
    assert rows_of(training, "some") == {(A, BOX, 1, False), region(B, 0)}
    assert rows_of(training, "none") == {(A, BOX, 1, False), region(A, 0), region(B, 0), region(C, 0)}


def test_no_column_of_labels_means_that_all_is_boxed() -> None:
    training = learned_without_holding_out(coco_of({"i": [(A, BOX)]}), settings())
    assert rows_of(training, "i") == {(A, BOX, 1, False)}


def test_an_uncertain_class_is_masked_in_its_region_or_else_everywhere() -> None:
    spot = (50.0, 20.0, 80.0, 60.0)
    coco = coco_of({"i": [(A, BOX), (B, spot, math.nan, 1)]}, labels={"i": {A: 0, B: -1, C: -1}})
    training = learned_without_holding_out(coco, settings())
    assert rows_of(training, "i") == {(A, BOX, 1, False), (B, spot, 0, True), region(C, 0)}
    silent = learned_without_holding_out(coco, settings({"ignore_regions": False}))
    assert rows_of(silent, "i") == {(A, BOX, 1, False), region(C, 0)}


def test_weak_boxes_become_regions_of_no_weight() -> None:
    coco = coco_of({"i": [(A, BOX, 0.9, 0, 0.8), (B, BOX, 0.1, 0, 0.7)]})
    given = settings(labels={"min_score": 0.5})
    assert rows_of(learned_without_holding_out(coco, given), "i") == {(A, BOX, 1, False), (B, BOX, 0, True)}


def test_boxes_weigh_by_confidence_and_1_on_average() -> None:
    coco = coco_of({"i": [(A, BOX, 0.5, 0, 0.2), (B, BOX, 0.5, 0, 0.6), (C, BOX, 0.5, 0, 0.4)]})
    rows = rows_of(learned_without_holding_out(coco, settings()), "i")
    assert rows == {(A, BOX, 0.5, False), (B, BOX, 1.5, False), (C, BOX, 1, False)}
    plain = rows_of(learned_without_holding_out(coco, settings({"box_weights": False})), "i")
    assert {row[2] for row in plain} == {1}


def test_boxes_without_confidence_are_certain_and_regions_do_not_count() -> None:
    coco = coco_of({"i": [(A, BOX, 0.5, 0, 0.5), (B, BOX, 0.5), (C, BOX, 0.5, 1, 0.9)]})
    rows = rows_of(learned_without_holding_out(coco, settings()), "i")
    assert rows == {(A, BOX, 0.666667, False), (B, BOX, 1.333333, False), (C, BOX, 0, True)}


def test_confidence_of_nothing_but_0_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    coco = coco_of({"i": [(A, BOX, 0.5, 0, 0), (B, BOX, 0.5, 0, 0)]})
    assert {row[2] for row in rows_of(learned_without_holding_out(coco, settings()), "i")} == {1}
    assert "confidence of all boxes is 0" in caplog.text


def test_boxes_are_cut_to_their_image_and_those_outside_left_out(caplog: pytest.LogCaptureFixture) -> None:
    coco = coco_of(
        {
            "cut": [(A, (-5.0, 80.0, 20.0, 99.0)), (B, (10.0, 10.0, 10.0, 40.0))],
            "outside": [(A, (140.0, 10.0, 160.0, 40.0))],
            "nan": [(A, (math.nan, 10.0, 160.0, 40.0))],
            "empty": [],
        }
    )
    found = cut_to_images(coco)
    assert found.boxes[["image_id", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [["cut", 0, 80, 20, 90]]
    assert found.images["image_id"].tolist() == ["cut", "empty"]  # something was marked: no normals
    assert "3 boxes have no area inside their image" in caplog.text and "2 images that have no other" in caplog.text
    assert len(cut_to_images(coco_of({"i": []})).images) == 1


# --- validation --------------------


def test_hold_out_keeps_patients_together_and_both_sides_filled() -> None:
    patients = {"a": "p", "b": "p", "c": "q", "d": ""}
    coco = coco_of({name: [(A, BOX)] for name in patients}, patients=patients)
    assert held_out(coco, [], 0.1, 0) == set()
    assert held_out(coco, ["a", "b"], 0.4, 0) == set()
    for share in (0.01, 0.3, 0.49):
        held = held_out(coco, list(patients), share, 0)
        assert held in ({"a", "b"}, {"c"}, {"d"})
    assert len(held_out(coco_of(many(40)), list(many(40)), 0.25, 0)) == 10


def test_what_is_held_out_is_not_learned_and_validates_without_regions() -> None:
    boxes = {name: [*marks, (B, BOX, math.nan, 1)] for name, marks in many(20, every=2).items()}
    training = make_training_set(coco_of(boxes), None, None, settings(holdout_share=0.3))
    learned, held = set(training.images["image_id"]), set(training.validation.images["image_id"])
    assert not learned & held and len(learned) == 14
    assert 0 < len(held) <= 6  # held-out images with a region alone are no normals
    assert held == set(training.validation.boxes["image_id"])
    assert set(training.validation.boxes["finding"]) == {A}


def test_tune_boxes_validate_and_nothing_is_held_out() -> None:
    tune = coco_of({"t1": [(A, BOX)], "t2": [(A, BOX, math.nan, 1)], "t3": [], "t4": [(A, (200.0, 0, 210.0, 9))]})
    training = make_training_set(coco_of(many(6)), None, tune, settings(validate_on="tune_boxes"))
    assert len(training.images) == 6
    assert training.validation.images["image_id"].tolist() == ["t1", "t3"]


def test_no_image_to_validate_on_is_the_users_mistake() -> None:
    coco = coco_of({"a": [(A, BOX)], "b": []}, patients={"a": "p", "b": "p"})
    with pytest.raises(UserError, match="of one patient"):
        make_training_set(coco, None, None, settings())
    with pytest.raises(UserError, match="no image of the tune split is left"):
        make_training_set(coco, None, coco_of({}), settings(validate_on="tune_boxes"))


def test_all_boxes_held_out_is_the_users_mistake() -> None:
    ids = in_fixed_order(["a", "b"], seed=0)
    coco = coco_of({ids[0]: [(A, BOX)], ids[1]: []})
    with pytest.raises(UserError, match="all images with boxes are held out"):
        make_training_set(coco, None, None, settings(labels={"normals_per_positive": 1}))
    other = coco_of({ids[0]: [], ids[1]: [(A, BOX)]})
    training = make_training_set(other, None, None, settings(labels={"normals_per_positive": 1}))
    assert training.images["image_id"].tolist() == [ids[1]]


def test_validation_without_a_box_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    make_training_set(coco_of(many(4)), None, coco_of({"t": []}), settings(validate_on="tune_boxes"))
    assert "no validation image has a box" in caplog.text


# --- few boxes --------------------


def tune_of(count: int) -> CocoBoxes:
    """Images in turn with two boxes, none, and an ignore region."""
    kinds: list[list[tuple[Any, ...]]] = [[(A, BOX), (B, BOX)], [], [(C, BOX, math.nan, 1)]]
    return coco_of({f"t{number:02d}": kinds[number % 3] for number in range(count)})


def test_few_boxes_are_nested_and_images_without_boxes_come_along() -> None:
    tune = tune_of(12)
    order = in_fixed_order(tune.images["image_id"], seed=3)
    counts = [2 if int(name[1:]) % 3 == 0 else 0 for name in order]
    for number in (1, 2, 3, 6, 8):
        taken = first_boxes(tune, number, seed=3)
        assert taken == set(order[: len(taken)])
        reached = np.cumsum(counts)[len(taken) - 1]
        assert reached in (number, number + 1) and counts[len(taken) - 1] == 2
    assert first_boxes(tune, 0, seed=3) == set()
    assert first_boxes(tune, "all", seed=3) == set(order)
    assert first_boxes(tune, 2, seed=3) < first_boxes(tune, 6, seed=3)
    assert len(first_boxes(tune, 8, seed=3)) > 4  # others on the way


def test_more_boxes_than_there_are_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"9 boxes asked for, the tune split has 8; give a smaller number, or all"):
        first_boxes(tune_of(12), 9, seed=0)
    with pytest.raises(UserError, match="the tune split has 0"):
        first_boxes(coco_of({}), 1, seed=0)
    for empty in (coco_of({}), coco_of({"i": []})):
        with pytest.raises(UserError, match="all asked for, the tune split has no box; set it to 0"):
            first_boxes(empty, "all", seed=0)


def test_no_patient_is_both_learned_from_and_chosen_on() -> None:
    patients = {f"i{number:03d}": f"p{number // 3}" for number in range(12)}
    tune = coco_of(many(12), patients=patients)
    order = in_fixed_order({f"p{number}" for number in range(4)}, seed=3)
    for number, count in ((1, 1), (3, 1), (4, 2), (9, 3)):
        taken = first_boxes(tune, number, seed=3)
        assert taken == {image_id for image_id, patient in patients.items() if patient in order[:count]}


def stage2_of(folder: Path, tables: Mapping[str, CocoBoxes]) -> Any:
    run = start_run(folder, stage="stage2", settings=Stage2Settings(), inputs={})
    for name, coco in tables.items():
        write_coco(folder / f"{name}.json", coco)
    run.finish({}, {name: folder / f"{name}.json" for name in tables})
    return open_run(folder)


def test_images_whose_boxes_are_learned_are_not_chosen_on(tmp_path: Path) -> None:
    tables = {"pseudo_labels": coco_of(many(3)), "gt_tune": tune_of(12), "gt_test": coco_of(many(2, prefix="x"))}
    stage2 = stage2_of(tmp_path, tables)
    none = open_sources(stage2, LabelSettings(), seed=0)
    assert none.true is None and len(none.tune.images) == 12 and len(none.labels.images) == 3
    few = open_sources(stage2, LabelSettings(true_boxes=TrueBoxSettings(num_boxes=4)), seed=0)
    assert few.true is not None
    taken, rest = set(few.true.images["image_id"]), set(few.tune.images["image_id"])
    assert not taken & rest and taken | rest == set(none.tune.images["image_id"])
    assert set(few.true.boxes["image_id"]) <= taken and set(few.tune.boxes["image_id"]) <= rest
    everything = open_sources(stage2, LabelSettings(true_boxes=TrueBoxSettings(num_boxes="all")), seed=0)
    assert len(everything.tune.images) == 0 and len(everything.tune.boxes) == 0
    with pytest.raises(UserError, match="no gt_train"):
        open_sources(stage2, LabelSettings(source="true_boxes"), seed=0)


def test_files_of_other_findings_are_refused(tmp_path: Path) -> None:
    swapped = coco_of({"t": [(A, BOX)]}, findings=(B, A, C))
    tables = {"pseudo_labels": coco_of(many(3)), "gt_tune": swapped, "gt_test": coco_of({"x": []})}
    with pytest.raises(UserError, match=r"gt_tune has the findings Nodule/Mass, Lung Opacity"):
        open_sources(stage2_of(tmp_path, tables), LabelSettings(), seed=0)


def test_missing_pictures_of_tune_and_test_are_reported_before_training(tmp_path: Path) -> None:
    train, tune, test = (
        replace(coco_of(many(count, prefix=name)), info={"data_root": str(tmp_path)})
        for name, count in (("r", 2), ("u", 2), ("e", 7))
    )
    sources = Sources(train, tune, None, test)
    for name in ("u000.png", "u001.png", "e003.png"):
        (tmp_path / name).touch()
    with pytest.raises(UserError) as caught:
        require_pictures(sources)
    *named, summary = caught.value.problems
    assert [line.partition(" (")[0] for line in named] == [
        f"stage 3: no file {tmp_path}/e00{number}.png" for number in (0, 1, 2, 4, 5)
    ]
    assert summary.startswith("stage 3: 6 pictures of the test split are missing")
    for number in range(7):
        (tmp_path / f"e00{number}.png").touch()
    require_pictures(sources)


def test_true_boxes_are_shown_more_often_and_their_labels_not_asked() -> None:
    # an id that both sources have, and a reader's region
    true = coco_of({"i000": [(B, BOX)], "t1": [], "t2": [(C, BOX, math.nan, 1)]}, labels={"i000": {A: 1}})
    labels = coco_of(many(4), labels={})
    given = settings({"unmentioned_weight": 0.5}, {"normals_per_positive": 0}, {"num_boxes": 1, "repeat": 3})
    training = make_training_set(labels, true, coco_of({"v": [(A, BOX)]}), given)
    images = training.images
    assert images["source"].tolist() == ["labels"] * 4 + ["tune"] * 3
    assert images["repeats"].tolist() == [1] * 4 + [3] * 3
    assert images["is_true"].tolist() == [False] * 4 + [True] * 3
    assert images["kind"].tolist() == ["positive"] * 5 + ["normal", "uncertain"]
    assert images["file"].iloc[4] == "somewhere/i000.png"
    per_image = training.rows.groupby("image")["finding"].agg(list).to_dict()
    assert per_image == {**{n: [A, A, B, C] for n in range(4)}, 4: [B], 6: [C]}
    without = make_training_set(labels, true, coco_of({"v": [(A, BOX)]}), settings(OFF, {}, {"num_boxes": 1}))
    assert "t2" not in set(without.images["image_id"])  # it is no normal either


def test_weights_are_1_on_average_over_an_epoch() -> None:
    labels = coco_of({"i": [(A, BOX, 0.5, 0, 0.4)], "j": [(A, BOX, 0.5, 0, 0.2)]})
    true = coco_of({"t": [(B, BOX, math.nan)]})
    given = settings(true={"num_boxes": 1, "repeat": 2})
    training = make_training_set(labels, true, coco_of({"v": [(A, BOX)]}), given)
    weights = training.rows["weight"].to_numpy()
    np.testing.assert_allclose(weights, np.array([0.4, 0.2, 1]) / 0.65)
    assert np.average(weights, weights=[1, 1, 2]) == pytest.approx(1)


def test_alone_an_epoch_is_as_long_as_with_pseudo_labels() -> None:
    labels, true = coco_of(many(50)), coco_of(many(7, prefix="t"))
    given = settings(true={"num_boxes": 7, "only": True})
    tune = coco_of({"v": [(A, BOX)]})
    training = make_training_set(labels, true, tune, given)
    assert set(training.images["source"]) == {"labels"} and training.images["is_true"].all()
    assert set(training.images["image_id"]) == set(many(7, prefix="t"))
    assert training.images["repeats"].tolist() == [8] * 7  # 56 pictures for 50
    held = make_training_set(labels, true, None, given)
    assert len(held.validation.images) == 1 and len(held.images) == 6
    assert held.images["repeats"].tolist() == [8] * 6  # 48 for 45, of which as large a share is held out
    few = make_training_set(coco_of(many(3)), true, tune, given)
    assert few.images["repeats"].tolist() == [1] * 7


def test_supervised_images_tell_their_boxes_only() -> None:
    coco = coco_of({"i": [(A, BOX, math.nan)]}, labels={"i": {B: 1, C: None}})
    given = settings(labels={"source": "true_boxes"})
    training = learned_without_holding_out(coco, given)
    assert training.images["is_true"].tolist() == [True]
    assert rows_of(training, "i") == {(A, BOX, 1, False)}
