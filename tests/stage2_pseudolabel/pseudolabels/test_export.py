"""Pseudo-labels: which images and boxes are exported, what becomes an ignore region, what is excluded."""

from pathlib import Path

import numpy as np
import pytest

from cxr.coco import boxes_table, read_coco, write_coco
from cxr.config import UserError, parse_settings
from cxr.tables import NOT_ASKED
from stage1_classify.settings.classifier import NotMentioned
from stage2_pseudolabel.boxes.fused_rule import FusedRule
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors
from stage2_pseudolabel.pseudolabels.export import (
    LOW_CONFIDENCE,
    NO_BOX,
    NOT_LABELLED,
    NOT_SEEN,
    UNCERTAIN_LABEL,
    UNCERTAIN_WITHOUT_BOX,
    ExportRules,
    PseudoLabels,
    further_below_confidence,
)
from stage2_pseudolabel.pseudolabels.report import count_table
from stage2_pseudolabel.settings.exported_boxes import PseudoLabelSettings
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
LESION, EFFUSION = FINDINGS
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


def cells(pseudo: PseudoLabels) -> list[tuple[str, str, str, list[float]]]:
    """Image, finding, reason of the ignore region, and corners of each row."""
    boxes = pseudo.coco.boxes
    names = (boxes[name] for name in ("image_id", "finding", "ignored_by"))
    return [(*row, corners) for *row, corners in zip(*names, boxes[CORNERS].to_numpy().round(6).tolist(), strict=True)]


def test_a_finding_that_the_classifier_does_not_see_is_ignored_and_the_others_keep_their_boxes(tmp_path: Path) -> None:
    """Shares .4 and .2, so with a ratio of 1 probabilities from .4 and from .2 on are seen."""
    data = training_set(tmp_path, [[1, 1], [1, 0], [0, 0], [NAN, 0], [0, NAN]])
    probability = np.full((5, 2), 0.9)
    probability[0] = 0.25, 0.2
    settings = PseudoLabelSettings(min_likelihood_ratio=1)
    pseudo = exported(data, lit_maps(5), probability=probability, settings=settings)
    assert cells(pseudo) == [
        ("i0", LESION, NOT_SEEN, [0, 0, 60, 40]), ("i0", EFFUSION, "", LIT_BOX), ("i1", LESION, "", LIT_BOX),
    ]  # fmt: skip
    assert pseudo.excluded == ()
    assert pseudo.coverage.base_rates.tolist() == [0.4, 0.2]
    assert (pseudo.coverage.positives.tolist(), pseudo.coverage.boxed.tolist()) == ([2, 1], [1, 1])
    assert pseudo.unseen[CORNERS].to_numpy().round(6).tolist() == [LIT_BOX]


@pytest.mark.parametrize(("not_mentioned", "reason"), [("zeros", ""), ("ignore", NOT_SEEN)])
def test_blank_labels_count_as_in_the_classifiers_training(
    tmp_path: Path, not_mentioned: NotMentioned, reason: str
) -> None:
    """The share of Lung Lesion is .25 with blanks as negatives, .5 without."""
    data = training_set(tmp_path, [[1, 1], [0, 0], [NAN, 0], [NAN, 0]])
    rules = ExportRules(PseudoLabelSettings(min_likelihood_ratio=1), not_mentioned=not_mentioned)
    pseudo = exported(data, lit_maps(4), probability=0.4, settings=rules)
    assert [cell[2] for cell in cells(pseudo)] == [reason, ""]


def test_findings_without_a_box_by_the_rule_are_ignored_in_the_whole_image(tmp_path: Path) -> None:
    pseudo = exported(training_set(tmp_path, [[1, 1], [1, -1]]), lit_maps(2, dark=[(0, 1), (1, 0), (1, 1)]))
    whole = [0, 0, 60, 40]
    assert cells(pseudo) == [
        ("i0", LESION, "", LIT_BOX), ("i0", EFFUSION, NO_BOX, whole),
        ("i1", LESION, NO_BOX, whole), ("i1", EFFUSION, UNCERTAIN_WITHOUT_BOX, whole),
    ]  # fmt: skip
    assert pseudo.excluded == ()
    assert pseudo.coverage.boxed.tolist() == [1, 0]


def test_the_former_setting_is_refused_and_the_new_one_named() -> None:
    with pytest.raises(UserError, match="min_likelihood_ratio"):
        parse_settings(PseudoLabelSettings, {"min_probability": 0.3}, source="x")


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


def test_what_the_set_does_not_label_is_ignored_in_the_whole_picture(tmp_path: Path) -> None:
    """The detector learns neither that it is there nor that it is not; the image's other finding has its box."""
    data = training_set(tmp_path, [[1, NOT_ASKED], [0, NOT_ASKED]])
    got = exported(data, lit_maps(2))
    assert got.ignored == {NOT_LABELLED: 2}
    boxes = got.coco.boxes[["image_id", "finding", "x1", "y1", "x2", "y2", "iscrowd"]].to_numpy().tolist()
    assert boxes == [
        ["i0", FINDINGS[0], *LIT_BOX, 0],
        ["i0", FINDINGS[1], 0, 0, 60, 40, 1],
        ["i1", FINDINGS[1], 0, 0, 60, 40, 1],
    ]
    assert got.coco.images["labels"].tolist() == [{FINDINGS[0]: label, FINDINGS[1]: None} for label in (1, 0)]
