"""Corrections as training images: fused readers, no image of the tune or test split, no image twice."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table, write_coco
from cxr.config import UserError
from cxr.runs.run_folder import open_run
from stage3_detect.labels.corrections import (
    corrections_input,
    evaluation_images,
    files_of,
    read_corrections,
    refuse_evaluation_images,
    same_files,
    without_corrected,
)
from stage3_detect.labels.sources import open_sources
from stage3_detect.labels.training_set import TrainingSet, make_training_set
from stage3_detect.serving.corrections.files import Place, coco_document, last_readings
from stage3_detect.serving.corrections.record import SavedReading
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.settings.labels import CorrectionSettings, LabelSettings
from tests.stage3_detect.serving.corrections.correction_builders import BOX, FINDINGS, IMAGE, OTHER_IMAGE, box, saved
from tests.stage3_detect.stage3_builders import FINDINGS as RUN_FINDINGS
from tests.stage3_detect.stage3_builders import make_stage2_run

OPACITY, CONSOLIDATION, EFFUSION = FINDINGS
NEAR, FAR = [10, 22, 40, 50.5], [60, 20, 90, 50]
WHOLE = (0.0, 0.0, 130.0, 90.0)


def write_corrections(folder: Path, readings: Sequence[SavedReading], *, findings: tuple[str, ...] = FINDINGS) -> Path:
    """corrections.json with a file for each image; the file holds the image's hash."""
    images = last_readings(readings)
    places = {image: Place(f"{image[:4]}.png") for image in images}
    for image, place in places.items():
        (folder / place.path).write_text(image, encoding="utf-8")
    path = folder / "corrections.json"
    path.write_text(json.dumps(coco_document(images, findings, places, data_root=str(folder))), encoding="utf-8")
    return path


def coco_of(folder: Path, names: Mapping[str, str], *, patients: Mapping[str, str] | None = None) -> CocoBoxes:
    """Images without boxes; names: image id -> content of its file."""
    for name, content in names.items():
        (folder / f"{name}.png").write_text(content, encoding="utf-8")
    images = pd.DataFrame([(name, f"{name}.png", "full", 130, 90) for name in names], columns=IMAGE_FIELDS)
    if patients is not None:
        images["patient_id"] = [patients[name] for name in names]
    return CocoBoxes(images, boxes_table(), FINDINGS, {"data_root": str(folder)})


def boxes_of(coco: CocoBoxes) -> list[tuple[Any, ...]]:
    """(finding, corners, iscrowd, ignored_by) of each row."""
    table = coco.boxes[["finding", "x1", "y1", "x2", "y2", "iscrowd", "ignored_by"]]
    return [(row[0], list(row[1:5]), *row[5:]) for row in table.itertuples(index=False, name=None)]


def test_no_corrections(tmp_path: Path) -> None:
    assert corrections_input(LabelSettings()) == {}
    path = write_corrections(tmp_path, [])
    with pytest.raises(UserError, match="has no images"):
        read_corrections(path, FINDINGS)
    write_coco(path, coco_of(tmp_path, {"a": "a"}))
    with pytest.raises(UserError, match="complete, labels, num_readers"):
        read_corrections(path, FINDINGS)
    assert same_files([], []) == {}


def test_one_readers_boxes_stay_as_they_are(tmp_path: Path) -> None:
    given = saved([box(), box("rejected"), box("drawn", box_xyxy=NEAR), box("moved", OPACITY)], complete=True)
    found = read_corrections(write_corrections(tmp_path, [given]), FINDINGS)
    assert boxes_of(found) == [
        (EFFUSION, list(BOX), 0, ""),
        (EFFUSION, NEAR, 0, ""),
        (OPACITY, [12, 20, 44, 50], 0, ""),
    ]
    assert found.boxes["score"].isna().all() and found.findings == FINDINGS
    assert found.images["complete"].tolist() == [True]


def test_what_most_readers_mark_is_averaged_and_the_rest_is_ignored(tmp_path: Path) -> None:
    given = [saved([box()]), saved([box(), box("drawn", box_xyxy=FAR)], reader="r2")]
    found = read_corrections(write_corrections(tmp_path, given), FINDINGS)
    ignored = (EFFUSION, FAR, 1, "the readers disagree")
    assert boxes_of(found) == [(EFFUSION, list(BOX), 0, ""), ignored]
    given[0] = saved([box(box_xyxy=NEAR)])
    found = read_corrections(write_corrections(tmp_path, given), FINDINGS)
    assert boxes_of(found) == [(EFFUSION, [10, 21, 40, 50.5], 0, ""), ignored]
    silent = saved(reader="r3")  # marks nothing, and so has no row; one of three is no majority
    found = read_corrections(write_corrections(tmp_path, [given[0], silent, saved(reader="r4")]), FINDINGS)
    assert boxes_of(found) == [(EFFUSION, NEAR, 1, "the readers disagree")]


