"""Readers' boxes fused by each rule, exactly; who read what."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError, parse_settings
from cxr.readers import FUSED_COLUMNS, ReaderSettings, fuse_readers, read_groups, readings_of

COLUMNS = ["image_id", "finding", "x1", "y1", "x2", "y2", "reader"]
RULES = ("union", "majority", "wbf")

# Three readers: two agree about one place (IoU 2/3), the third boxes another, and another finding.
ROWS = [
    ("a", "Edema", 0, 0, 10, 4, "R1"),
    ("a", "Edema", 2, 0, 12, 4, "R2"),
    ("a", "Edema", 50, 0, 60, 4, "R3"),
    ("a", "Nodule", 0, 0, 10, 4, "R3"),
]


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


def fused(*rows: tuple[object, ...], **settings: Any) -> list[list[object]]:
    """Finding, corners and votes of each fused box."""
    found = fuse_readers(table(*rows), ReaderSettings(**settings))
    assert list(found.columns) == FUSED_COLUMNS
    assert set(found["reader"]) <= {""}
    return found[["finding", "x1", "y1", "x2", "y2", "votes"]].to_numpy().tolist()


@pytest.mark.parametrize("settings", [*({"rule": rule} for rule in (*RULES, "em")), {"rule": "single", "reader": "R1"}])
def test_no_boxes_stay_no_boxes(settings: dict[str, Any]) -> None:
    found = fuse_readers(table(), ReaderSettings(**settings))
    assert found.empty
    assert list(found.columns) == FUSED_COLUMNS


def test_union_is_the_box_around_what_overlaps_and_one_vote_is_enough() -> None:
    assert fused(*ROWS, rule="union") == [
        ["Edema", 0, 0, 12, 4, 2], ["Edema", 50, 0, 60, 4, 1], ["Nodule", 0, 0, 10, 4, 1],
    ]  # fmt: skip


def test_majority_is_the_mean_box_that_more_than_half_of_the_images_readers_marked() -> None:
    assert fused(*ROWS, rule="majority") == [["Edema", 1, 0, 11, 4, 2]]


def test_majority_counts_readers_of_another_finding_and_those_that_it_is_told_of() -> None:
    two_of_two = ROWS[:2]
    assert fused(*two_of_two, rule="majority") == [["Edema", 1, 0, 11, 4, 2]]
    assert fused(*two_of_two, rule="majority", num_readers=4) == []
    settings = ReaderSettings(rule="majority")
    assert fuse_readers(table(*two_of_two), settings, readers_of={"a": 4}).empty
    assert len(fuse_readers(table(*two_of_two), settings, readers_of={"a": 3, "b": 9})) == 1
    assert len(fuse_readers(table(*two_of_two), settings, readers_of={"a": 1})) == 1  # two drew, so two read


def test_wbf_merges_all_boxes_that_overlap_and_votes_are_distinct_readers() -> None:
    rows = [*ROWS[:2], ("a", "Edema", 1, 0, 11, 4, "R1")]
    assert fused(*rows, rule="wbf") == [["Edema", 1, 0, 11, 4, 2]]
    assert fused(*rows, rule="wbf", min_votes=3) == []


def test_em_believes_a_careful_reader_alone_and_not_a_careless_one() -> None:
    """R1 marks in twelve images what nobody else sees; R2 and R3 agree in twelve others."""
    rows: list[tuple[object, ...]] = []
    for k in range(12):
        rows += [(f"a{k}", "Edema", 0, 0, 10, 4, "R1"), (f"a{k}", "Mass", 50, 0, 60, 4, "R2")]
        rows += [(f"a{k}", "Mass", 50, 0, 60, 4, "R3"), (f"b{k}", "Mass", 2, 0, 12, 4, "R2")]
        rows += [(f"b{k}", "Mass", 0, 0, 10, 4, "R3"), (f"b{k}", "Nodule", 80, 0, 90, 4, "R1")]
    alone = ("b0", "Mass", 30, 0, 40, 4, "R3")
    found = fuse_readers(table(*rows, alone), ReaderSettings(rule="em"))
    assert found["votes"].value_counts().to_dict() == {2: 24, 1: 1}
    assert found.loc[found["votes"] == 1, ["image_id", "x1"]].to_numpy().tolist() == [["b0", 30]]
    assert set(found["finding"]) == {"Mass"}
    assert (found.loc[found["image_id"] == "b3", ["x1", "x2"]].to_numpy() == [[1, 11]]).all()
    majority = fuse_readers(table(*rows, alone), ReaderSettings(rule="majority"))
    assert majority["votes"].tolist() == [2] * 24
    assert fuse_readers(table(*rows, alone), ReaderSettings(rule="em", min_votes=2))["votes"].tolist() == [2] * 24


def test_single_gives_one_readers_boxes_as_they_are() -> None:
    assert fused(*ROWS, rule="single", reader="R3") == [
        ["Edema", 50, 0, 60, 4, 1], ["Nodule", 0, 0, 10, 4, 1],
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"no box is by 'R4'; the readers are R1, R2, R3"):
        fused(*ROWS, rule="single", reader="R4")


@pytest.mark.parametrize("rule", RULES)
def test_min_votes_overrides_the_rule(rule: str) -> None:
    assert len(fused(*ROWS, rule=rule, min_votes=1)) == 3
    assert len(fused(*ROWS, rule=rule, min_votes=2)) == 1
    assert fused(*ROWS, rule=rule, min_votes=3) == []


@pytest.mark.parametrize("rule", ["union", "majority", "em"])
def test_two_boxes_of_one_reader_never_merge(rule: str) -> None:
    rows = [("a", "Edema", 0, 0, 10, 4, "R1"), ("a", "Edema", 1, 0, 11, 4, "R1")]
    assert [row[-1] for row in fused(*rows, rule=rule, min_votes=1)] == [1, 1]


def test_the_best_overlaps_merge_first() -> None:
    # R1's box overlaps both of R2's; the nearer one is its partner wherever it stands.
    rows = [
        ("a", "Edema", 0, 0, 10, 4, "R1"), ("a", "Edema", 4, 0, 14, 4, "R2"), ("a", "Edema", 1, 0, 11, 4, "R2"),
    ]  # fmt: skip
    assert fused(*rows, rule="majority", min_votes=1) == [
        ["Edema", 0.5, 0, 10.5, 4, 2], ["Edema", 4, 0, 14, 4, 1],
    ]  # fmt: skip


def test_boxes_merge_from_the_overlap_on_and_not_below_it() -> None:
    rows = [("a", "Edema", 0, 0, 10, 4, "R1"), ("a", "Edema", 5, 0, 15, 4, "R2")]  # IoU 1/3
    assert len(fused(*rows, rule="union", iou=1 / 3)) == 1
    assert len(fused(*rows, rule="union", iou=0.34)) == 2


def test_images_and_findings_do_not_mix() -> None:
    rows = [("a", "Edema", 0, 0, 10, 4, "R1"), ("b", "Edema", 0, 0, 10, 4, "R2"), ("a", "Mass", 0, 0, 10, 4, "R2")]
    found = fuse_readers(table(*rows), ReaderSettings(rule="union"))
    assert found[["image_id", "finding", "votes"]].to_numpy().tolist() == [
        ["a", "Edema", 1], ["b", "Edema", 1], ["a", "Mass", 1],
    ]  # fmt: skip


@pytest.mark.parametrize("rule", [*RULES, "em"])
def test_the_order_of_rows_changes_no_box(rule: str) -> None:
    rng = np.random.default_rng(5)
    corners = rng.uniform((0, 0, 20, 10), (40, 30, 60, 40), size=(60, 4))
    corners[:, 2:] += corners[:, :2]
    rows = [(f"i{k % 4}", "Edema", *box, f"R{rng.integers(1, 4)}") for k, box in enumerate(corners.tolist())]
    settings = ReaderSettings(rule=rule, min_votes=1, iou=0.3)
    first = fuse_readers(table(*rows), settings)
    other = fuse_readers(table(*rows).sample(frac=1, random_state=1), settings)
    assert 4 < len(first) < 60
    order = ["image_id", "x1", "y1", "x2", "y2"]
    pd.testing.assert_frame_equal(
        first.sort_values(order, ignore_index=True), other.sort_values(order, ignore_index=True)
    )


def test_a_consensus_passes_unchanged_beside_readers_boxes_that_are_fused() -> None:
    rows = [*ROWS[:2], ("a", "Edema", 0, 0, 10, 4, ""), ("b", "Edema", 3, 0, 9, 4, "")]
    found = fuse_readers(table(*rows), ReaderSettings(rule="majority"))
    assert found[["image_id", "x1", "x2"]].to_numpy().tolist() == [["a", 0, 10], ["b", 3, 9], ["a", 1, 11]]
    np.testing.assert_array_equal(found["votes"], [np.nan, np.nan, 2])
    alone = fuse_readers(table(*rows[2:]), ReaderSettings(rule="single", reader="R1"))
    assert alone[["image_id", "x1"]].to_numpy().tolist() == [["a", 0], ["b", 3]]
    assert alone["votes"].isna().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rule": "single"}, "needs `reader`"),
        ({"rule": "union", "reader": "R8"}, "is for rule single, got rule union"),
        ({"rule": "single", "reader": "R8", "min_votes": 2}, "remove `min_votes`"),
        ({"iou": 0}, "iou: got 0"),
        ({"groups": {"big": ["R8", "R9"], "rest": ["R9"]}}, "R9 listed more than once"),
    ],
)
def test_settings_that_contradict_are_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_settings(ReaderSettings, values, source="x.yaml")
    assert len(caught.value.problems) == 1


def test_readings_are_those_who_drew_a_box_and_as_many_silent_ones_as_are_told() -> None:
    assert readings_of(table()).empty
    boxes = table(*ROWS, ("b", "Edema", 0, 0, 10, 4, "R1"), ("c", "Edema", 0, 0, 10, 4, ""))
    assert readings_of(boxes).to_numpy().tolist() == [["a", "R1"], ["a", "R2"], ["a", "R3"], ["b", "R1"]]
    filled = readings_of(boxes, num_readers=3)
    assert filled[4:].to_numpy().tolist() == [["b", "?1"], ["b", "?2"]]


def test_groups_of_readers_have_the_images_that_no_other_group_read(caplog: pytest.LogCaptureFixture) -> None:
    readings = pd.DataFrame(
        [("a", "R8"), ("a", "R9"), ("b", "R1"), ("c", "R8"), ("c", "R1"), ("d", "R2"), ("d", "R1"), ("e", "R2")],
        columns=["image_id", "reader"],
    )  # fmt: skip
    groups = {"big": ["R8", "R9"], "rest": ["R1"], "absent": ["R7"]}
    with caplog.at_level(logging.WARNING, logger="raybox"):
        assert read_groups(readings, groups) == {"big": ["a"], "rest": ["b", "d"]}
    assert read_groups(readings, {}) == {}
    assert "group absent" in caplog.text


def test_a_consensus_has_no_groups_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="raybox"):
        assert read_groups(readings_of(table()), {"big": ["R8"], "rest": ["R1"]}) == {}
    assert [record.message for record in caplog.records] == [
        "readers: a consensus without readers' names, so no figures by group of readers"
    ]
