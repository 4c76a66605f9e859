"""Pseudo-labels: which images and boxes are exported, what becomes an ignore region, what is excluded."""

from pathlib import Path

import numpy as np
import pytest

from cxr.coco import boxes_table, read_coco, write_coco
from stage2_pseudolabel.boxes.fused_rule import FusedRule
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors
from stage2_pseudolabel.pseudolabels.export import (
    LOW_CONFIDENCE,
    UNCERTAIN_LABEL,
    UNCERTAIN_WITHOUT_BOX,
    further_below_confidence,
)
from stage2_pseudolabel.pseudolabels.report import count_table
from stage2_pseudolabel.settings.pseudolabels import PseudoLabelSettings
from tests.stage2_pseudolabel.pseudolabels.pseudolabel_builders import (
    FRAME,
    LIT_BOX,
    RULE,
    exported,
    lit_maps,
    predictors,
    training_set,
)
from tests.stage2_pseudolabel.stage2_builders import FINDINGS

NAN = float("nan")
CONFIDENCE = 4.5 / 5.5 - 1e-12
"""Of all boxes of `exported`: half the odds of .9."""
CORNERS = ["x1", "y1", "x2", "y2"]


def test_no_images_at_all(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, []), lit_maps(0))
    assert pseudo.coco.images.empty
    assert pseudo.coco.boxes.empty
    assert pseudo.excluded == ()
    assert pseudo.ignored == {}


def test_boxes_only_where_the_label_affirms_and_normals_are_listed(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, [[1, 0], [0, NAN], [1, 1]]), lit_maps(3))
    assert pseudo.excluded == ()
    assert pseudo.coco.images["image_id"].tolist() == ["i0", "i1", "i2"]
    boxes = pseudo.coco.boxes
    assert list(zip(boxes["image_id"], boxes["finding"], strict=True)) == [
        ("i0", "Lung Lesion"), ("i2", "Lung Lesion"), ("i2", "Pleural Effusion"),
    ]  # fmt: skip
    np.testing.assert_allclose(boxes[CORNERS].to_numpy(float), [LIT_BOX] * 3)
    assert boxes["score"].tolist() == pytest.approx([0.9] * 3)
    assert boxes["confidence"].tolist() == pytest.approx([4.5 / 5.5] * 3)  # half the odds of .9
    assert boxes["method"].tolist() == ["pcam"] * 3
    assert not pseudo.coco.is_ignored.any()


def test_the_label_of_every_image_stays_with_it(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, [[1, -1], [0, NAN]]), lit_maps(2))
    assert pseudo.coco.images["labels"].tolist() == [
        {"Lung Lesion": 1, "Pleural Effusion": -1}, {"Lung Lesion": 0, "Pleural Effusion": None},
    ]  # fmt: skip


def test_an_uncertain_finding_becomes_an_ignore_region_and_its_image_stays(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, [[-1, 0], [1, -1]]), lit_maps(2))
    boxes = pseudo.coco.boxes
    assert boxes[["image_id", "finding", "iscrowd", "ignored_by"]].to_numpy().tolist() == [
        ["i0", "Lung Lesion", 1, UNCERTAIN_LABEL],
        ["i1", "Lung Lesion", 0, ""],
        ["i1", "Pleural Effusion", 1, UNCERTAIN_LABEL],
    ]
    assert boxes["score"].tolist() == pytest.approx([0.9] * 3)
    assert pseudo.excluded == ()
    assert pseudo.ignored == {UNCERTAIN_LABEL: 2}