def test_findings_are_those_of_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_corrections(tmp_path, [saved([box(), box("accepted", OPACITY)])])
    found = read_corrections(path, (EFFUSION, "Edema"))
    assert boxes_of(found) == [(EFFUSION, list(BOX), 0, "")] and found.findings == (EFFUSION, "Edema")
    assert "1 corrected boxes" in caplog.text and OPACITY in caplog.text


def test_missing_images_are_named(tmp_path: Path) -> None:
    path = write_corrections(tmp_path, [saved(), saved(image_sha256=OTHER_IMAGE)])
    (tmp_path / "bbbb.png").unlink()
    with pytest.raises(UserError) as caught:
        read_corrections(path, FINDINGS)
    assert f"no image {tmp_path}/bbbb.png" in caught.value.problems[0] and "1 of 2 images" in caught.value.problems[1]


def test_same_files_are_found_by_content(tmp_path: Path) -> None:
    for name, text in {"a": "one", "b": "two", "c": "one", "d": "longer"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert same_files([a], [b, c, d, tmp_path / "missing"]) == {c: a}
    assert same_files([a, d], [a, b, d]) == {a: a, d: d}


def test_images_of_the_tune_and_test_split_are_refused(tmp_path: Path) -> None:
    path = write_corrections(tmp_path, [saved(), saved(image_sha256=OTHER_IMAGE)])
    found = read_corrections(path, FINDINGS)
    (tmp_path / "split").mkdir()
    clean = coco_of(tmp_path / "split", {"x": "c" * 64, "y": "short"})
    refuse_evaluation_images(found, {"tune": clean, "test": clean})
    copied = coco_of(tmp_path / "split", {"x": "c" * 64, "renamed": OTHER_IMAGE})
    with pytest.raises(UserError) as caught:
        refuse_evaluation_images(found, {"tune": clean, "test": copied})
    assert f"image {OTHER_IMAGE} is in the test split" in caught.value.problems[0]
    assert caught.value.problems[1].startswith("labels.corrections: 1 corrected images are in the test split")


def test_patients_of_the_test_split_are_refused_where_known(tmp_path: Path) -> None:
    files = {IMAGE: tmp_path / "i.png"}
    files[IMAGE].write_text("image", encoding="utf-8")
    split = coco_of(tmp_path, {"x": "x", "y": "y"}, patients={"x": "p1", "y": ""})
    assert evaluation_images(files, {IMAGE: "p1"}, split) == {IMAGE}
    assert evaluation_images(files, {IMAGE: "p2"}, split) == evaluation_images(files, {IMAGE: ""}, split) == set()


def test_corrections_replace_the_labels_of_the_same_image(tmp_path: Path) -> None:
    path = write_corrections(tmp_path, [saved()])
    (tmp_path / "train").mkdir()
    labels = coco_of(tmp_path / "train", {"t1": "c" * 64, "t2": IMAGE})
    assert without_corrected(labels, read_corrections(path, FINDINGS)).images["image_id"].tolist() == ["t1"]


def test_sources_of_a_run_with_corrections(tmp_path: Path) -> None:
    stage2 = open_run(make_stage2_run(tmp_path))
    first = files_of(open_sources(stage2, LabelSettings(), seed=0).labels)["train_000"]
    given = saved([box("drawn", RUN_FINDINGS[0])], complete=True).model_copy(update={"findings": RUN_FINDINGS})
    path = write_corrections(tmp_path, [given], findings=RUN_FINDINGS)
    settings = LabelSettings(corrections=CorrectionSettings(path=path))
    assert corrections_input(settings) == {"corrections": path}
    sources = open_sources(stage2, settings, seed=0)
    assert sources.corrections is not None and sources.corrections.images["image_id"].tolist() == [IMAGE]
    assert len(sources.labels.images) == 24  # none of the training images is corrected
    known = sources.training_images
    assert known.images["image_id"].tolist() == [*sources.labels.images["image_id"], IMAGE] and not len(known.boxes)
    assert files_of(known)[IMAGE] == (tmp_path / "aaaa.png").absolute() and files_of(known)["train_000"] == first
    (tmp_path / "aaaa.png").write_bytes(first.read_bytes())
    assert "train_000" not in set(open_sources(stage2, settings, seed=0).labels.images["image_id"])
    (tmp_path / "aaaa.png").write_bytes((tmp_path / "data/tune/tune_001.png").read_bytes())
    with pytest.raises(UserError, match="tune split"):
        open_sources(stage2, settings, seed=0)


# --- what the detector learns from them --------------------


def learned(coco: CocoBoxes, **noise: Any) -> TrainingSet:
    """A training set of two pseudo-labelled images, of confidence 0.5, and the corrections."""
    images = pd.DataFrame([(name, f"{name}.png", "full", 130, 90) for name in ("l1", "v1")], columns=IMAGE_FIELDS)
    table = boxes_table([(name, EFFUSION, *BOX, 0.5) for name in ("l1", "v1")]).assign(confidence=0.5)
    labels = CocoBoxes(images, table, FINDINGS, {"data_root": "somewhere"})
    settings = Stage3Settings.model_validate(
        {
            "data": {"image_px": 64},
            "train": {"num_epochs": 1},
            "labels": {"corrections": {"repeat": 3}},
            "noise": {"unmentioned_weight": 0.25, **noise},
        }
    )
    return make_training_set(labels, None, labels.select(["v1"]), settings, corrections=coco)


def rows_of(training: TrainingSet, image_id: str) -> set[tuple[Any, ...]]:
    number = training.images.index[training.images["image_id"] == image_id][0]
    rows = training.rows[training.rows["image"] == number].drop(columns="image")
    return {
        (row[0], tuple(row[1:5]), round(row[5], 6), bool(row[6])) for row in rows.itertuples(index=False, name=None)
    }


def training_of(tmp_path: Path, *readings: SavedReading, **noise: Any) -> TrainingSet:
    return learned(read_corrections(write_corrections(tmp_path, readings), FINDINGS), **noise)


def test_corrected_images_are_shown_more_often_and_count_as_certain(tmp_path: Path) -> None:
    empty = saved(image_sha256=OTHER_IMAGE, complete=True)
    training = training_of(tmp_path, saved([box()], complete=True), empty)
    images = training.images[["image_id", "source", "is_true", "repeats", "kind"]].to_numpy().tolist()
    assert images == [
        ["l1", "labels", False, 1, "positive"],
        ["v1", "labels", False, 1, "positive"],
        [IMAGE, "corrections", True, 3, "positive"],
        [OTHER_IMAGE, "corrections", True, 3, "normal"],
    ]
    # weights are 1 on average over an epoch: 0.5, 0.5 and three times 1 have the mean 0.8
    assert rows_of(training, "l1") >= {(EFFUSION, BOX, 0.625, False)}
    assert rows_of(training, IMAGE) == {(EFFUSION, BOX, 1.25, False)}  # all else is certain background
    assert rows_of(training, OTHER_IMAGE) == set()


def test_an_incomplete_reading_judges_its_findings_only(tmp_path: Path) -> None:
    training = training_of(tmp_path, saved([box(), box("rejected", CONSOLIDATION)]))
    assert rows_of(training, IMAGE) == {
        (EFFUSION, BOX, 1.25, False),
        (EFFUSION, WHOLE, 0.5, True),  # affirmed: there may be more
        (OPACITY, WHOLE, 0.25, True),  # not judged
    }  # consolidation is absent


def test_a_finding_that_a_box_implies_is_not_background(tmp_path: Path) -> None:
    training = training_of(tmp_path, saved([box("accepted", CONSOLIDATION)], complete=True))
    assert rows_of(training, IMAGE) == {(CONSOLIDATION, BOX, 1.25, False), (OPACITY, WHOLE, 0.5, True)}


def test_a_box_that_readers_disagree_on_is_masked(tmp_path: Path) -> None:
    given = [saved([box()], complete=True), saved(reader="r2", complete=True)]
    training = training_of(tmp_path, *given)
    assert rows_of(training, IMAGE) == {(EFFUSION, BOX, 0, True)}
    assert training.images["kind"].tolist()[-1] == "uncertain"


def test_without_image_labels_all_else_is_background(tmp_path: Path) -> None:
    training = training_of(tmp_path, saved([box()]), image_labels=False)
    assert rows_of(training, IMAGE) == {(EFFUSION, BOX, 1.25, False)}
