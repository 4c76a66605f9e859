import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table, read_coco, write_coco
from cxr.config import UserError
from cxr.masks import area_of, mask_of_runs, masks_in
from tests.fuzzing import broken, check_all, num_cases

IMAGES = pd.DataFrame(
    [("a", "dir/a.jpg", "full", 60, 40), ("b:R", "dir/b.jpg", "right_mirrored", 30, 40)], columns=IMAGE_FIELDS
)


def test_no_boxes_survive_a_round_trip(tmp_path: Path) -> None:
    coco = CocoBoxes(IMAGES, boxes_table(), ("Edema", "Fracture"), {"data_root": "data"})
    write_coco(tmp_path / "x.json", coco)
    back = read_coco(tmp_path / "x.json")
    assert back.findings == ("Edema", "Fracture")
    assert back.boxes.empty
    assert back.info == {"data_root": "data"}
    pd.testing.assert_frame_equal(back.images, IMAGES)


def test_boxes_with_and_without_score_survive(tmp_path: Path) -> None:
    rows = [("a", "Fracture", 1.5, 2.0, 30.0, 20.25, 0.5), ("b:R", "Edema", 0.0, 0.0, 3.0, 2.0, float("nan"))]
    coco = CocoBoxes(IMAGES, boxes_table(rows).assign(votes=[2.0, 3.0]), ("Edema", "Fracture"))
    write_coco(tmp_path / "x.json", coco)
    pd.testing.assert_frame_equal(read_coco(tmp_path / "x.json").boxes, coco.boxes)


def test_the_file_is_plain_coco(tmp_path: Path) -> None:
    coco = CocoBoxes(IMAGES, boxes_table([("a", "Edema", 1, 2, 4, 8, 0.5)]), ("Edema",))
    write_coco(tmp_path / "x.json", coco)
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 6], "area": 18, "iscrowd": 0, "score": 0.5}
    ]
    assert document["images"][0] == {
        "id": 1, "file_name": "dir/a.jpg", "width": 60, "height": 40, "image_id": "a", "region": "full",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"images": []}', '{"images": [{}], "categories": [], "annotations": []}']
)
def test_damaged_files_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        read_coco(tmp_path / "x.json")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        read_coco(tmp_path / "x.json")


def test_bootstraps_draw_patients_where_known(tmp_path: Path) -> None:
    assert CocoBoxes(IMAGES, boxes_table(), ("Edema",)).groups == ["a", "b:R"]
    known = CocoBoxes(IMAGES.assign(patient_id=["p1", ""]), boxes_table(), ("Edema",))
    write_coco(tmp_path / "x.json", known)
    assert read_coco(tmp_path / "x.json").groups == ["p1", "b:R"]


def test_ignore_regions_and_optional_columns_survive(tmp_path: Path) -> None:
    rows = [("a", "Edema", 1, 2, 30, 20, 0.5), ("b:R", "Edema", 0, 0, 3, 2, float("nan"))]
    boxes = boxes_table(rows).assign(
        iscrowd=[0, 1], votes=[2.0, float("nan")], confidence=[0.25, float("nan")],
        reader=["R1", ""], method=["pcam", ""], ignored_by=["", "uncertain label"],
    )  # fmt: skip
    write_coco(tmp_path / "x.json", CocoBoxes(IMAGES, boxes, ("Edema",)))
    back = read_coco(tmp_path / "x.json")
    pd.testing.assert_frame_equal(back.boxes, boxes)
    assert back.is_ignored.tolist() == [False, True]
    assert back.without_ignored().boxes["image_id"].tolist() == ["a"]
    first, second = json.loads((tmp_path / "x.json").read_text())["annotations"]
    assert (first["iscrowd"], first["confidence"], "ignored_by" in first) == (0, 0.25, False)
    assert (second["iscrowd"], "score" in second, "votes" in second) == (1, False, False)


