"""Stage 1 from settings to a finished run, where several techniques meet."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError
from cxr.labels import load_terminology
from cxr.runs.run_folder import FinishedRun, open_run, start_run
from cxr.splits import save_splits
from eval.classification.prediction_file import read_predictions
from stage1_classify import pipeline
from stage1_classify.model.loading import load_trained
from stage1_classify.model.seen_patients import read_seen
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.fabric import make_fabric
from tests.builders import write_picture
from tests.stage1_classify.stage1_builders import FINDINGS, patch_folder, stage1_settings

QUICK = {"num_epochs": 1, "batch_size": 4}


def train(settings: Stage1Settings, out: Path) -> FinishedRun:
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    try:
        pipeline.run(run, settings, make_fabric(settings))
    finally:
        run.release()
    return open_run(out, stage="stage1")


def with_columns(root: Path, **columns: list[object]) -> None:
    """Add columns to the table of `patch_folder`, or replace some."""
    table = pd.read_csv(root / "labels.csv").assign(**columns)
    table.to_csv(root / "labels.csv", index=False)


def make_uncertain(root: Path, every: int) -> None:
    """Make every so manieth label of Lung Lesion uncertain."""
    labels = pd.read_csv(root / "labels.csv")["Lung Lesion"].astype(float)
    labels[::every] = -1
    with_columns(root, **{"Lung Lesion": labels.tolist()})


def test_runs_with_other_findings_share_a_stratified_split_and_its_file(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data", num_images=30)
    terms = load_terminology(None)
    both = stage1_settings(root, split={"stratify": True})
    one = both.model_copy(update={"findings": FINDINGS[:1]})
    (data, ids), (narrow, same) = (pipeline._read_data(own, terms, progress=False) for own in (both, one))
    assert ids == same
    assert (data.findings, narrow.findings) == (tuple(FINDINGS), tuple(FINDINGS[:1]))
    save_splits(tmp_path / "splits.json", ids)
    again = stage1_settings(root, split={"kind": "file", "fractions": {}, "file": str(tmp_path / "splits.json")})
    assert pipeline._read_data(again, terms, progress=False)[1] == ids
    smaller = again.model_copy(update={"data": again.data.model_copy(update={"max_images": 20})})
    with pytest.raises(UserError, match="lists 10 images that csv_table lacks"):
        pipeline._read_data(smaller, terms, progress=False)


def test_a_student_learns_from_its_teacher_and_inherits_whom_it_has_seen(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data", num_images=40)
    make_uncertain(root, 5)
    teacher = train(stage1_settings(root, train=QUICK), tmp_path / "teacher")
    student = train(
        stage1_settings(root, train=QUICK, labels={"uncertain": "self_train", "teacher": str(teacher.dir)}),
        tmp_path / "student",
    )
    table = pd.read_csv(student.output("relabelled"))
    trained_on = set(pd.read_csv(root / "labels.csv").query("`Lung Lesion` == -1")["path"].str[:-4])
    assert set(table["image_id"]) <= trained_on
    assert set(table["finding"]) == {"Lung Lesion"}
    data = stage1_settings(root).data.read().select(table["image_id"])
    expected = load_trained(teacher.dir).predict(data)[:, FINDINGS.index("Lung Lesion")]
    np.testing.assert_allclose(table["probability"], expected, atol=1e-6)
    assert read_seen(student.dir) == read_seen(teacher.dir)


def test_a_teacher_that_has_seen_the_test_patients_is_refused(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data", num_images=40)
    make_uncertain(root, 5)
    teacher = train(stage1_settings(root, train=QUICK, split={"seed": 3}), tmp_path / "teacher")
    settings = stage1_settings(root, train=QUICK, labels={"uncertain": "self_train", "teacher": str(teacher.dir)})
    with pytest.raises(UserError, match="has seen in train"):
        train(settings, tmp_path / "student")


def test_studies_a_tree_and_an_uncertain_class_in_one_run(tmp_path: Path) -> None:
    """24 patients with a frontal and a lateral view each, and three frontal views of a last one."""
    root = patch_folder(tmp_path / "data", num_images=51)
    study = [index // 2 for index in range(48)] + [24] * 3
    lesion: list[object] = [-1 if number < 8 else number % 2 for number in study]
    effusion: list[object] = [int(number % 3 != 0) for number in study]
    views = ["frontal", "lateral"] * 24 + ["frontal"] * 3
    patients = [f"patient{number}" for number in study]
    labels = dict(zip(FINDINGS, (lesion, effusion), strict=True))
    with_columns(root, patient=patients, study=["s1"] * 51, view=views, **labels)
    columns = {"image": "path", "patient": "patient", "study": "study", "view": "view"}
    settings = stage1_settings(
        root,
        data={"columns": columns},
        views={"max_views": 2, "backbones": "by_view"},
        labels={"uncertain_by_finding": {"Lung Lesion": "three_class"}},
        hierarchy={"enabled": True, "parents": {"Lung Lesion": "Pleural Effusion"}, "conditional_epochs": 1},
        train={"num_epochs": 2, "batch_size": 4},
    )
    run = train(settings, tmp_path / "run")
    table = read_predictions(run.output("predictions"))
    assert set(table["num_views"]) == {2}
    assert table["image_id"].is_unique
    assert (table["Lung Lesion label"].isna() == (table["patient_id"].isin([f"patient{n}" for n in range(8)]))).all()
    left_out = [entry for entry in run.manifest["excluded"] if "view" in entry["reason"]]
    in_split = {"patient24"} & {*table["patient_id"], *read_seen(run.dir)["csv_table"]["train"]}
    assert len(left_out) == len(in_split)
    model = load_trained(run.dir).members[0].model
    assert model.uncertain_columns == (0,)
    assert len(model.backbones) == 2


def test_a_finding_that_is_not_learned_splits_the_test_cases(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data", num_images=40)
    settings = stage1_settings(root, findings=["Lung Lesion"], subgroups=["Pleural Effusion"], train=QUICK)
    run = train(settings, tmp_path / "run")
    rows = pd.read_csv(run.output("subgroups")).query("finding == 'mean' and attribute == 'Pleural Effusion'")
    assert sorted(rows["value"]) == ["no", "yes"]
    assert rows["num_cases"].sum() == run.manifest["splits"]["test"]["count"]
    with pytest.raises(UserError, match="finding 'Edema' is not there"):
        train(settings.model_copy(update={"subgroups": ["Edema"]}), tmp_path / "unknown")


def test_images_that_cannot_be_decoded_are_left_out_counted_and_named(tmp_path: Path) -> None:
    root = patch_folder(tmp_path / "data", num_images=40)
    broken = root / "images" / "p007.png"
    write_picture(broken, (40, 60))
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=r"p007\.png.*\n.*1 of 40 cannot be read"):
        train(stage1_settings(root, train=QUICK), tmp_path / "error")
    run = train(stage1_settings(root, train=QUICK, data={"on_problem": "exclude"}), tmp_path / "exclude")
    assert [entry["what"] for entry in run.manifest["excluded"]] == ["images/p007"]
    assert sum(part["count"] for part in run.manifest["splits"].values()) == 39


@pytest.mark.parametrize("channels", ["grey", "clahe3"])
def test_statistics_of_the_training_pictures_are_kept_for_readers_of_the_run(tmp_path: Path, channels: str) -> None:
    root = patch_folder(tmp_path / "data", num_images=40)
    settings = stage1_settings(
        root,
        train=QUICK,
        input={"normalise": "training_set", "channels": channels},
        backbone={"in_channels": 3 if channels == "clahe3" else 1},
    )
    run = train(settings, tmp_path / "run")
    used = run.manifest["normalisation"]
    assert len(used["mean"]) == (3 if channels == "clahe3" else 1)
    trained = load_trained(run.dir)
    assert (trained.settings.input.mean, trained.settings.input.std) == (used["mean"], used["std"])
    table = read_predictions(run.output("predictions")).query("split == 'test'")
    again = trained.predict(settings.data.read().select(table["image_id"]))
    np.testing.assert_allclose(table[FINDINGS].to_numpy(), again, atol=1e-6)
