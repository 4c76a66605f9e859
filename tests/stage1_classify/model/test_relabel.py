"""Self-training with a real teacher: a finished run labels what another is uncertain of."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.config import UserError
from cxr.runs.run_folder import start_run
from cxr.tables import Dataset
from stage1_classify.data.targets import training_targets
from stage1_classify.model import relabel as module
from stage1_classify.model.classifier import Classifier
from stage1_classify.model.loading import load_trained
from stage1_classify.model.relabel import relabel
from stage1_classify.model.seen_patients import check_source, write_seen
from stage1_classify.settings.classifier import LabelSettings
from stage1_classify.training.checkpoint import save_weights
from tests.stage1_classify.stage1_builders import FINDINGS, patch_folder, stage1_settings

NAN = float("nan")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the folder `data` next to it; its network is random, with large weights."""
    parent = tmp_path_factory.mktemp("teacher")
    settings = stage1_settings(patch_folder(parent / "data", num_images=24))
    run = start_run(parent / "run", stage="stage1", settings=settings, inputs={})
    torch.manual_seed(0)
    model = Classifier(settings)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)
    outputs = {"weights": run.dir / "best.safetensors", "seen": run.dir / "seen.json"}
    save_weights(outputs["weights"], model)
    data = settings.data.read()
    write_seen(outputs["seen"], data, settings.split.make(data), before={})
    run.finish({}, outputs, findings=settings.findings)
    return run.dir


def uncertain_labels(teacher: Path) -> Dataset:
    """The teacher's images; of the first three Lung Lesion is uncertain, of the third Pleural Effusion too."""
    data = stage1_settings(teacher.parent / "data").data.read()
    labels = data.labels.copy()
    labels.iloc[:3, 0] = -1
    labels.iloc[2, 1] = -1
    return Dataset(data.name, data.root, data.images, labels, data.boxes)


def self_train(teacher: Path, **changes: object) -> LabelSettings:
    return LabelSettings.model_validate({"uncertain": "self_train", "teacher": teacher, **changes})


def test_uncertain_labels_take_the_teachers_probabilities(teacher: Path, tmp_path: Path) -> None:
    data = uncertain_labels(teacher)
    got = relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)
    expected = np.full((24, 2), NAN)
    predicted = load_trained(teacher).predict(data)
    expected[:3, 0], expected[2, 1] = predicted[:3, 0], predicted[2, 1]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    targets = training_targets(data.labels, self_train(teacher), seed=0, teacher=got)
    np.testing.assert_allclose(targets[:3, 0], predicted[:3, 0], rtol=1e-5)
    np.testing.assert_array_equal(targets[3:], data.labels.to_numpy()[3:])


def test_what_was_replaced_is_written_down(teacher: Path, tmp_path: Path) -> None:
    data = uncertain_labels(teacher)
    got = relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)
    table = pd.read_csv(tmp_path / "relabelled.csv", dtype=str)
    ids = data.images["image_id"].tolist()
    assert table["image_id"].tolist() == [ids[0], ids[1], ids[2], ids[2]]
    assert table["finding"].tolist() == ["Lung Lesion"] * 3 + ["Pleural Effusion"]
    assert [float(text) for text in table["probability"]] == got[~np.isnan(got)].tolist()


def test_a_run_that_goes_on_reads_what_it_wrote(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = uncertain_labels(teacher)
    first = relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)
    monkeypatch.setattr(module, "load_trained", None)  # a second look would fail
    again = relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("damage", ["fewer labels", "no number", "too high", "no column", "empty"])
def test_a_table_of_other_labels_is_refused(teacher: Path, tmp_path: Path, damage: str) -> None:
    data = uncertain_labels(teacher)
    relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)
    path = tmp_path / "relabelled.csv"
    lines = path.read_text().splitlines()
    damaged = {
        "fewer labels": lines[:-1],
        "no number": [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",high"],
        "too high": [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",1.5"],
        "no column": [line.rsplit(",", 1)[0] for line in lines],
        "empty": [],
    }
    path.write_text("\n".join(damaged[damage]))
    with pytest.raises(UserError, match=r"relabelled\.csv is not a table of this run's 4 uncertain labels"):
        relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)


def test_only_findings_with_the_policy_are_relabelled(teacher: Path, tmp_path: Path) -> None:
    settings = self_train(teacher, uncertain="ones", uncertain_by_finding={"Pleural Effusion": "self_train"})
    got = relabel(settings, uncertain_labels(teacher), FINDINGS, run_dir=tmp_path)
    assert np.argwhere(~np.isnan(got)).tolist() == [[2, 1]]


def test_columns_are_mapped_by_name(teacher: Path, tmp_path: Path) -> None:
    data = uncertain_labels(teacher)
    (tmp_path / "b").mkdir()
    one = relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)
    other = relabel(self_train(teacher), data, FINDINGS[::-1], run_dir=tmp_path / "b")
    np.testing.assert_array_equal(other, one[:, ::-1])


def test_a_finding_that_the_teacher_lacks_is_named_only_where_needed(teacher: Path, tmp_path: Path) -> None:
    data = uncertain_labels(teacher)
    labels = data.labels.rename(columns={"Pleural Effusion": "Pleural Other"})
    renamed = Dataset(data.name, data.root, data.images, labels, data.boxes)
    findings = ["Lung Lesion", "Pleural Other"]
    with pytest.raises(UserError, match=r"does not know 'Pleural Other'.*only Lung Lesion, Pleural Effusion"):
        relabel(self_train(teacher), renamed, findings, run_dir=tmp_path)
    settings = self_train(teacher, uncertain_by_finding={"Pleural Other": "ignore"})
    assert (~np.isnan(relabel(settings, renamed, findings, run_dir=tmp_path))).sum() == 3


def test_without_uncertain_labels_nothing_is_replaced(teacher: Path, tmp_path: Path) -> None:
    data = stage1_settings(teacher.parent / "data").data.read()
    assert np.isnan(relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)).all()
    assert np.isnan(relabel(self_train(teacher), data, FINDINGS, run_dir=tmp_path)).all()


def test_a_teacher_that_has_seen_the_patients_of_val_or_test_is_refused(teacher: Path) -> None:
    settings = stage1_settings(teacher.parent / "data")
    data = settings.data.read()
    ids = settings.split.make(data)
    assert check_source(teacher, data, ids).keys() == {data.name}
    with pytest.raises(UserError, match=r"of val are of patients .* seen in train"):
        check_source(teacher, data, {"val": ids["train"], "test": ids["test"]})
    with pytest.raises(UserError, match=r"of test are of patients .* seen in train or val"):
        check_source(teacher, data, {"val": ids["test"], "test": ids["val"]})


def test_the_teacher_must_be_a_finished_run(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        relabel(self_train(tmp_path / "nowhere"), uncertain_labels(teacher), FINDINGS, run_dir=tmp_path)
