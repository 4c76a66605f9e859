"""eval.report.radiographs: pictures of image files keep their aspect, short names stay unique."""

from pathlib import Path

import pandas as pd
import pytest

from cxr.tables import Dataset, empty_boxes, image_table
from eval.report.radiographs import radiograph_of, short_ids
from tests.builders import write_picture

IDS = [
    ([], []),
    (["a"], ["a"]),
    (["a/b/1234", "a/b/1234"], ["…1234", "…1234"]),
    (["p1/view1", "p2/view1"], ["p1/view1", "p2/view1"]),
    (["long/p1/view1", "long/p2/view1"], ["…1/view1", "…2/view1"]),
    (["view1", "xview1"], ["view1", "xview1"]),
]


@pytest.mark.parametrize(("ids", "expected"), IDS)
def test_ids_are_shortened_while_they_stay_apart(ids: list[str], expected: list[str]) -> None:
    assert short_ids(ids, length=4) == expected


def test_a_radiograph_keeps_its_aspect_and_way_up(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", (300, 120), bright_xyxy=(60, 0, 120, 100))
    images = image_table(image_id=["a"], path=["a.png"])
    data = Dataset("tiny", tmp_path, images, pd.DataFrame(index=pd.Index(["a"])), empty_boxes())
    shown = radiograph_of(data, 0, 150)
    assert shown.shape == (150, 60, 3)
    assert shown[20, 45].tolist() == [255] * 3
    assert shown[100, 45].max() < 50
