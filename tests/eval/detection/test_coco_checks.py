"""Entries of COCO files that would be scored in the wrong place, or twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from cxr.config import UserError
from eval.detection.coco_files import read_predictions, read_truth

IMAGES = [{"id": n, "file_name": f"{n}.png", "width": 200, "height": 100} for n in (1, 2)]
CLASSES = [{"id": 1, "name": "Nodule"}]
BOX = {"image_id": 1, "category_id": 1, "bbox": [150, 60, 40, 30]}
TRUTH = {"images": IMAGES, "categories": CLASSES, "annotations": [{**BOX, "id": 1}]}


def truth_of(folder: Path, **changes: Any) -> Any:
    (folder / "gt.json").write_text(json.dumps(TRUTH | changes), encoding="utf-8")
    return read_truth(folder / "gt.json")


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        truth_of(folder, **changes)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{folder / 'gt.json'}: ")
    return problem


def predicted(folder: Path, content: Any, **changes: Any) -> Any:
    (folder / "p.json").write_text(json.dumps(content), encoding="utf-8")
    return read_predictions(folder / "p.json", truth_of(folder, **changes)).boxes.iloc[:, 2:6].to_numpy().tolist()


def test_no_box(tmp_path: Path) -> None:
    assert truth_of(tmp_path, annotations=[]).coco.boxes.empty
    assert predicted(tmp_path, []) == []


@pytest.mark.parametrize("bbox", [[151, 60, 70, 30], [150, 81, 40, 30], [-21, 60, 40, 30], [150, -11, 40, 30]])
def test_a_box_far_outside_its_image_is_refused(tmp_path: Path, bbox: list[float]) -> None:
    assert "200 x 100" in refused(tmp_path, annotations=[{**BOX, "bbox": bbox}])
    with pytest.raises(UserError, match=r"box 1: .*200 x 100"):
        predicted(tmp_path, [{**BOX, "bbox": bbox, "score": 0.5}])
    unsized = [{"id": 1, "file_name": "1.png"}]
    assert predicted(tmp_path, [{**BOX, "bbox": bbox, "score": 0.5}], images=unsized) != []


@pytest.mark.parametrize("bbox", [[150, 60, 70, 50], [-20, -10, 40, 30]])
def test_a_small_overhang_is_kept(tmp_path: Path, bbox: list[float]) -> None:
    x, y, width, height = bbox
    assert predicted(tmp_path, [{**BOX, "bbox": bbox, "score": 0.5}]) == [[x, y, x + width, y + height]]


@pytest.mark.parametrize("size", [(400, 200), (100, 200), (200, 101)])
def test_predictions_on_images_of_another_size_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    images = [IMAGES[0], {**IMAGES[1], "width": size[0], "height": size[1]}]
    content = {"images": images, "categories": CLASSES, "annotations": [{**BOX, "score": 0.5}]}
    with pytest.raises(UserError, match=rf"'2\.png' has {size[0]} x {size[1]} pixels, .*200 x 100"):
        predicted(tmp_path, content)


@pytest.mark.parametrize("field", ["width", "height"])
@pytest.mark.parametrize("unknown", [0, None])
def test_a_size_that_is_not_given_fits_any(tmp_path: Path, field: str, unknown: int | None) -> None:
    images = [{**image, field: unknown} for image in IMAGES]
    content = {"images": images, "categories": CLASSES, "annotations": [{**BOX, "score": 0.5}]}
    assert predicted(tmp_path, content) == [[150, 60, 190, 90]]


@pytest.mark.parametrize("side", ["200", -200, 0.5, True, [200], float("nan"), 1e300])
def test_a_size_that_is_no_number_of_pixels_is_refused(tmp_path: Path, side: object) -> None:
    assert f"width {side!r}" in refused(tmp_path, images=[{**IMAGES[0], "width": side}, IMAGES[1]])


def test_an_empty_box_is_no_ground_truth(tmp_path: Path) -> None:
    for bbox in ([150, 60, 0, 30], [150, 60, 40, 0]):
        assert "positive size" in refused(tmp_path, annotations=[{**BOX, "bbox": bbox}])
        assert predicted(tmp_path, [{**BOX, "bbox": bbox, "score": 0.5}]) != []


def test_a_box_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    assert "box 3: the same as box 1" in refused(tmp_path, annotations=[BOX, {**BOX, "image_id": 2}, {**BOX, "id": 7}])
    two_readers = [{**BOX, "reader": "R1"}, {**BOX, "reader": "R2"}]
    assert len(truth_of(tmp_path, annotations=two_readers).coco.boxes) == 2


def test_boxes_as_shares_of_the_image_are_refused(tmp_path: Path) -> None:
    shares = {**BOX, "bbox": [0.25, 0.5, 0.5, 0.25]}
    assert "first pixel" in refused(tmp_path, annotations=[shares])
    with pytest.raises(UserError, match=r"p\.json: .*first pixel"):
        predicted(tmp_path, [{**shares, "score": 0.5}])
    assert len(predicted(tmp_path, [{**shares, "score": 0.5}, {**BOX, "score": 0.5}])) == 2
