"""Ground truth of stage 2: readers fused by name, votes kept, images without boxes listed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.coco import BOX_FIELDS, read_coco, write_coco
from cxr.config import UserError
from cxr.datasets.several import combine
from cxr.masks import mask_of_runs, masks_in
from cxr.readers import ReaderSettings
from cxr.tables import BOX_COLUMNS, Dataset, box_table, image_table
from stage2_pseudolabel.boxes.truth import check_boxes, findings_to_score, ground_truth, not_read
from tests.builders import write_picture
from tests.stage2_pseudolabel.stage2_builders import FINDINGS

ROWS = [
    ("i0", "Lung Lesion", 0, 0, 10, 8, "R1"),
    ("i0", "Lung Lesion", 2, 0, 12, 8, "R2"),
    ("i0", "Edema", 0, 0, 10, 8, "R2"),
    ("i0", "Pleural Effusion", 0, 0, 10, 8, "R2"),
]


def dataset(root: Path, *rows: tuple[object, ...]) -> Dataset:
    """Two images of 60 x 40 pixels."""
    names = ["i0", "i1"]
    for name in names:
        write_picture(root / f"{name}.png", (40, 60))
    images = image_table(image_id=names, path=[f"{name}.png" for name in names])
    labels = pd.DataFrame(0.0, index=names, columns=list(FINDINGS))
    return Dataset("tiny", root, images, labels, box_table(pd.DataFrame(list(rows), columns=BOX_COLUMNS)))


def test_without_boxes_all_images_are_listed(tmp_path: Path) -> None:
    truth = ground_truth(dataset(tmp_path), FINDINGS, ReaderSettings(), split="test")
    assert list(truth.boxes.columns) == [*BOX_FIELDS, "votes"]
    assert truth.boxes.empty
    sizes = truth.images[["image_id", "width", "height"]].to_numpy().tolist()
    assert sizes == [["i0", 60, 40], ["i1", 60, 40]]
    assert truth.info == {"data_root": str(tmp_path), "dataset": "tiny", "split": "test", "synthetic": False}


def test_readers_are_fused_and_votes_survive_the_file(tmp_path: Path) -> None:
    truth = ground_truth(dataset(tmp_path, *ROWS), FINDINGS, ReaderSettings(min_votes=1), split="tune")
    boxes = truth.boxes[["finding", "x1", "x2", "votes"]].to_numpy().tolist()
    assert boxes == [["Lung Lesion", 1, 11, 2], ["Pleural Effusion", 0, 10, 1]]
    assert truth.boxes["score"].isna().all()
    write_coco(tmp_path / "gt.json", truth)
    assert read_coco(tmp_path / "gt.json").boxes["votes"].tolist() == [2, 1]


def test_readers_who_marked_another_finding_have_a_vote(tmp_path: Path) -> None:
    rows = [*ROWS[:2], ("i0", "Edema", 0, 0, 10, 8, "R3"), ("i0", "Edema", 0, 0, 10, 8, "R4")]
    truth = ground_truth(dataset(tmp_path, *rows), FINDINGS, ReaderSettings(), split="tune")
    assert truth.boxes.empty  # two of four are no majority


def test_a_consensus_is_the_truth_as_it_is(tmp_path: Path) -> None:
    rows = [(*row[:6], "") for row in ROWS]
    truth = ground_truth(dataset(tmp_path, *rows), FINDINGS, ReaderSettings(), split="test")
    assert truth.boxes[["finding", "x1"]].to_numpy().tolist() == [
        ["Lung Lesion", 0], ["Lung Lesion", 2], ["Pleural Effusion", 0],
    ]  # fmt: skip
    assert np.isnan(truth.boxes["votes"]).all()


def test_a_reader_of_no_box_is_the_users_mistake(tmp_path: Path) -> None:
    settings = ReaderSettings(rule="single", reader="R8")
    with pytest.raises(UserError, match="no box is by 'R8'; the readers are R1, R2"):
        ground_truth(dataset(tmp_path, *ROWS), FINDINGS, settings, split="tune")


def test_findings_to_score_are_those_that_both_know(tmp_path: Path) -> None:
    data = dataset(tmp_path, ("i0", "Pleural Effusion", 0, 0, 10, 8, ""))
    assert findings_to_score(None, FINDINGS, data, source=tmp_path) == ("Pleural Effusion",)
    assert findings_to_score(["Pleural Effusion"], FINDINGS, data, source=tmp_path) == ("Pleural Effusion",)
    with pytest.raises(UserError) as caught:
        findings_to_score(["Lung Lesion"], FINDINGS, data, source=tmp_path)
    assert caught.value.problems == [
        "findings: the tune split has no boxes of Lung Lesion, only of Pleural Effusion; leave them out, or give data "
        "with such boxes"
    ]
    with pytest.raises(UserError, match="give data with boxes"):
        findings_to_score(None, ["Edema"], data, source=tmp_path)


def test_no_box_is_an_error_that_tells_who_took_them(tmp_path: Path) -> None:
    strict = ReaderSettings(min_votes=9)
    truth = ground_truth(dataset(tmp_path, *ROWS), FINDINGS, strict, split="tune")
    with pytest.raises(UserError, match="in the tune part; rule majority keeps none of the 4 that readers marked"):
        check_boxes(truth, 4, strict, split="tune")
    with pytest.raises(UserError, match="in the test part; give a split that has some"):
        check_boxes(truth, 0, strict, split="test")
    check_boxes(
        ground_truth(dataset(tmp_path, *ROWS), FINDINGS, ReaderSettings(), split="tune"), 4, strict, split="tune"
    )


def test_masks_of_a_consensus_stay_with_their_boxes(tmp_path: Path) -> None:
    mask = mask_of_runs([5, 2], (40, 60))
    rows = [("i0", "Lung Lesion", 0, 5, 1, 7, ""), ("i0", "Lung Lesion", 2, 0, 9, 9, "R1")]
    marked = dataset(tmp_path, *rows)
    with_masks = replace(marked, boxes=marked.boxes.assign(mask=pd.Series([mask, None], dtype=object)))
    truth = ground_truth(with_masks, FINDINGS, ReaderSettings(min_votes=1), split="test")
    assert masks_in(truth.boxes) == [mask, None]
    write_coco(tmp_path / "gt.json", truth)
    assert masks_in(read_coco(tmp_path / "gt.json").boxes) == [mask, None]


def two_sets(root: Path) -> Dataset:
    """north has boxes of Lung Lesion alone, in i0; south has none. Labels of Pleural Effusion: 0 and 1 in north, not
    asked in south. Labels of Lung Lesion in south: 0 and not mentioned.
    """
    north = dataset(root / "n", ROWS[0])
    north.labels["Pleural Effusion"] = [0.0, 1.0]
    south = dataset(root / "s")
    south.labels["Lung Lesion"] = [0.0, float("nan")]
    return combine({"north": north, "south": replace(south, labels=south.labels[["Lung Lesion"]])})


def test_of_several_sets_only_findings_count_that_were_looked_for(tmp_path: Path) -> None:
    """A finding is judged where its set marks it, or where the label denies it."""
    data = two_sets(tmp_path)
    expected = [[False, False], [False, True], [False, True], [True, True]]  # Lung Lesion, Pleural Effusion
    assert not_read(data, ["Lung Lesion", "Pleural Effusion"]).tolist() == expected
    truth = ground_truth(data, FINDINGS, ReaderSettings(min_votes=1), split="test")
    regions = truth.boxes[truth.is_ignored]
    ids = data.images["image_id"].tolist()
    columns = FINDINGS.index("Lung Lesion"), FINDINGS.index("Pleural Effusion")
    wanted = {(ids[row], FINDINGS[columns[k]]) for row in range(4) for k in range(2) if expected[row][k]}
    assert set(zip(regions["image_id"], regions["finding"], strict=True)) == wanted
    assert regions[["x1", "y1", "x2", "y2"]].drop_duplicates().to_numpy().tolist() == [[0, 0, 60, 40]]
    write_coco(tmp_path / "gt.json", truth)
    assert read_coco(tmp_path / "gt.json").boxes["ignored_by"].tolist() == truth.boxes["ignored_by"].tolist()


def test_a_single_set_is_judged_everywhere(tmp_path: Path) -> None:
    assert not not_read(dataset(tmp_path, *ROWS), FINDINGS).any()


def test_regions_alone_are_no_boxes_to_score(tmp_path: Path) -> None:
    truth = ground_truth(two_sets(tmp_path), ["Pleural Effusion"], ReaderSettings(), split="test")
    assert len(truth.boxes) == 3
    with pytest.raises(UserError, match="no box of Pleural Effusion"):
        check_boxes(truth, 0, ReaderSettings(), split="test")