def test_without_a_column_of_regions_all_are_boxes(tmp_path: Path) -> None:
    empty = CocoBoxes(IMAGES, boxes_table(), ("Edema",))
    assert empty.is_ignored.tolist() == []
    plain = empty.with_boxes(boxes_table([("a", "Edema", 1, 2, 4, 8, 0.5)]))
    assert plain.is_ignored.tolist() == [False]
    write_coco(tmp_path / "x.json", plain.with_boxes(plain.boxes.assign(iscrowd=0)))
    pd.testing.assert_frame_equal(read_coco(tmp_path / "x.json").boxes, plain.boxes)


def test_labels_survive_and_tell_denied_from_not_mentioned(tmp_path: Path) -> None:
    labels = [{"Edema": 1, "Fracture": None}, {"Edema": 0.0, "Fracture": float("nan")}]
    write_coco(tmp_path / "x.json", CocoBoxes(IMAGES.assign(labels=labels), boxes_table(), ("Edema",)))
    read = read_coco(tmp_path / "x.json").images["labels"].tolist()
    assert read == [{"Edema": 1, "Fracture": None}, {"Edema": 0, "Fracture": None}]
    document = json.loads((tmp_path / "x.json").read_text())
    del document["images"][1]["labels"]
    (tmp_path / "x.json").write_text(json.dumps(document))
    assert read_coco(tmp_path / "x.json").images["labels"].tolist()[1] == {}


def test_label_matrix_is_computed_once_and_kept_with_the_images() -> None:
    labels = [{"Edema": -1, "Fracture": None, "Other": 1}, {"Fracture": 0}]
    coco = CocoBoxes(IMAGES.assign(labels=labels), boxes_table(), ("Edema", "Fracture"))
    expected = np.array([[-1, np.nan], [np.nan, 0]])
    np.testing.assert_array_equal(coco.label_matrix, expected)
    assert coco.with_boxes(boxes_table()).label_matrix is coco.label_matrix
    np.testing.assert_array_equal(coco.select(["b:R"]).label_matrix, expected[1:])
    assert CocoBoxes(IMAGES, boxes_table(), ("Edema",)).label_matrix is None
    assert coco.select([]).label_matrix.shape == (0, 2)


def test_labels_of_other_values_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "x.json", CocoBoxes(IMAGES.assign(labels=[{"Edema": 1}] * 2), boxes_table(), ("Edema",)))
    text = (tmp_path / "x.json").read_text().replace('"Edema": 1', '"Edema": 2')
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json.*label 2 of Edema"):
        read_coco(tmp_path / "x.json")


def test_pycocotools_reads_regions_as_crowds(tmp_path: Path) -> None:
    boxes = boxes_table([("a", "Edema", 1, 2, 4, 8, 0.5), ("a", "Edema", 0, 0, 60, 40, 0.5)])
    labelled = IMAGES.assign(labels=[{"Edema": 1}, {"Edema": -1}])
    write_coco(tmp_path / "x.json", CocoBoxes(labelled, boxes.assign(iscrowd=[0, 1]), ("Edema",)))
    coco = COCO(str(tmp_path / "x.json"))
    assert coco.getAnnIds(iscrowd=True) == [2]
    assert coco.getAnnIds(iscrowd=False) == [1]


def test_completeness_and_number_of_readers_survive(tmp_path: Path) -> None:
    coco = CocoBoxes(IMAGES.assign(complete=[True, False], num_readers=[1, 3]), boxes_table(), ("Edema",))
    write_coco(tmp_path / "x.json", coco)
    pd.testing.assert_frame_equal(read_coco(tmp_path / "x.json").images, coco.images)


def masked(mask: object) -> dict[str, object]:
    """A COCO file of one box on an image of 4 x 3 pixels (W x H) with this segmentation."""
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 0, 2, 3], "segmentation": mask}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}],
        "categories": [{"id": 1, "name": "Edema"}],
        "annotations": [annotation],
    }


def test_masks_survive_and_are_read_by_pycocotools(tmp_path: Path) -> None:
    mask = mask_of_runs([5, 2], (40, 60))
    rows = [("a", "Edema", 1, 0, 3, 3, 0.5), ("a", "Edema", 0, 0, 9, 9, 0.5)]
    boxes = boxes_table(rows).assign(mask=pd.Series([mask, None], dtype=object))
    write_coco(tmp_path / "x.json", CocoBoxes(IMAGES, boxes, ("Edema",)))
    assert masks_in(read_coco(tmp_path / "x.json").boxes) == [mask, None]
    reference = COCO(str(tmp_path / "x.json"))
    assert np.argwhere(reference.annToMask(reference.loadAnns([1])[0])).tolist() == [[5, 0], [6, 0]]


