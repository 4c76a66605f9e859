"""Rounds with the real training and detection, tiny: killed in the second round, gone on with."""

from pathlib import Path

import pytest
import torch

from cxr.coco import read_coco
from cxr.runs.run_folder import open_run, start_run
from stage3_detect.labels.sources import Sources, open_sources
from stage3_detect.self_training import rounds as rounds_module
from stage3_detect.self_training.rounds import RoundsResult, run_rounds
from stage3_detect.settings.detector import DataSettings, Stage3Settings, TrainSettings
from stage3_detect.settings.labels import SelfTrainingSettings
from tests.stage3_detect.stage3_builders import FINDINGS, make_stage2_run

SETTINGS = Stage3Settings(
    data=DataSettings(image_px=96),
    train=TrainSettings(num_epochs=1, batch_size=8, precision="fp32"),
    self_training=SelfTrainingSettings(max_rounds=1, min_confidence=0.2),
    device="cpu",
    num_workers=1,
    num_resamples=10,
)


class KilledError(Exception):
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    stage2 = open_run(make_stage2_run(tmp_path_factory.mktemp("run")))
    return open_sources(stage2, SETTINGS.labels, seed=0)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> RoundsResult:
    """Killed while the second round's detector looks at the tune split."""
    out, calls = tmp_path_factory.mktemp("rounds") / "run", []
    real = rounds_module.predict_images

    def dies_at_the_third(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KilledError
        return real(*arguments, **options)

    rounds_module.predict_images = dies_at_the_third
    try:
        for _ in range(2):
            run = start_run(out, stage="stage3", settings=SETTINGS, inputs={})
            try:
                found = run_rounds(run, sources, SETTINGS)
            except KilledError:
                assert (out / "rounds" / "0" / "manifest.json").is_file()
                assert not (out / "rounds" / "1" / "manifest.json").exists()
            finally:
                run.release()
    finally:
        rounds_module.predict_images = real
    assert len(calls) == 4
    return found


def test_killed_rounds_end_and_have_their_figures(result: RoundsResult):
    assert len(result.history) == 2 and result.best_round in (0, 1)
    for number in (0, 1):
        low, value, high = (result.metrics[f"rounds/{number}/tune_ap40{end}"] for end in ("/low", "", "/high"))
        assert low is not None and value is not None and high is not None and 0 <= low <= value <= high <= 1
    assert result.metrics["rounds/1/num_boxes"] and result.metrics["rounds/1/mean_iou"] is not None
    assert result.folder.num_positives and result.folder.data_yaml.is_file()


def test_rounds_are_not_trained_twice(result: RoundsResult):
    for number in ("0", "1"):
        text = (result.weights.parents[1] / "rounds" / number / "metrics.jsonl").read_text()
        assert text.count('"step": 1,') == 1


def test_best_weights_are_the_best_rounds(result: RoundsResult):
    best = result.weights.parents[1] / "rounds" / str(result.best_round) / "weights" / "best.pt"
    assert result.weights.read_bytes() == best.read_bytes() and result.weights.stat().st_ino != best.stat().st_ino


def test_second_round_began_where_the_first_ended(result: RoundsResult):
    first, second = (weights_of(result, number) for number in ("0", "1"))
    assert first.keys() == second.keys()
    apart = [float((first[k].float() - second[k].float()).abs().mean()) for k in first]
    size = [float(first[k].float().abs().mean()) for k in first]
    assert 0 < sum(apart) < 0.5 * sum(size)


def test_labels_of_the_second_round_are_of_affirmed_findings_only(result: RoundsResult, sources: Sources):
    done = open_run(result.weights.parents[1] / "rounds" / "1", stage="stage3_round")
    labels = read_coco(done.output("labels"))
    affirmed = set(zip(sources.labels.boxes["image_id"], sources.labels.boxes["finding"], strict=True))
    boxes = labels.without_ignored().boxes
    assert set(zip(boxes["image_id"], boxes["finding"], strict=True)) == affirmed
    assert labels.findings == FINDINGS and boxes["confidence"].between(0, 1).all()
    student = read_coco(done.output("student_boxes")).boxes
    assert set(zip(student["image_id"], student["finding"], strict=True)) <= affirmed
    assert done.manifest["training"]["num_boxes"] <= len(boxes)


def weights_of(result: RoundsResult, number: str) -> dict[str, torch.Tensor]:
    path: Path = result.weights.parents[1] / "rounds" / number / "weights" / "best.pt"
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    return dict(checkpoint["model"].named_parameters())
