"""Finished runs as one classifier: exact figures, a folder that needs no other, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.cli import exit_code, parse_stage_arguments
from cxr.config import UserError, parse_settings
from cxr.imaging.pictures import Pictures
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun, open_run, start_run
from cxr.splits import load_splits
from eval.classification.calibration import fit_calibration
from eval.classification.metrics import classification_metrics
from eval.classification.operating_points import choose_thresholds
from eval.classification.prediction_file import read_predictions
from stage1_classify import ensemble_pipeline
from stage1_classify.data.studies import sum_views
from stage1_classify.ensemble import main
from stage1_classify.ensemble_pipeline import open_members
from stage1_classify.model.loading import load_trained
from stage1_classify.model.seen_patients import read_seen
from stage1_classify.settings.classifier import EnsembleSettings
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings, untrained_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patch_folder(tmp_path_factory.mktemp("data"), num_images=60)


@pytest.fixture(scope="module")
def runs(root: Path) -> list[Path]:
    """Two networks: of one channel, and of three with another normalisation and a coarser grid."""
    other = {"in_channels": 3, "feature_stage": 2}
    settings = (
        stage1_settings(root, operating_point={"calibration": "temperature"}),
        stage1_settings(root, backbone=other, input={"mean": [0.4, 0.5, 0.6], "std": [0.3]}),
    )
    return [untrained_run(s, root / f"run{i}", weights_seed=i) for i, s in enumerate(settings)]


def settings_of(**values: Any) -> EnsembleSettings:
    return parse_settings(EnsembleSettings, values, source="test")


def ensemble(sources: list[Path], out: Path, **values: Any) -> Path:
    settings = settings_of(**values)
    members = open_members(sources, settings)
    inputs = {f"member_{index}": member.dir for index, member in enumerate(members)}
    run = start_run(out, stage="stage1", settings=settings, inputs=inputs)
    try:
        if run.state != "finished":
            ensemble_pipeline.run(run, settings, members)
    finally:
        run.release()
    return out


def copied(run: Path, out: Path, **manifest: Any) -> Path:
    """A copy of a finished run with entries of its manifest changed."""
    shutil.copytree(run, out)
    content = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(content | manifest))
    return out


def test_a_single_run_gives_the_probabilities_of_its_own_predictions(root: Path, runs: list[Path]) -> None:
    data = stage1_settings(root).data.read()
    for run in runs:
        table, trained = read_predictions(run / "predictions.csv"), load_trained(run)
        assert len(trained.members) == 1
        predicted = trained.predict(data.select(table["image_id"]))
        in_table_order = table.sort_values("image_id")[list(data.findings)].to_numpy()
        np.testing.assert_allclose(predicted, in_table_order, rtol=1e-5)


def test_figures_of_an_ensemble_are_those_of_its_members_combined(tmp_path: Path, root: Path, runs: list[Path]) -> None:
    out = ensemble(runs, tmp_path / "both", combine="minimum", operating_point={"calibration": "none"}, seed=3)
    data = stage1_settings(root).data.read()
    ids = load_splits(runs[0] / "splits.json")
    both = {
        name: np.minimum(*(load_trained(run).predict(data.select(ids[name])) for run in runs))
        for name in ("val", "test")
    }
    labels = {name: data.select(ids[name]).labels.to_numpy() for name in both}
    findings = list(data.findings)
    metrics = classification_metrics(
        labels["test"], both["test"], findings=findings, thresholds=choose_thresholds(labels["val"], both["val"])
    )
    run = open_run(out, stage="stage1")
    for name in ("auroc/mean", "auroc/lung_lesion", "f1/pleural_effusion", "brier/mean", "tp/lung_lesion"):
        assert run.metrics[name] == pytest.approx(metrics[name]), name
    table = read_predictions(run.output("predictions"))
    assert table["image_id"].tolist() == ids["val"] + ids["test"]
    np.testing.assert_allclose(
        table[findings].to_numpy(), np.concatenate([both["val"], both["test"]]), rtol=1e-5, atol=1e-9
    )


def test_an_ensemble_is_a_run_of_stage_1(tmp_path: Path, runs: list[Path]) -> None:
    out = ensemble(runs, tmp_path / "both", flips=["none", "horizontal"], operating_point={"threshold": "youden"})
    run, member = open_run(out, stage="stage1"), open_run(runs[0])
    assert (
        run.settings == settings_of(flips=["none", "horizontal"], operating_point={"threshold": "youden"}).model_dump()
    )
    for entry in ("findings", "splits", "synthetic", "thresholds_chosen_on"):
        assert run.manifest[entry] == member.manifest[entry]
    assert set(run.manifest["thresholds"]) == set(run.manifest["findings"])
    assert {"calibration", "predictions", "report", "seen", "splits", "failures", "subgroups"} <= set(
        run.manifest["outputs"]
    )
    for index, source in enumerate(runs):
        copy = out / "members" / str(index)
        assert sha256_of(copy / "best.safetensors") == sha256_of(source / "best.safetensors")
        assert run.manifest["outputs"][f"member_{index}_weights"]["sha256"] == sha256_of(source / "best.safetensors")
        assert open_run(copy).settings["backbone"] == open_run(source).settings["backbone"]
    assert f"Mean of 2 runs ({runs[0]}, {runs[1]})" in (out / "report.html").read_text()


def test_a_copied_ensemble_needs_no_other_run(tmp_path: Path, root: Path, runs: list[Path]) -> None:
    own = [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs]
    out = ensemble(own, tmp_path / "both", flips=["none", "horizontal"])
    data = stage1_settings(root).data.read()
    before = load_trained(out)
    expected = before.predict(data)
    moved = shutil.copytree(out, tmp_path / "elsewhere" / "moved")
    for folder in (*own, out):
        shutil.rmtree(folder)
    after = load_trained(moved)
    np.testing.assert_array_equal(after.predict(data), expected)
    assert after.calibration.kind == "platt"
    assert [m.probabilities.calibration.kind for m in after.members] == ["temperature", "platt"]
    assert [m.num_channels for m in after.members] == [1, 3]
    assert (after.combine, after.flips) == ("mean", ("none", "horizontal"))
    assert not after.members[0].model.training


def test_its_calibration_is_fitted_to_what_is_combined(tmp_path: Path, root: Path, runs: list[Path]) -> None:
    trained = load_trained(ensemble(runs, tmp_path / "both", combine="maximum"))
    data = stage1_settings(root).data.read()
    val = data.select(load_splits(runs[0] / "splits.json")["val"])
    combined = np.maximum(*(load_trained(run).predict(val) for run in runs))
    calibration = fit_calibration(val.labels.to_numpy(), combined, "platt")
    assert [curve.fitted for curve in calibration.curves] == [True, False], "Pleural Effusion has two positives"
    np.testing.assert_allclose(trained.predict(val), calibration.apply(combined), rtol=1e-5)
    assert np.abs(trained.predict(val) - combined)[:, 0].max() > 1e-2


def test_one_run_with_a_flip_is_test_time_augmentation(tmp_path: Path, root: Path, runs: list[Path]) -> None:
    plain, turned = (
        load_trained(ensemble(runs[:1], tmp_path / name, flips=flips, operating_point={"calibration": "none"}))
        for name, flips in (("h", ["horizontal"]), ("both", ["none", "horizontal"]))
    )
    data = stage1_settings(root).data.read()
    assert np.abs(plain.predict(data) - turned.predict(data)).max() > 1e-3


def test_an_ensemble_has_seen_whom_any_member_has_seen(tmp_path: Path, runs: list[Path]) -> None:
    older = copied(runs[1], tmp_path / "older")
    seen = json.loads((older / "seen.json").read_text()) | {"elsewhere": {"train": ["x"], "val": ["y"]}}
    (older / "seen.json").write_text(json.dumps(seen))
    outputs = json.loads((older / "manifest.json").read_text())["outputs"]
    outputs["seen"]["sha256"] = sha256_of(older / "seen.json")
    shutil.rmtree(tmp_path / "older2", ignore_errors=True)
    changed = copied(older, tmp_path / "older2", outputs=outputs)
    found = read_seen(ensemble([runs[0], changed], tmp_path / "both"))
    assert found["elsewhere"] == {"train": ["x"], "val": ["y"]}
    assert {name: part for name, part in found.items() if name != "elsewhere"} == read_seen(runs[0])


def test_members_trained_on_studies_are_judged_on_studies(tmp_path: Path) -> None:
    """Two images a study; their labels differ in Fracture, which is none of the members' findings."""
    root = patch_folder(tmp_path / "data", num_images=48)
    table = pd.read_csv(root / "labels.csv")
    number = np.arange(48)
    table["patient"], table["study"] = [f"p{n}" for n in number // 2], "s"
    table["Lung Lesion"], table["Pleural Effusion"] = number // 2 % 2, number // 4 % 2
    table["Fracture"] = number % 2
    table.to_csv(root / "labels.csv", index=False)
    findings = {name: name for name in (*table.columns[2:4], "Fracture")}
    columns = {"image": "path", "patient": "patient", "study": "study"}
    settings = stage1_settings(root, data={"columns": columns, "findings": findings}, views={"max_views": 2})
    members = [untrained_run(settings, tmp_path / f"run{seed}", weights_seed=seed) for seed in (0, 1)]
    out = ensemble(members, tmp_path / "both", combine="maximum", operating_point={"calibration": "none"})
    table = read_predictions(open_run(out).output("predictions"))
    assert (table["num_views"] == 2).all()
    trained = load_trained(out)
    test = trained.settings.data.read().select(load_splits(out / "splits.json")["test"])
    each = trained.logits(Pictures(test, settings.input))
    views = tuple((row, row + 1) for row in range(0, len(test.images), 2))
    expected = trained.probabilities_of([sum_views(logits, views) for logits in each])
    found = table.loc[table["split"] == "test", settings.findings].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(trained.predict(test)[::2] - expected).max() > 1e-2, "one view is not the whole study"


def test_killed_and_started_again(tmp_path: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    whole = open_run(ensemble(runs, tmp_path / "whole"))
    monkeypatch.setattr("stage1_classify.ensemble_pipeline.finish_run", killed)
    with pytest.raises(KeyboardInterrupt):
        ensemble(runs, tmp_path / "halves")
    monkeypatch.undo()
    weights = tmp_path / "halves" / "members" / "1" / "best.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    halves = open_run(ensemble(runs, tmp_path / "halves"))
    assert halves.metrics == whole.metrics
    stamp = (halves.dir / "manifest.json").stat().st_mtime_ns
    ensemble(runs, tmp_path / "halves")
    assert (halves.dir / "manifest.json").stat().st_mtime_ns == stamp
    changed = copied(runs[1], tmp_path / "changed", seed=99)
    with pytest.raises(UserError, match=r"inputs\.member_1: as it was -> changed since"):
        ensemble([runs[0], changed], tmp_path / "halves")


def test_nothing_to_combine_is_refused(tmp_path: Path, runs: list[Path]) -> None:
    with pytest.raises(UserError, match="leave nothing to combine"):
        open_members(runs[:1], settings_of())
    with pytest.raises(UserError, match="horizontal is listed more than once"):
        open_members(runs, settings_of(flips=["horizontal", "none", "horizontal"]))
    with pytest.raises(UserError, match="is not a run folder"):
        open_members([runs[0], tmp_path], settings_of())


def test_the_same_run_twice_is_refused(tmp_path: Path, runs: list[Path]) -> None:
    with pytest.raises(UserError, match="has the same weights as"):
        open_members([runs[0], runs[1], runs[0]], settings_of())
    with pytest.raises(UserError, match=r"copy: has the same weights as .*run0; give each run once"):
        open_members([runs[0], copied(runs[0], tmp_path / "copy")], settings_of())


def test_an_ensemble_of_ensembles_is_refused(tmp_path: Path, runs: list[Path]) -> None:
    out = ensemble(runs, tmp_path / "both")
    with pytest.raises(UserError, match=f"is an ensemble; give its members instead: {runs[0]} {runs[1]}"):
        open_members([out, runs[0]], settings_of())


def changed_settings(run: FinishedRun, **changes: Any) -> dict[str, Any]:
    settings = dict(run.settings)
    for section, keys in changes.items():
        settings[section] = {**settings[section], **keys} if isinstance(keys, dict) else keys
    return settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"findings": ["Pleural Effusion", "Lung Lesion"]}, r"findings is \['Pleural Effusion'"),
        ({"data": {"table": "other.csv"}}, r"data\.table is other\.csv, but labels\.csv"),
        ({"views": {"max_views": 2}}, r"views\.max_views is 2, but None"),
        ({"labels": {"not_mentioned": "ignore"}}, r"labels\.not_mentioned is ignore, but zeros"),
        ({"input": {"size_hw": [48, 32]}}, r"input\.size_hw is \(48, 32\), but \(32, 48\)"),
        ({"input": {"clahe_clip": 2.0}}, r"input\.clahe_clip is 2\.0, but None"),
        ({"input": {"keep_aspect": True}}, r"input\.keep_aspect is True, but False"),
    ],
    ids=str,
)
def test_members_that_do_not_fit_are_refused(
    tmp_path: Path, runs: list[Path], changes: dict[str, Any], message: str
) -> None:
    other = copied(runs[1], tmp_path / "other", settings=changed_settings(open_run(runs[1]), **changes))
    with pytest.raises(UserError, match=message) as caught:
        open_members([runs[0], other], settings_of())
    assert len(caught.value.problems) == 1