def test_an_uncertain_finding_without_a_box_is_ignored_in_the_whole_picture(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, [[0, -1]]), lit_maps(1, dark=[(0, 1)]))
    boxes = pseudo.coco.boxes
    assert boxes[CORNERS].to_numpy().tolist() == [[0, 0, 60, 40]]
    assert boxes[["iscrowd", "ignored_by"]].to_numpy().tolist() == [[1, UNCERTAIN_WITHOUT_BOX]]
    assert boxes[["score", "confidence"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("labels", "dark", "probability", "reason"),
    [([1, 0], [], 0.1, "does not see"), ([1, 1], [(0, 1)], 0.9, "no box by the rule")],
)
def test_what_would_be_a_false_normal_is_excluded_and_named(
    tmp_path: Path, labels: list[float], dark: list[tuple[int, int]], probability: float, reason: str
) -> None:
    data = training_set(tmp_path, [labels, [0, 0]])
    settings = PseudoLabelSettings(min_probability=0.3)
    pseudo = exported(data, lit_maps(2, dark=dark), probability=probability, settings=settings)
    assert pseudo.coco.images["image_id"].tolist() == ["i1"]
    assert pseudo.coco.boxes.empty
    assert [item.what for item in pseudo.excluded] == ["i0"]
    assert reason in pseudo.excluded[0].reason


def test_an_uncertain_finding_is_excluded_with_its_image(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[1, -1]])
    pseudo = exported(data, lit_maps(1, dark=[(0, 0), (0, 1)]))
    assert pseudo.coco.boxes.empty
    assert [item.what for item in pseudo.excluded] == ["i0"]


def test_an_image_without_maps_is_excluded_whatever_its_label_and_needs_no_file(tmp_path: Path) -> None:
    data = training_set(tmp_path, [[0, 0], [1, 0], [1, 0]])
    for name in ("i0", "i1"):
        (tmp_path / f"{name}.png").unlink()
    pseudo = exported(data, lit_maps(3, dark=[(0, 0), (1, 0)]), bad=["i0", "i1"])
    assert [(item.what, item.reason) for item in pseudo.excluded] == [
        ("i0", "no picture"), ("i1", "no picture"),
    ]  # fmt: skip
    assert pseudo.coco.boxes["image_id"].tolist() == ["i2"]


def test_each_finding_has_its_own_method(tmp_path: Path) -> None:
    other = np.zeros((1, 2, 4, 6), dtype=np.float32)
    other[:, :, 3, 5] = 1
    maps = {"pcam": lit_maps(1), "gradcam": other}
    pseudo = exported(training_set(tmp_path, [[1, 1]]), maps, using=predictors("gradcam", "pcam"))
    np.testing.assert_allclose(pseudo.coco.boxes[CORNERS].to_numpy(float), [[50.0, 30.0, 60.0, 40.0], LIT_BOX])
    assert pseudo.coco.boxes["method"].tolist() == ["gradcam", "pcam"]


def test_boxes_of_several_methods_are_exported_as_one(tmp_path: Path) -> None:
    """The second image's box is found by one method of two, so its score is half as high."""
    maps = {"pcam": lit_maps(2), "gradcam": lit_maps(2, dark=[(1, 0), (1, 1)])}
    name, rule = "boxes_pcam+gradcam", FusedRule((RULE, RULE))
    using = BoxPredictors(FINDINGS, (name, "pcam"), (rule, RULE), FRAME)
    pseudo = exported(training_set(tmp_path, [[1, 0], [1, 1]]), maps, using=using)
    np.testing.assert_allclose(pseudo.coco.boxes[CORNERS].to_numpy(float), [LIT_BOX] * 3)
    assert pseudo.coco.boxes["score"].tolist() == pytest.approx([0.9, 0.45, 0.9])
    assert pseudo.coco.boxes["method"].tolist() == [name, name, "pcam"]
    assert pseudo.coco.info["made_by"]["rules"][FINDINGS[0]] == f"{RULE}; {RULE}"


def test_the_file_says_where_its_boxes_come_from(tmp_path: Path) -> None:
    info = exported(training_set(tmp_path, [[1, 0]]), lit_maps(1)).coco.info
    assert (info["dataset"], info["split"], info["synthetic"]) == ("tiny", "train", False)
    assert info["made_by"]["stage"] == "stage2"
    assert info["made_by"]["methods"] == dict.fromkeys(FINDINGS, "pcam")
    assert info["made_by"]["rules"] == dict.fromkeys(FINDINGS, str(RULE))
    assert info["made_by"]["settings"]["min_confidence"] == 0


