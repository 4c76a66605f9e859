from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import write_picture
from stage2_builders import FINDINGS, truth_of

from cxr.coco import boxes_table
from cxr.config import UserError
from cxr.datasets.tables import Dataset, empty_boxes, image_table
from stage2_pseudolabel.boxes_from_cam import ComponentRule
from stage2_pseudolabel.config import ReaderSettings
from stage2_pseudolabel.export import PseudoLabels, box_statistics, pseudo_labels
from stage2_pseudolabel.leaderboard import Entry, make_board, score_entry, verdict
from stage2_pseudolabel.maps import SplitMaps
from stage2_pseudolabel.truth import findings_to_score, ground_truth
from stage2_pseudolabel.tuning import Frame

NAN = float("nan")


def dataset(root: Path, labels: list[list[float]], boxes: pd.DataFrame | None = None) -> Dataset:
    names = [f"i{index}" for index in range(len(labels))]
    for name in names:
        write_picture(root / f"{name}.png", (40, 60))
    images = image_table(image_id=names, path=[f"{name}.png" for name in names])
    table = pd.DataFrame(labels, index=names, columns=list(FINDINGS), dtype=float)
    return Dataset("tiny", root, images, table, empty_boxes() if boxes is None else boxes)


def exported(
    root: Path, labels: list[list[float]], *, probability: float = 0.9, lit: bool = True
) -> PseudoLabels:
    data = dataset(root, labels)
    maps = np.zeros((len(labels), 2, 4, 6), dtype=np.float32)
    maps[:, :, 1, 1:3] = float(lit)
    truth = truth_of()
    entry = Entry(
        "pcam",
        0.5,
        (ComponentRule("relative", 0.5, upsample=1),) * 2,
        truth,
        score_entry("x", truth, truth.with_boxes(boxes_table()), tune_ap=0.5).result,
    )
    scored = SplitMaps({"pcam": maps}, np.full((len(labels), 2), probability))
    return pseudo_labels(data, scored, entry, frame=Frame((32, 48), False), min_probability=0.3)


def test_boxes_only_where_the_label_affirms_and_normals_are_listed(tmp_path: Path) -> None:
    pseudo = exported(tmp_path, [[1, 0], [0, 0], [1, 1]])
    assert pseudo.excluded == ()
    assert pseudo.coco.images["image_id"].tolist() == ["i0", "i1", "i2"]
    assert list(zip(pseudo.coco.boxes["image_id"], pseudo.coco.boxes["finding"], strict=True)) == [
        ("i0", "Lung Lesion"), ("i2", "Lung Lesion"), ("i2", "Pleural Effusion"),
    ]  # fmt: skip
    np.testing.assert_allclose(
        pseudo.coco.boxes.loc[0, ["x1", "y1", "x2", "y2"]].to_numpy(float), [10, 10, 30, 20]
    )
    assert pseudo.coco.boxes["score"].tolist() == pytest.approx([0.9] * 3)


def test_no_images_at_all(tmp_path: Path) -> None:
    pseudo = exported(tmp_path, [])
    assert pseudo.coco.images.empty
    assert pseudo.coco.boxes.empty


@pytest.mark.parametrize(
    ("labels", "options", "reason"),
    [
        ([[-1, 0]], {}, "uncertain"),
        ([[1, 0]], {"probability": 0.1}, "does not see"),
        ([[1, NAN]], {"lit": False}, "no box by the rule"),
    ],
)
def test_what_could_teach_something_false_is_left_out_and_named(
    tmp_path: Path, labels: list[list[float]], options: dict[str, float], reason: str
) -> None:
    pseudo = exported(tmp_path, labels, **options)
    assert pseudo.coco.images.empty
    assert pseudo.excluded[0].what == "i0"
    assert reason in pseudo.excluded[0].reason


def test_statistics_count_findings_without_boxes_too(tmp_path: Path) -> None:
    statistics = box_statistics(exported(tmp_path, [[1, 0], [1, 0]]).coco)
    assert statistics["boxes"].tolist() == [2, 0]
    assert statistics.loc[0, "median_area"] == pytest.approx(20 * 10 / (60 * 40))


def test_ground_truth_fuses_readers_and_lists_images_without_boxes(tmp_path: Path) -> None:
    rows = [("i0", "Lung Lesion", 0, 0, 10, 8, "R1"), ("i0", "Lung Lesion", 2, 0, 12, 8, "R2"),
            ("i0", "Edema", 0, 0, 10, 8, "R2"), ("i0", "Pleural Effusion", 0, 0, 10, 8, "R2")]  # fmt: skip
    boxes = pd.DataFrame(rows, columns=empty_boxes().columns)
    data = dataset(tmp_path, [[1, 0], [0, 0]], boxes)
    truth = ground_truth(data, FINDINGS, ReaderSettings(min_votes=2), split="tune")
    assert truth.boxes[["finding", "x1", "x2"]].to_numpy().tolist() == [["Lung Lesion", 1, 11]]
    assert truth.images[["image_id", "width", "height"]].to_numpy().tolist() == [
        ["i0", 60, 40],
        ["i1", 60, 40],
    ]
    assert truth.info["split"] == "tune"


def test_findings_to_score(tmp_path: Path) -> None:
    rows = [("i0", "Pleural Effusion", 0, 0, 10, 8, "")]
    data = dataset(tmp_path, [[1, 0]], pd.DataFrame(rows, columns=empty_boxes().columns))
    assert findings_to_score(None, FINDINGS, data, source=tmp_path) == ("Pleural Effusion",)
    assert findings_to_score(["Pleural Effusion"], FINDINGS, data, source=tmp_path) == ("Pleural Effusion",)
    with pytest.raises(UserError, match="'Lung Lesion' is not there"):
        findings_to_score(["Lung Lesion"], FINDINGS, data, source=tmp_path)
    with pytest.raises(UserError, match="'Edema' is not there"):
        findings_to_score(["Edema"], FINDINGS, data, source=tmp_path)
    with pytest.raises(UserError, match="give data with boxes"):
        findings_to_score(None, ["Edema"], data, source=tmp_path)


def test_the_choice_is_made_by_the_tune_split_and_never_by_the_test_split() -> None:
    truth = truth_of(("wide", "Lung Lesion", 10, 10, 30, 20), ("flat", "Lung Lesion", 45, 15, 60, 22.5))
    right = boxes_table(
        [("wide", "Lung Lesion", 10, 10, 30, 20, 0.9), ("flat", "Lung Lesion", 45, 15, 60, 22.5, 0.8)]
    )
    wrong = boxes_table([("wide", "Lung Lesion", 40, 30, 50, 40, 0.9)])
    entries = [
        score_entry("gradcam", truth, truth.with_boxes(right), tune_ap=0.2),
        score_entry("pcam", truth, truth.with_boxes(wrong), tune_ap=0.3),
        score_entry("prior_mean_box", truth, truth.with_boxes(wrong), tune_ap=NAN),
        score_entry("prior_center_box", truth, truth.with_boxes(right), tune_ap=NAN),
    ]
    board = make_board(entries, truth, ["wide", "flat"], num_resamples=50, seed=0)
    assert board.best.name == "pcam"
    assert board.metrics["ap40/gradcam"] == pytest.approx(1)
    assert board.metrics["ap40/pcam"] == 0
    assert np.isnan(board.metrics["ap40/pcam/pleural_effusion"])
    assert board.differences["gradcam"].value == pytest.approx(-1)
    words = verdict(board)
    assert "pcam" in words
    assert "NOT clearly better than prior_mean_box and prior_center_box" in words
