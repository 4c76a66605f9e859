"""What readings say: exact COCO entries, label tables and shares."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.coco import read_coco
from cxr.datasets.csv_table import CsvTableData, ImageColumns
from cxr.datasets.text_files import read_text_table
from stage3_detect.serving.corrections.files import (
    Place,
    accepted_shares,
    all_findings,
    coco_document,
    image_labels,
    judgement,
    label_table,
    last_readings,
)
from stage3_detect.serving.corrections.record import SavedReading
from tests.builders import write_picture
from tests.stage3_detect.serving.corrections.correction_builders import (
    FINDINGS,
    IMAGE,
    MODEL,
    NOON,
    OTHER_IMAGE,
    box,
    saved,
)

OPACITY, CONSOLIDATION, EFFUSION = FINDINGS
PLACES = {IMAGE: Place("a/one.png", "p1", "s1"), OTHER_IMAGE: Place("two.png")}


def test_no_reading() -> None:
    assert last_readings([]) == {}
    document = coco_document({}, FINDINGS, {}, data_root="/data")
    assert (document["images"], document["annotations"]) == ([], [])
    assert [entry["name"] for entry in document["categories"]] == list(FINDINGS)
    assert label_table({}, FINDINGS, {}) == (
        "path,patient,study,Lung Opacity,Consolidation,Pleural Effusion,image_sha256,readers,complete\n"
    )
    assert accepted_shares([], FINDINGS) == dict.fromkeys(FINDINGS)


def test_the_last_reading_of_each_reader_counts() -> None:
    first, other = saved(clicks=1), saved(reader="r2")
    again, elsewhere = saved(clicks=2), saved(image_sha256=OTHER_IMAGE)
    assert last_readings([first, other, elsewhere, again]) == {IMAGE: [again, other], OTHER_IMAGE: [elsewhere]}


def test_readings_of_another_size_than_the_last_are_left_out() -> None:
    larger, other = saved([box()], width_px=1300), saved(reader="r2", image_sha256=OTHER_IMAGE)
    last = saved(reader="r3")
    assert last_readings([larger, other, last]) == {OTHER_IMAGE: [other], IMAGE: [last]}


def test_findings_of_earlier_models_come_last() -> None:
    images = last_readings([saved().model_copy(update={"findings": ("Edema", EFFUSION)})])
    assert all_findings(images, (EFFUSION, OPACITY)) == (EFFUSION, OPACITY, "Edema")


def test_what_a_reading_says_of_each_finding() -> None:
    assert judgement(saved()) == {}
    assert judgement(saved(complete=True)) == dict.fromkeys(FINDINGS, 0)
    assert judgement(saved([box("rejected")])) == {EFFUSION: 0}
    assert judgement(saved([box("rejected"), box("accepted")])) == {EFFUSION: 1}
    assert judgement(saved([box("drawn"), box("moved", OPACITY)])) == {EFFUSION: 1, OPACITY: 1}
    renamed = box("relabelled", EFFUSION, original_finding=OPACITY)
    assert judgement(saved([renamed])) == {OPACITY: 0, EFFUSION: 1}


def test_a_child_implies_its_parent_even_where_the_reader_rejected_the_parents_box() -> None:
    assert judgement(saved([box("accepted", CONSOLIDATION)])) == {CONSOLIDATION: 1, OPACITY: 1}
    given = saved([box("rejected", OPACITY), box("drawn", CONSOLIDATION)], complete=True)
    assert judgement(given) == {OPACITY: 1, CONSOLIDATION: 1, EFFUSION: 0}


def test_the_hierarchy_is_that_of_the_model_that_was_shown() -> None:
    given = [box("accepted", CONSOLIDATION)]
    assert judgement(saved(given, parents={})) == {CONSOLIDATION: 1}
    assert judgement(saved(given, parents={CONSOLIDATION: (EFFUSION,)})) == {CONSOLIDATION: 1, EFFUSION: 1}
    assert judgement(saved(given, parents=None)) == {CONSOLIDATION: 1, OPACITY: 1}  # of an earlier version


def test_several_readers_vote_and_a_tie_is_uncertain() -> None:
    yes, no, silent = saved([box()]), saved([box("rejected")], reader="r2"), saved(reader="r3")
    assert image_labels([yes, silent], [EFFUSION]) == {EFFUSION: 1}
    assert image_labels([yes, no, silent], [EFFUSION, OPACITY]) == {EFFUSION: -1, OPACITY: None}
    assert image_labels([yes, no, saved(complete=True, reader="r4")], [EFFUSION]) == {EFFUSION: 0}


def readings() -> list[SavedReading]:
    moved = box("moved", OPACITY, score=0.25)
    first = saved([box(), moved, box("rejected", CONSOLIDATION)], complete=True)
    second = saved([box("drawn")], reader="r2").model_copy(update={"id": "000002"})
    return [first, second, saved(image_sha256=OTHER_IMAGE, name="two.png").model_copy(update={"id": "000003"})]


def test_the_coco_document() -> None:
    document = json.loads(json.dumps(coco_document(last_readings(readings()), FINDINGS, PLACES, data_root="/data")))
    assert document["info"]["data_root"] == "/data"
    first, second = document["images"]
    by = {"time": NOON.isoformat(), "seconds": 14.5, "clicks": 3, "model_sha256": MODEL}
    rejected = {"finding": CONSOLIDATION, "bbox": [10, 20, 30, 30.5], "model_score": 0.5}
    assert first == {
        "id": 1,
        "file_name": "a/one.png",
        "width": 130,
        "height": 90,
        "image_id": IMAGE,
        "region": "full",
        "sha256": IMAGE,
        "name": "chest.png",
        "patient_id": "p1",
        "labels": {OPACITY: 1, CONSOLIDATION: 0, EFFUSION: 1},
        "complete": False,
        "num_readers": 2,
        "readings": [
            {"id": "000001", "reader": "r1", "complete": True, **by, "rejected": [rejected]},
            {"id": "000002", "reader": "r2", "complete": False, **by, "rejected": []},
        ],
    }
    assert (second["file_name"], second["labels"], second["num_readers"]) == ("two.png", dict.fromkeys(FINDINGS), 1)
    effusion = {"category_id": 3, "bbox": [10, 20, 30, 30.5], "area": 915, "iscrowd": 0, "image_id": 1}
    assert document["annotations"] == [
        {"id": 1, "reader": "r1", "action": "accepted", "model_score": 0.5, **effusion},
        {
            "id": 2, "reader": "r1", "action": "moved", "model_score": 0.25, "image_id": 1, "iscrowd": 0,
            "category_id": 1, "bbox": [12, 20, 32, 30], "area": 960,
        },
        {"id": 3, "reader": "r2", "action": "drawn", "model_score": None, **effusion},
    ]  # fmt: skip


def test_the_coco_file_is_read_by_all_stages(tmp_path: Path) -> None:
    document = coco_document(last_readings(readings()), FINDINGS, PLACES, data_root=str(tmp_path))
    (tmp_path / "boxes.json").write_text(json.dumps(document), encoding="utf-8")
    coco = read_coco(tmp_path / "boxes.json")
    assert coco.findings == FINDINGS
    assert coco.images["complete"].tolist() == [False, False] and coco.images["num_readers"].tolist() == [2, 1]
    assert coco.boxes["reader"].tolist() == ["r1", "r1", "r2"] and coco.boxes["score"].isna().all()
    np.testing.assert_array_equal(coco.label_matrix, [[1, 0, 1], [np.nan] * 3])


def test_the_label_table_is_what_stage_1_reads(tmp_path: Path) -> None:
    text = label_table(last_readings(readings()), FINDINGS, PLACES)
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert text.splitlines()[1:] == [f"a/one.png,p1,s1,1,0,1,{IMAGE},r1 r2,0", f"two.png,,,,,,{OTHER_IMAGE},r1,0"]
    for place in PLACES.values():
        write_picture(tmp_path / place.path)
    columns = ImageColumns(image="path", patient="patient", study="study")
    settings = CsvTableData(
        root=tmp_path, table=Path("labels.csv"), columns=columns, findings={name: name for name in FINDINGS}
    )
    dataset = settings.read()
    assert dataset.images["patient_id"].tolist() == ["p1", ""] and dataset.images["study_id"].tolist() == ["s1", ""]
    expected = pd.DataFrame([[1.0, 0, 1], [np.nan] * 3], columns=dataset.labels.columns, index=dataset.labels.index)
    pd.testing.assert_frame_equal(dataset.labels, expected.rename_axis(dataset.labels.index.name))


def test_a_file_name_that_is_a_formula_is_written_as_text_and_read_as_it_is(tmp_path: Path) -> None:
    place = Place("=cmd|calc.png", "@p", "-s")
    text = label_table(last_readings([saved()]), FINDINGS, {IMAGE: place})
    assert text.splitlines()[1] == f"'=cmd|calc.png,'@p,'-s,,,,{IMAGE},r1,0"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    read = read_text_table(tmp_path / "labels.csv")
    assert read[["path", "patient", "study"]].to_numpy().tolist() == [[place.path, place.patient, place.study]]


def test_shares_of_accepted_boxes() -> None:
    renamed = box("relabelled", EFFUSION, original_finding=OPACITY)
    given = [saved([box(), box("moved"), box("drawn")]), saved([box("rejected"), box(), renamed])]
    assert accepted_shares(given, FINDINGS) == {OPACITY: 0, CONSOLIDATION: None, EFFUSION: 0.5}