def test_members_of_other_splits_are_refused(tmp_path: Path, runs: list[Path]) -> None:
    splits = open_run(runs[1]).manifest["splits"]
    other = {name: entry | {"sha256": "0" * 16} for name, entry in splits.items()}
    with pytest.raises(UserError) as caught:
        open_members([runs[0], copied(runs[1], tmp_path / "other", splits=other)], settings_of())
    assert [problem.split(": ")[1].split(" is ")[0] for problem in caught.value.problems] == [
        "split test",
        "split train",
        "split val",
    ]


def test_the_command(
    tmp_path: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ensemble.yaml").write_text("combine: minimum\n")

    def call(*arguments: str) -> int:
        given = parse_stage_arguments("ensemble", ["ensemble.yaml", *arguments], previous="stage1")
        return exit_code(lambda: main(given))

    assert call("--from", *map(str, runs), "--set", "combine=maximum") == 0
    run = open_run(Path("runs") / tmp_path.name / "ensemble", stage="stage1")
    assert run.settings["combine"] == "maximum"
    assert call("--from", str(runs[0]), "--out", "other") == 2
    assert capsys.readouterr().err.endswith("give more runs, or set flips=[none,horizontal]\n")
    assert not Path("other").exists()
    assert call("--from", str(runs[0]), "--out", "other", "--set", "flips=[none,horizontal]") == 0
