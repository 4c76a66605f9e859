"""A finished classifier on another labelled data set: the figures of its run, new patients only, shared findings."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from cxr.config import UserError, parse_settings
from cxr.datasets import Tbx11kData
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun, open_run
from cxr.splits import load_splits
from eval.classification.prediction_file import read_predictions
from stage1_classify.evaluation.labelled_set import evaluate_elsewhere
from stage1_classify.model import seen_images
from stage1_classify.model.seen_patients import SEEN
from stage1_classify.settings.labelled_set import LabelledSetSettings, load_labelled_set
from tests.builders import write_picture, write_rows
from tests.cxr.imaging.test_content_hash import scene
from tests.stage1_classify.stage1_builders import FINDINGS, patch_folder, stage1_settings, untrained_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patch_folder(tmp_path_factory.mktemp("data"), num_images=60)


@pytest.fixture(scope="module")
def run(root: Path) -> FinishedRun:
    return open_run(untrained_run(stage1_settings(root), root / "run", weights_seed=0))


def own_set(root: Path, **changes: object) -> LabelledSetSettings:
    """The data and split that the classifier was made on."""
    given = stage1_settings(root).model_dump(mode="json")
    return parse_settings(LabelledSetSettings, {key: given[key] for key in ("data", "split")} | changes, source="test")


def other_set(folder: Path, findings: list[str], num_images: int = 12) -> LabelledSetSettings:
    """New patients, every second one with each of the findings."""
    for row in range(num_images):
        write_picture(folder / f"n{row}.png", (50, 70), bright_xyxy=(5, 5, 20, 18) if row % 2 else None)
    rows = [[f"n{row}.png", f"new{row}", *[row % 2] * len(findings)] for row in range(num_images)]
    write_rows(folder / "labels.csv", ["path", "patient", *findings], rows)
    data = {
        "dataset": "csv_table",
        "root": str(folder),
        "table": "labels.csv",
        "columns": {"image": "path", "patient": "patient"},
        "findings": {name: name for name in findings},
    }
    return parse_settings(LabelledSetSettings, {"data": data}, source="test")


def test_on_its_own_test_split_it_has_the_figures_of_its_run(tmp_path: Path, root: Path, run: FinishedRun) -> None:
    done = evaluate_elsewhere(run.dir, own_set(root), out=tmp_path / "again")
    assert done.metrics == run.metrics
    assert done.manifest["thresholds"] == run.manifest["thresholds"]
    table, again = (read_predictions(one.output("predictions")) for one in (run, done))
    pd.testing.assert_frame_equal(again, table[table["split"] == "test"].reset_index(drop=True))
    assert str(run.dir) in (done.dir / "report.html").read_text()
    assert done.manifest["excluded"] == []


def test_patients_that_it_has_seen_are_left_out_and_counted(tmp_path: Path, root: Path, run: FinishedRun) -> None:
    splits = load_splits(run.output("splits"))
    done = evaluate_elsewhere(run.dir, own_set(root, part="all"), out=tmp_path / "all")
    assert read_predictions(done.output("predictions"))["image_id"].tolist() == splits["test"]
    assert {item["what"] for item in done.manifest["excluded"]} == {*splits["train"], *splits["val"]}
    assert {item["reason"] for item in done.manifest["excluded"]} == {SEEN}
    with pytest.raises(UserError, match=f"all {len(splits['val'])} images"):
        evaluate_elsewhere(run.dir, own_set(root, part="val"), out=tmp_path / "val")


def with_seen_images(run: FinishedRun, folder: Path, seen: pd.DataFrame) -> Path:
    """A copy of the run that recorded these images."""
    shutil.copytree(run.dir, folder)
    seen_images.write_seen_images(folder / seen_images.FILE, [seen])
    manifest = json.loads((folder / "manifest.json").read_text())
    written = folder / seen_images.FILE
    manifest["outputs"][seen_images.OUTPUT] = {"path": written.name, "sha256": sha256_of(written)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_copies_of_images_that_it_has_seen_are_left_out(tmp_path: Path, root: Path, run: FinishedRun) -> None:
    settings = other_set(tmp_path / "new", [FINDINGS[0]])
    for row in range(12):
        assert cv2.imwrite(str(tmp_path / "new" / f"n{row}.png"), scene(row))
    data = settings.data.read()
    hashes = seen_images.content_hashes(data, stage1_settings(root).input)
    seen = seen_images.table_of(data, {"train": ["n3", "n4"], "val": ["n7"]}, hashes)
    done = evaluate_elsewhere(with_seen_images(run, tmp_path / "some", seen), settings, out=tmp_path / "out")
    assert [(one["what"], one["reason"]) for one in done.manifest["excluded"]] == [
        (name, seen_images.COPY) for name in ("n3", "n4", "n7")
    ]
    assert len(read_predictions(done.output("predictions"))) == 9
    everything = seen_images.table_of(data, {"train": list(hashes)}, hashes)
    with pytest.raises(UserError, match="all 12 images of csv_table are copies"):
        evaluate_elsewhere(with_seen_images(run, tmp_path / "all", everything), settings, out=tmp_path / "none")


def test_several_sets_are_evaluated_as_one(tmp_path: Path, root: Path, run: FinishedRun) -> None:
    """Seen patients are those of the set of the same name; what a set does not label does not count in its images."""
    splits = load_splits(run.output("splits"))
    new = other_set(tmp_path / "new", [FINDINGS[0]])
    sets = {"csv_table": own_set(root).data, "new": new.data}
    settings = parse_settings(LabelledSetSettings, {"data": {"dataset": "several", "sets": sets}}, source="test")
    done = evaluate_elsewhere(run.dir, settings, out=tmp_path / "out")
    assert {item["what"] for item in done.manifest["excluded"]} == {
        f"csv_table/{name}" for name in (*splits["train"], *splits["val"])
    }
    kept = [*(f"csv_table/{name}" for name in splits["test"]), *(f"new/n{row}" for row in range(12))]
    assert read_predictions(done.output("predictions"))["image_id"].tolist() == kept
    assert done.metrics["positives/lung_lesion"] == run.metrics["positives/lung_lesion"] + 6
    assert done.metrics["positives/pleural_effusion"] == run.metrics["positives/pleural_effusion"]


def test_only_findings_that_both_know_are_evaluated(tmp_path: Path, run: FinishedRun) -> None:
    settings = other_set(tmp_path / "new", [FINDINGS[1], "Edema"])
    done = evaluate_elsewhere(run.dir, settings, out=tmp_path / "out")
    assert done.manifest["findings"] == [FINDINGS[1]]
    assert done.manifest["findings_without_labels"] == [FINDINGS[0]]
    assert done.metrics["positives/pleural_effusion"] == 6
    assert "auroc/lung_lesion" not in done.metrics
    assert done.manifest["thresholds"] == {FINDINGS[1]: run.manifest["thresholds"][FINDINGS[1]]}
    with pytest.raises(UserError, match="Edema, the classifier knows Lung Lesion"):
        evaluate_elsewhere(run.dir, other_set(tmp_path / "edema", ["Edema"]), out=tmp_path / "none")


def test_blank_labels_are_what_the_settings_say(tmp_path: Path, run: FinishedRun) -> None:
    settings = other_set(tmp_path / "new", [FINDINGS[0]])
    table = (tmp_path / "new" / "labels.csv").read_text().replace(",0\n", ",\n", 2)
    (tmp_path / "new" / "labels.csv").write_text(table)
    labels = settings.labels.model_copy(update={"not_mentioned": "ignore"})
    for name, own, known in (("zeros", settings.labels, 12), ("ignored", labels, 10)):
        done = evaluate_elsewhere(run.dir, settings.model_copy(update={"labels": own}), out=tmp_path / name)
        column = read_predictions(done.output("predictions"))[f"{FINDINGS[0]} label"]
        assert int(np.isfinite(column).sum()) == known


def test_a_settings_file_of_stage_1_names_a_labelled_set(tmp_path: Path, root: Path) -> None:
    given = stage1_settings(root).model_dump(mode="json")
    for name, keys in (("whole", list(given)), ("short", ["data", "split"])):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({key: given[key] for key in keys}, sort_keys=False))
        settings = load_labelled_set(tmp_path / f"{name}.yaml", ["data.max_images=7"], part="val")
        assert (settings.data.max_images, settings.part, settings.split) == (7, "val", stage1_settings(root).split)
    assert load_labelled_set(tmp_path / "whole.yaml").part == "test"


def test_a_part_that_the_split_lacks_is_named(tmp_path: Path, root: Path, run: FinishedRun) -> None:
    with pytest.raises(UserError, match="no images in 'valid'; it has train, val, test"):
        evaluate_elsewhere(run.dir, own_set(root, part="valid"), out=tmp_path / "out")


def test_halves_are_not_whole_images(tmp_path: Path, run: FinishedRun) -> None:
    settings = other_set(tmp_path / "new", [FINDINGS[0]])
    data = Tbx11kData(root=tmp_path, layout="hemithorax").model_dump(mode="json")
    manifest = json.loads((run.dir / "manifest.json").read_text())
    shutil.copytree(run.dir, tmp_path / "halves")
    manifest["settings"]["data"] = data
    (tmp_path / "halves" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="region full, the classifier was trained on left, right_mirrored"):
        evaluate_elsewhere(tmp_path / "halves", settings, out=tmp_path / "out")
