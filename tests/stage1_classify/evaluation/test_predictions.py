"""stage1_classify.evaluation.predictions: one row a case, readable by people and programs alike."""

from pathlib import Path

import numpy as np
import pandas as pd

from eval.classification.prediction_file import read_predictions
from stage1_classify.evaluation.predictions import Scored, prediction_table, write_predictions
from tests.stage1_classify.evaluation.scored_builders import FINDINGS, NAN, scored, split_of


def test_a_split_without_cases_leaves_the_header(tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "p.csv", {"test": scored(tmp_path, [], [])}, FINDINGS, np.array([0.5, 0.5]))
    assert path.read_text() == (
        "image_id,split,patient_id,study_id,num_views,"
        "Edema,Edema label,Edema call,Lung Lesion,Lung Lesion label,Lung Lesion call\n"
    )


def test_rows_of_all_splits_with_blanks_for_what_is_unknown(tmp_path: Path) -> None:
    val = scored(tmp_path / "val", [[1, NAN]], [[0.25, 1 / 3]], images={"image_id": ["x"], "patient_id": ["7"]})
    test = scored(tmp_path / "test", [[0, 1], [1, 0]], [[0.5, 0], [0.499999999, 1]])
    path = write_predictions(tmp_path / "p.csv", {"val": val, "test": test}, FINDINGS, np.array([0.5, NAN]))
    assert path.read_text().splitlines()[1:] == [
        "x,val,7,,1,0.25,1,0,0.333333333,,",
        "p000,test,,,1,0.5,0,1,0,1,",
        "p001,test,,,1,0.499999999,1,0,1,0,",
    ]


def test_an_id_that_is_a_formula_is_written_as_text_and_read_as_it_is(tmp_path: Path) -> None:
    val = scored(tmp_path, [[1, 0]], [[0.25, 0.5]], images={"image_id": ["=x"], "patient_id": ["-p"]})
    path = write_predictions(tmp_path / "p.csv", {"val": val}, FINDINGS, np.array([0.5, NAN]))
    assert path.read_text().splitlines()[1].startswith("'=x,val,'-p,,1,")
    assert read_predictions(path)[["image_id", "patient_id"]].to_numpy().tolist() == [["=x", "-p"]]


def test_a_study_is_one_row_of_its_first_view(tmp_path: Path) -> None:
    images = {
        "image_id": ["side", "front", "alone"],
        "patient_id": ["p", "p", "q"],
        "study_id": ["1", "1", "1"],
        "view": ["lateral", "frontal", "frontal"],
    }
    split = split_of(tmp_path, [[1, 0], [0, 0]], images=images, max_views=2)
    part = Scored(split, np.zeros((2, 2)), np.array([[0.9, 0.1], [0.2, 0.3]]))
    table = prediction_table({"test": part}, FINDINGS, np.array([0.5, 0.5]))
    rows = table[["image_id", "study_id", "num_views", "Edema", "Edema label"]].to_numpy().tolist()
    assert rows == [["front", "1", 2, 0.9, 1], ["alone", "1", 1, 0.2, 0]]


def test_odd_ids_come_back_as_they_were(tmp_path: Path) -> None:
    ids = ["007", "NA", 'a,"b"', "line\nbreak", "1e5", "ünï"]
    part = scored(tmp_path, [[1, NAN]] * 6, [[0.1, 0.7]] * 6, images={"image_id": ids, "patient_id": ids})
    thresholds = np.array([0.5, 0.5])
    path = write_predictions(tmp_path / "p.csv", {"test": part}, FINDINGS, thresholds)
    table = read_predictions(path)
    assert table["image_id"].tolist() == table["patient_id"].tolist() == ids
    written = prediction_table({"test": part}, FINDINGS, thresholds)
    pd.testing.assert_frame_equal(table, written, check_dtype=False)