MASKS = {
    "nothing": ([], None),
    "runs": ({"size": [3, 4], "counts": [3, 6, 3]}, 6),
    "polygons": ([[1, 0, 3, 0, 3, 3, 1, 3]], 6),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_of_other_tools(tmp_path: Path, case: str) -> None:
    segmentation, area = MASKS[case]
    (tmp_path / "x.json").write_text(json.dumps(masked(segmentation)), encoding="utf-8")
    (mask,) = masks_in(read_coco(tmp_path / "x.json").boxes)
    assert (None if mask is None else area_of(mask)) == area


@pytest.mark.parametrize("segmentation", [{"size": [4, 3], "counts": "<"}, [[1, 0, 3]], {"size": [3, 4]}, "mask"])
def test_masks_that_do_not_fit_the_image_are_refused(tmp_path: Path, segmentation: object) -> None:
    (tmp_path / "x.json").write_text(json.dumps(masked(segmentation)), encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json is damaged"):
        read_coco(tmp_path / "x.json")


@num_cases(30, 1000)
def test_a_broken_file_is_named_or_has_sound_boxes(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "x.json"
    rows = [("a", "Fracture", 1.5, 2.0, 30.0, 20.25, 0.5), ("b:R", "Edema", 0.0, 0.0, 3.0, 2.0, float("nan"))]
    write_coco(path, CocoBoxes(IMAGES, boxes_table(rows).assign(votes=[2.0, 3.0]), ("Edema", "Fracture")))

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            found = read_coco(path)
        except UserError as error:
            assert "x.json" in str(error)
            return
        corners = found.boxes[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
        assert np.isfinite(corners).all() and (corners[:, 2:] >= corners[:, :2]).all()
        assert found.boxes["image_id"].isin(found.images["image_id"]).all()
        assert found.boxes["finding"].isin(found.findings).all()

    check_all(check, broken(path.read_bytes()), cases=cases)


PLAIN: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 60, "height": 40} for n in (1, 2)],
    "categories": [{"id": 1, "name": "Edema"}, {"id": 2, "name": "Fracture"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
}


@pytest.mark.parametrize(
    ("part", "values", "reason"),
    [
        ("images", {"id": 2}, "id 2"),
        ("images", {"file_name": "a/2.jpg"}, "image_id '2'"),
        ("images", {"width": "60"}, "width"),
        ("images", {"height": -40}, "height"),
        ("images", {"height": float("nan")}, "height"),
        ("images", {"region": "top"}, "region"),
        ("images", {"complete": "false"}, "complete"),
        ("images", {"labels": {"Edema": True}}, "True of Edema"),
        ("categories", {"id": 2}, "id 2"),
        ("categories", {"name": "Fracture"}, "Fracture"),
        ("annotations", {"bbox": [1, 2, float("nan"), 4]}, "bbox"),
        ("annotations", {"bbox": [1, 2, float("inf"), 4]}, "bbox"),
        ("annotations", {"bbox": [9, 9, -3, 4]}, "bbox"),
        ("annotations", {"bbox": ["1", "2", "3", "4"]}, "bbox"),
        ("annotations", {"score": float("nan")}, "score"),
        ("annotations", {"score": "0.5"}, "score"),
        ("annotations", {"iscrowd": "0"}, "iscrowd"),
    ],
)
def test_entries_that_would_mislead_are_refused(
    tmp_path: Path, part: str, values: dict[str, object], reason: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(PLAIN))
    assert read_coco(path).boxes[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[1, 2, 4, 6]]
    path.write_text(json.dumps(PLAIN | {part: [PLAIN[part][0] | values, *PLAIN[part][1:]]}))
    with pytest.raises(UserError, match=rf"x\.json is damaged: .*{reason}"):
        read_coco(path)
