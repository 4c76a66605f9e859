"""Each kind of implausible box is pointed out, and nothing else; sizes are relative to the image."""

import pandas as pd
import pytest

from eval.audit.box_plausibility import FLAGS, MEASURES, measure_boxes, suspicious, unboxed
from tests.eval.audit.audit_builders import data_set

SIZE = pd.DataFrame({"height": [200.0], "width": [400.0]}, index=["a"])
"""An image that is 200 high and 400 wide."""


def flags_of(*boxes: tuple[float, float, float, float], region: str = "full", readers: str = "rr") -> list[list[str]]:
    """The flags of boxes of one finding in the image."""
    rows = [("a", "Mass", *box, reader) for box, reader in zip(boxes, readers, strict=False)]
    data = data_set(labels={"Mass": [1]}, boxes=rows, region=[region])
    measured = measure_boxes(data, SIZE)
    return [[flag for flag in FLAGS if row[flag]] for _, row in measured.iterrows()]


def test_no_boxes() -> None:
    measured = measure_boxes(data_set(labels={"Mass": []}), SIZE)
    assert measured.empty
    assert suspicious(measured).empty
    assert {*MEASURES, *FLAGS} <= set(measured.columns)


CASES = [
    ((100, 50, 200, 100), []),
    ((100, 50, 108, 59), ["tiny"]),  # 72 of 80,000 pixels; 80 are enough
    ((100, 50, 108, 60), []),
    ((40, 10, 360, 136), ["huge"]),  # 40,320 pixels of 80,000; 40,000 are allowed
    ((40, 10, 360, 135), []),
    ((100, 50, 202, 70), ["elongated"]),
    ((100, 50, 200, 70), []),
    ((0, 50, 39, 100), ["at the border"]),  # the outer 20 pixels are margin: 19 of 39 are inside
    ((0, 50, 40, 100), []),
    ((361, 50, 400, 100), ["at the border"]),
    ((100, 181, 120, 200), ["at the border"]),  # the lower margin begins at 190
]


@pytest.mark.parametrize(("box", "expected"), CASES)
def test_size_shape_and_place(box: tuple[float, float, float, float], expected: list[str]) -> None:
    assert flags_of(box) == [expected]


def test_the_midline_of_a_half_is_no_border() -> None:
    box = (361, 50, 400, 100)
    assert flags_of(box, region="left") == [[]]
    assert flags_of((0, 50, 39, 100), region="right_mirrored") == [["at the border"]]


REPEATED = [("rr", (100, 50, 200, 90), True), ("rs", (100, 50, 200, 90), False), ("rr", (100, 50, 200, 89), False)]


@pytest.mark.parametrize(("readers", "second", "expected"), REPEATED)
def test_a_repetition_has_the_same_reader_and_place(
    readers: str, second: tuple[float, float, float, float], expected: bool
) -> None:
    """The IoU of the second box with the first is .8 or .78."""
    assert flags_of((100, 50, 200, 100), second, readers=readers) == [[], ["repeated"] if expected else []]


def test_measures_are_relative_to_the_image() -> None:
    data = data_set(labels={"Mass": [1, 1]}, boxes=[(i, "Mass", 100, 50, 200, 70, "") for i in "ab"])
    measured = measure_boxes(data, SIZE)
    assert measured.loc[0, list(MEASURES)].tolist() == pytest.approx([0.25, 0.1, 0.025, 5.0, 0.375, 0.3])
    assert measured.loc[1, ["width", "height", "area"]].isna().all()  # the size of b is not known
    assert suspicious(measured).empty


def test_labels_and_boxes_that_contradict_each_other() -> None:
    boxes = [("a", "Mass", 100, 50, 200, 100, ""), ("b", "Mass", 100, 50, 200, 100, "")]
    data = data_set(labels={"Mass": [0, 1, 1, -1], "Edema": [1, 0, 0, 0]}, boxes=boxes)
    sizes = pd.concat([SIZE, SIZE.set_axis(["b"])])
    assert measure_boxes(data, sizes)["label says no"].tolist() == [True, False]
    assert [unboxed(data, name) for name in ("Mass", "Edema", "Nodule")] == [1, 1, 0]