def test_a_filtered_box_becomes_an_ignore_region_and_its_image_stays(tmp_path: Path) -> None:
    settings = PseudoLabelSettings(min_confidence=0.9)
    pseudo = exported(training_set(tmp_path, [[1, 0]]), lit_maps(1), settings=settings)
    assert pseudo.coco.images["image_id"].tolist() == ["i0"]
    assert pseudo.ignored == {"low confidence": 1}
    assert pseudo.coco.is_ignored.tolist() == [True]
    assert pseudo.coco.boxes["score"].tolist() == pytest.approx([0.9])


def test_the_written_file_says_the_same(tmp_path: Path) -> None:
    coco = exported(training_set(tmp_path, [[1, -1], [0, 0]]), lit_maps(2)).coco
    write_coco(tmp_path / "pseudo.json", coco)
    back = read_coco(tmp_path / "pseudo.json")
    assert back.images["labels"].tolist() == coco.images["labels"].tolist()
    assert back.is_ignored.tolist() == [False, True]
    for name in ("method", "ignored_by"):
        assert back.boxes[name].tolist() == coco.boxes[name].tolist()
    np.testing.assert_allclose(back.boxes["confidence"].to_numpy(), coco.boxes["confidence"].to_numpy())
    assert back.info == coco.info


# --- boxes of low confidence ---


@pytest.mark.parametrize(("minimum", "ignored"), [(0.0, {}), (CONFIDENCE, {}), (0.82, {LOW_CONFIDENCE: 1})])
def test_confidence_at_the_minimum_passes(tmp_path: Path, minimum: float, ignored: dict[str, int]) -> None:
    settings = PseudoLabelSettings(min_confidence=minimum)
    assert exported(training_set(tmp_path, [[1, 0]]), lit_maps(1), settings=settings).ignored == ignored


def test_the_best_box_of_an_image_and_finding_stays_whatever_its_confidence() -> None:
    rows = [("a", "L", 0.3), ("a", "L", 0.5), ("a", "L", 0.5), ("a", "P", 0.1), ("b", "L", 0.1)]
    boxes = boxes_table([(image, finding, 0, 0, 9, 9, score) for image, finding, score in rows])
    found = further_below_confidence(boxes.assign(confidence=[0.25, 0.1, 0.1, 0.0, 0.0]), 0.25)
    assert found.tolist() == [False, False, True, False, False]  # on ties the first is best
    assert further_below_confidence(boxes_table().assign(confidence=[]), 0.25).tolist() == []


def test_export_keeps_further_boxes_of_high_confidence_alone(tmp_path: Path) -> None:
    maps = lit_maps(1)
    maps[0, 0, 3, 5] = 0.6  # a second component, its evidence .6
    data = training_set(tmp_path, [[1, 0]])
    both, one = (
        exported(data, maps, settings=PseudoLabelSettings(min_confidence_further=value)) for value in (0.3, 0.4)
    )  # confidence of the second: half the odds of .9 * .6, .37
    assert (len(both.coco.boxes), len(both.dropped)) == (2, 0)
    assert (len(one.coco.boxes), len(one.dropped), one.ignored) == (1, 1, {})
    assert "1 further boxes" in count_table(one).note


def test_further_boxes_of_an_uncertain_finding_are_dropped_without_being_counted(tmp_path: Path) -> None:
    maps = lit_maps(1)
    maps[0, 0, 3, 5] = 0.6
    settings = PseudoLabelSettings(min_confidence_further=0.4)
    pseudo = exported(training_set(tmp_path, [[-1, 0]]), maps, settings=settings)
    assert pseudo.ignored == {"uncertain label": 1}
    assert pseudo.dropped.empty  # what is dropped counts boxes


def test_an_uncertain_finding_is_not_counted_as_filtered(tmp_path: Path) -> None:
    settings = PseudoLabelSettings(min_confidence=0.9)
    pseudo = exported(training_set(tmp_path, [[1, -1]]), lit_maps(1), settings=settings)
    assert pseudo.ignored == {LOW_CONFIDENCE: 1, "uncertain label": 1}
