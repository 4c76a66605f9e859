"""Children's boxes that are their parents' too, where readers draw both."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.labels import PARENTS
from stage3_detect.labels.parents import ParentShares, find_parent_shares, with_implied_parents, with_parents_boxes

GRAND, PARENT, CHILD, OTHER = "Lung Opacity", "Consolidation", "Pneumonia", "Pneumothorax"
FINDINGS = (CHILD, OTHER, GRAND, PARENT)  # not in the order of the tree
BOX, NEAR, FAR = (10, 20, 30, 60), (10, 20, 30, 56), (70, 10, 110, 40)
IS_PARENT = {(CHILD, PARENT): 0.8}


def coco(
    boxes: Mapping[str, list[tuple[Any, ...]]],
    *,
    labels: Mapping[str, Any] | None = None,
    findings: tuple[str, ...] = FINDINGS,
    **columns: list[Any],
) -> CocoBoxes:
    """boxes: image id -> (finding, box[, score]). columns: of the table of boxes."""
    images = pd.DataFrame([(name, f"{name}.png", "full", 130, 90) for name in boxes], columns=IMAGE_FIELDS)
    if labels is not None:
        images["labels"] = pd.Series([labels.get(name) for name in boxes], dtype=object)
    rows = [(name, row[0], *row[1], row[2] if len(row) > 2 else 0.5) for name, own in boxes.items() for row in own]
    return CocoBoxes(images, boxes_table(rows).assign(**columns), findings, {"data_root": "somewhere"})


def readers(*drawn: list[tuple[Any, ...]]) -> CocoBoxes:
    return coco({f"t{number}": own for number, own in enumerate(drawn)})


def parent_shares(drawn: CocoBoxes, parents: Mapping[str, str] = PARENTS) -> ParentShares:
    return find_parent_shares(drawn, parents)


def rows(found: CocoBoxes) -> list[tuple[Any, ...]]:
    names = ["image_id", "finding", "x1", "y1", "x2", "y2", "confidence"]
    return [(i, f, tuple(box), c) for i, f, *box, c in found.boxes[names].itertuples(index=False)]


def test_nothing_is_learned_from_nothing():
    assert not parent_shares(coco({}))
    labels = coco({"i": [(CHILD, BOX)]})
    assert with_parents_boxes(labels, {}) is labels


def test_share_is_of_the_childs_boxes_that_the_parent_marks_too():
    both, alone = [(CHILD, BOX), (PARENT, NEAR)], [(CHILD, BOX), (PARENT, FAR)]
    assert parent_shares(readers(both, both, both, both, alone)) == {(CHILD, PARENT): 0.8}
    assert not parent_shares(readers(both, both, alone, alone, alone))
    assert not parent_shares(readers(both, both, both, both)), "too few boxes to tell"


def test_boxes_of_different_images_do_not_meet():
    assert not parent_shares(readers(*[[(CHILD, BOX)]] * 5, *[[(PARENT, BOX)]] * 5))


def test_findings_outside_the_tree_and_parents_that_are_no_class_are_left_out():
    assert not parent_shares(readers(*[[(OTHER, BOX), (PARENT, BOX)]] * 5))
    boxes = {f"t{k}": [(CHILD, BOX)] for k in range(5)}
    assert not parent_shares(coco(boxes, findings=(CHILD, OTHER)))


def test_ignore_regions_of_readers_teach_nothing():
    boxes = {f"t{k}": [(CHILD, BOX), (PARENT, BOX)] for k in range(5)}
    assert not parent_shares(coco(boxes, iscrowd=[0, 1] * 5))


def test_a_grandparent_is_a_parent_of_its_own():
    three = [(CHILD, BOX), (PARENT, BOX), (GRAND, BOX)]
    shares = parent_shares(readers(*[three] * 5))
    assert shares == {(CHILD, PARENT): 1.0, (CHILD, GRAND): 1.0, (PARENT, GRAND): 1.0}
    # a class between them that is none here
    boxes = {f"t{k}": [(CHILD, BOX), (GRAND, BOX)] for k in range(5)}
    assert parent_shares(coco(boxes, findings=(CHILD, GRAND))) == {(CHILD, GRAND): 1.0}


def test_a_box_goes_to_parent_and_grandparent():
    parent_shares = {(CHILD, PARENT): 0.8, (CHILD, GRAND): 0.6}
    labels = coco({"i": [(CHILD, BOX)]}, labels={"i": {PARENT: 1, GRAND: 1}}, confidence=[0.5])
    assert sorted(rows(with_parents_boxes(labels, parent_shares))) == [
        ("i", PARENT, BOX, 0.4),
        ("i", GRAND, BOX, 0.3),
        ("i", CHILD, BOX, 0.5),
    ]


@pytest.mark.parametrize(
    "label", [{PARENT: 1}, {PARENT: 0}, {PARENT: -1}, {PARENT: None}, {PARENT: math.nan}, {}, None, math.nan]
)
def test_label_decides_where_the_parent_has_no_box(label: Any):
    is_added = isinstance(label, dict) and label.get(PARENT) == 1
    labels = coco({"i": [(CHILD, BOX)]}, labels={"i": label}, confidence=[0.5])
    expected = [("i", CHILD, BOX, 0.5)] + [("i", PARENT, BOX, 0.4)] * is_added
    assert rows(with_parents_boxes(labels, IS_PARENT)) == expected


@pytest.mark.parametrize(("label", "is_added"), [({}, True), ({PARENT: 1}, True), ({PARENT: 0}, False)])
def test_a_box_of_the_parent_counts_where_the_label_does_not_speak_against_it(label: Any, is_added: bool):
    labels = coco({"i": [(PARENT, FAR), (CHILD, BOX)]}, labels={"i": label}, confidence=[0.9, 0.5])
    found = rows(with_parents_boxes(labels, IS_PARENT))
    assert sorted(found) == sorted(
        [("i", PARENT, FAR, 0.9), ("i", CHILD, BOX, 0.5)] + [("i", PARENT, BOX, 0.4)] * is_added
    )


def test_without_labels_a_box_of_the_parent_affirms_it():
    labels = coco({"a": [(PARENT, FAR), (CHILD, BOX)], "b": [(CHILD, BOX)]}, confidence=[0.9, 0.5, 0.5])
    found = rows(with_parents_boxes(labels, IS_PARENT))
    assert [row for row in found if row[1] == PARENT] == [("a", PARENT, FAR, 0.9), ("a", PARENT, BOX, 0.4)]


def test_boxes_on_one_another_become_one_by_confidence():
    labels = coco({"i": [(PARENT, NEAR), (CHILD, BOX)]}, labels={"i": {PARENT: 1}}, confidence=[0.4, 0.5])
    child, parent = rows(with_parents_boxes(labels, IS_PARENT))
    assert child == ("i", CHILD, BOX, 0.5)
    assert parent[1] == PARENT and parent[2] == pytest.approx((10, 20, 30, 58)) and parent[3] == 0.4


def test_boxes_without_confidence_are_certain():
    labels = coco({"i": [(PARENT, FAR), (CHILD, BOX)]})
    found = with_parents_boxes(labels, IS_PARENT).boxes.sort_values("finding", ignore_index=True)
    assert found["finding"].tolist() == [PARENT, PARENT, CHILD]
    assert found["confidence"].fillna(1.0).tolist() == [1.0, 0.8, 1.0]


def test_regions_and_weak_boxes_neither_give_nor_take():
    drawn = [(CHILD, BOX), (CHILD, FAR, 0.1), (PARENT, NEAR, 0.1), (PARENT, NEAR)]
    labels = coco({"i": drawn}, labels={"i": {PARENT: 1}}, iscrowd=[1, 0, 0, 1], confidence=[0.5] * 4)
    found = with_parents_boxes(labels, IS_PARENT, min_score=0.2)
    assert found.boxes.equals(labels.boxes)
    assert len(with_parents_boxes(labels, IS_PARENT).boxes) == 5


def test_images_without_boxes_and_other_findings_stay():
    labels = coco({"b": [(OTHER, BOX)], "a": [], "c": [(PARENT, BOX)]}, labels={}, confidence=[0.5, 0.6])
    found = with_parents_boxes(labels, IS_PARENT)
    assert found.images.equals(labels.images) and found.boxes.equals(labels.boxes)


def test_a_reader_who_marks_the_child_alone_implies_the_parent():
    labels = {name: {CHILD: 1, PARENT: 1, GRAND: 0} for name in ("alone", "both", "moved")}
    labels["denied"] = {CHILD: 1, PARENT: 0}
    given = coco(
        {
            "alone": [(CHILD, BOX, math.nan)],
            "both": [(CHILD, BOX, math.nan), (PARENT, NEAR, math.nan)],
            "moved": [(CHILD, BOX, math.nan), (PARENT, FAR, math.nan)],
            "denied": [(CHILD, BOX, math.nan)],
        },
        labels=labels,
    )
    found = with_implied_parents(given, {**IS_PARENT, (CHILD, GRAND): 1.0})
    assert [row[:3] for row in rows(found)] == [
        ("alone", CHILD, BOX),
        ("alone", PARENT, BOX),
        ("both", CHILD, BOX),
        ("both", PARENT, NEAR),
        ("denied", CHILD, BOX),
        ("moved", CHILD, BOX),
        ("moved", PARENT, FAR),
    ]
    assert found.images["labels"].tolist() == list(labels.values())
    assert with_implied_parents(given, {}).boxes.equals(given.boxes)
