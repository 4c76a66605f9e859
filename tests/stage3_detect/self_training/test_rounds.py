"""Rounds: when they end, which one wins, and that a killed run goes on; with stand-ins for the training."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pytest

from cxr.coco import CocoBoxes, read_coco
from cxr.config import UserError
from cxr.runs.run_folder import open_run, start_run
from cxr.tracking import read_log
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder
from stage3_detect.self_training import one_round
from stage3_detect.self_training import rounds as rounds_module
from stage3_detect.self_training.figures import best_round, reason_to_stop
from stage3_detect.self_training.rounds import RoundsResult, run_rounds
from stage3_detect.settings.detector import DataSettings, Stage3Settings, TrainSettings
from tests.stage3_detect.stage3_builders import FINDINGS, make_coco

BASE = Stage3Settings(
    data=DataSettings(image_px=96), train=TrainSettings(num_epochs=7, precision="fp32"), device="cpu", num_resamples=10
)


def with_rounds(**values: object) -> Stage3Settings:
    return BASE.model_copy(update={"self_training": BASE.self_training.model_copy(update=values)})


class KilledError(Exception):
    """Stands for kill -9: whatever comes after does not happen."""


@dataclass
class StandIn:
    """Trains nothing. Detects the teacher's boxes in training images, and of the tune boxes those of the first images.

    quality: how many images that are, of the weights of each round, by number. killed_in: "fit 1", "predict train 1",
        ...; happens once. unreadable: image that the training leaves out.
    """

    quality: list[int]
    killed_in: str = ""
    unreadable: str = "x"
    trained: list[tuple[str, str, int]] = field(default_factory=list)

    def fit(
        self, run_dir: Path, sources: Sources, labels: CocoBoxes, settings: Stage3Settings, *, start: Path | None = None
    ) -> tuple[Path, YoloFolder]:
        number = run_dir.name
        self._maybe_die(f"fit {number}")
        begin = start.read_text() if start else ""
        self.trained.append((number, begin, settings.train.num_epochs))
        weights = run_dir / "weights" / "best.pt"
        weights.parent.mkdir(exist_ok=True)
        weights.write_text(number)
        self._maybe_die(f"learned {number}")
        counts = dict.fromkeys(("num_positives", "num_normals", "num_uncertain", "num_left_out", "num_true"), 3)
        counts |= {"num_boxes": len(labels.boxes), "num_regions": 0, "num_held_out": 1}
        return weights, YoloFolder(run_dir / "yolo" / "data.yaml", **counts, excluded=((self.unreadable, "torn"),))

    def predict(self, weights: Path, images: CocoBoxes, _: Stage3Settings) -> CocoBoxes:
        number = weights.read_text()
        split = str(images.info["split"])
        assert self.unreadable not in set(images.images["image_id"])
        self._maybe_die(f"predict {split} {number}")
        good = set(images.images["image_id"][: self.quality[int(number)]])
        boxes = images.without_ignored().boxes.assign(score=0.9)
        wrong = ~boxes["image_id"].isin(good) & (split == "tune")
        boxes.loc[wrong, ["y1", "y2"]] = [0.0, 1.0]
        return images.with_boxes(boxes)

    def _maybe_die(self, place: str) -> None:
        if place == self.killed_in:
            self.killed_in = ""
            raise KilledError(place)

    def call(self, out: Path, sources: Sources, settings: Stage3Settings) -> RoundsResult:
        run = start_run(out, stage="stage3", settings=settings, inputs={})
        try:
            return run_rounds(run, sources, settings, fit=self.fit, predictor=self.predict)
        finally:
            run.release()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    data = tmp_path_factory.mktemp("data")
    train = make_coco(data, "train", num_images=6, seed=1, score=0.8)
    train = train.with_boxes(train.boxes.assign(confidence=0.5, method="pcam"))
    return Sources(
        train, make_coco(data, "tune", num_images=8, seed=3), None, make_coco(data, "test", num_images=2, seed=2)
    )


def test_best_round():
    assert best_round([]) == best_round([None]) == best_round([None, None]) == 0
    assert best_round([0.1, 0.3, 0.2]) == 1
    assert best_round([0.3, 0.3]) == 0
    assert best_round([None, 0.0]) == 1


def test_reason_to_stop():
    def reason(*aps: float | None, max_rounds: int = 9, min_gain: float = 0.0) -> str | None:
        return reason_to_stop(aps, max_rounds=max_rounds, min_gain=min_gain)

    assert reason(max_rounds=0) is None and reason(None) is None
    assert reason(0.1, max_rounds=0) == reason(0.1, 0.2, max_rounds=1) == "reached max_rounds"
    assert reason(0.1, 0.2) is reason(0.1, 0.2, 0.3) is reason(None, 0.2) is None
    assert reason(0.2, 0.2) == reason(0.2, 0.1) == reason(0.3, None) == "no gain on the tune split"
    assert reason(0.1, 0.3, 0.2) is not None  # over the best, not over the last
    assert reason(0.125, 0.25, min_gain=0.125) is not None and reason(0.125, 0.26, min_gain=0.125) is None


def test_no_rounds_is_one_training_on_the_labels_as_they_are(tmp_path: Path, sources: Sources):
    stand_in = StandIn([4])
    result = stand_in.call(tmp_path / "run", sources, BASE)
    assert stand_in.trained == [("0", "", 7)] and result.best_round == 0
    assert result.weights == tmp_path / "run" / "weights" / "best.pt" and result.weights.read_text() == "0"
    assert result.folder.num_boxes == len(sources.labels.boxes) and result.folder.excluded == (("x", "torn"),)
    assert result.folder.data_yaml == tmp_path / "run" / "rounds" / "0" / "yolo" / "data.yaml"
    assert result.metrics["rounds/num"] == 1 and result.metrics["rounds/best"] == 0
    assert 0 < (result.metrics["rounds/0/tune_ap40"] or 0) < 1
    assert "rounds/0/round" not in result.metrics and result.metrics["rounds/0/num_kept"] is None
    assert result.detections_tune is not None and read_coco(result.detections_tune).images["image_id"].size == 8


def test_rounds_go_on_while_they_gain_and_start_from_the_student(tmp_path: Path, sources: Sources):
    stand_in = StandIn([2, 4, 8])
    result = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=2, num_epochs=3))
    assert stand_in.trained == [("0", "", 7), ("1", "0", 3), ("2", "1", 3)]
    assert (result.best_round, result.stopped) == (2, "reached max_rounds")
    aps = [row["tune_ap40"] for row in result.history]
    assert aps[0] < aps[1] < aps[2] == pytest.approx(1)
    assert result.history[2]["tune_gain"] == pytest.approx(1 - aps[1])
    assert [row["step"] for row in read_log(tmp_path / "run")] == [0, 1, 2]


def test_rounds_can_start_from_the_beginning(tmp_path: Path, sources: Sources):
    stand_in = StandIn([2, 4])
    stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=1, start_from="beginning"))
    assert stand_in.trained == [("0", "", 7), ("1", "", 7)]


def test_round_that_is_worse_ends_them_and_the_best_weights_stay(tmp_path: Path, sources: Sources):
    stand_in = StandIn([2, 8, 4, 8])
    result = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=3))
    assert [number for number, *_ in stand_in.trained] == ["0", "1", "2"]
    assert (result.best_round, result.stopped) == (1, "no gain on the tune split")
    assert result.weights.read_text() == "1" and (result.history[2]["tune_gain"] or 0) < 0
    assert result.folder.data_yaml.parts[-3] == "1"
    assert not list(result.weights.parent.glob("*.partial"))


def test_small_gain_ends_them_and_wins_all_the_same(tmp_path: Path, sources: Sources):
    stand_in = StandIn([4, 5, 8])
    result = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=2, min_gain=0.5))
    assert len(result.history) == 2 and result.best_round == 1 and result.weights.read_text() == "1"


def test_each_round_is_a_finished_run_folder(tmp_path: Path, sources: Sources):
    StandIn([2, 4]).call(tmp_path / "run", sources, with_rounds(max_rounds=1))
    first, second = (open_run(tmp_path / "run" / "rounds" / str(number), stage="stage3_round") for number in (0, 1))
    assert set(first.manifest["outputs"]) == {"weights", "detections_tune"}
    assert set(second.manifest["outputs"]) == {*first.manifest["outputs"], "labels", "student_boxes", "relabelled"}
    assert second.manifest["inputs"]["student"]["path"] == "../0/weights/best.pt"
    assert second.manifest["student_scale"]["confidence"]["by_finding"].keys() == set(FINDINGS)
    labels = read_coco(second.output("labels"))
    assert labels.images["image_id"].tolist() == sources.labels.images["image_id"].tolist()
    assert len(labels.boxes) == len(sources.labels.boxes)  # the student agrees with every box of the teacher
    assert set(labels.boxes["method"]) == {"pcam+student"}
    assert second.output("relabelled").stat().st_size > 10_000
    assert second.metrics["num_kept"] == second.metrics["num_boxes"] == len(labels.boxes)
    assert {"relabelling", "training", "tune split"} <= second.manifest["phases"].keys()


def test_weak_boxes_of_the_teacher_take_no_part_and_what_is_fused_is_not_weak_again(tmp_path: Path, sources: Sources):
    boxes = sources.labels.boxes.copy()
    boxes.loc[0, "score"] = 0.1
    weak = replace(sources, labels=sources.labels.with_boxes(boxes))
    settings = with_rounds(max_rounds=1)
    labels = settings.labels.model_copy(update={"min_score": 0.6})
    stand_in = StandIn([2, 4])
    stand_in.call(tmp_path / "run", weak, settings.model_copy(update={"labels": labels}))
    done = open_run(tmp_path / "run" / "rounds" / "1")
    assert done.settings["labels"]["min_score"] == 0
    now = read_coco(done.output("labels"))
    regions = now.boxes[now.is_ignored]
    assert regions["ignored_by"].tolist() == ["score below labels.min_score"]
    assert now.boxes.loc[~now.is_ignored, "score"].max() < 0.8


def test_findings_that_are_affirmed_without_any_box_and_images_with_nothing(tmp_path: Path, sources: Sources):
    first, second = FINDINGS
    told = [{first: 1, second: 0}, {first: 1, second: 1}, {first: 0, second: 0}, {}, {first: None}, {second: -1}]
    images = sources.labels.images.assign(labels=pd.Series(told, dtype=object))
    ids = images["image_id"].tolist()
    boxes = sources.labels.boxes.iloc[:1].assign(image_id=ids[0], finding=first)
    labels = replace(sources.labels, images=images, boxes=boxes)
    StandIn([2, 4]).call(tmp_path / "run", replace(sources, labels=labels), with_rounds(max_rounds=1))
    now = read_coco(open_run(tmp_path / "run" / "rounds" / "1").output("labels"))
    assert now.boxes[["image_id", "finding"]].to_numpy().tolist() == [[ids[0], first]]
    assert now.images["labels"].tolist()[1] == {first: 1, second: 1}


def test_student_that_finds_nothing_leaves_the_teachers_boxes(tmp_path: Path, sources: Sources):
    stand_in = StandIn([2, 4])
    seen = stand_in.predict

    def blind(weights: Path, images: CocoBoxes, settings: Stage3Settings) -> CocoBoxes:
        found = seen(weights, images, settings)
        return found if images.info["split"] == "tune" else found.with_boxes(found.boxes.iloc[:0])

    run = start_run(tmp_path / "run", stage="stage3", settings=BASE, inputs={})
    run_rounds(run, sources, with_rounds(max_rounds=1), fit=stand_in.fit, predictor=blind)
    now = read_coco(open_run(tmp_path / "run" / "rounds" / "1").output("labels"))
    corners = ["x1", "y1", "x2", "y2", "confidence"]
    order = [*corners, "image_id"]
    assert now.boxes.sort_values(order)[corners].to_numpy().tolist() == (
        sources.labels.boxes.sort_values(order)[corners].to_numpy().tolist()
    )


def test_image_that_could_not_be_read_keeps_the_teachers_boxes(tmp_path: Path, sources: Sources):
    torn = str(sources.labels.boxes["image_id"].iloc[0])
    images = sources.labels.images.copy()
    images.loc[images["image_id"] == torn, "path"] = "gone.png"
    labels = replace(sources.labels, images=images)
    stand_in = StandIn([2, 4], unreadable=torn)
    stand_in.call(tmp_path / "run", replace(sources, labels=labels), with_rounds(max_rounds=1))
    now = read_coco(open_run(tmp_path / "run" / "rounds" / "1").output("labels")).boxes
    assert set(now.loc[now["image_id"] == torn, "method"]) == {"pcam"}
    assert set(now.loc[now["image_id"] != torn, "method"]) == {"pcam+student"}


PLACES = ["fit 0", "learned 0", "predict tune 0", "predict train 0", "fit 1", "learned 1", "predict tune 1"]
PLACES += ["predict train 1", "fit 2", "predict tune 2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> RoundsResult:
    """What comes of three rounds when nobody kills anything."""
    return StandIn([2, 4, 8]).call(tmp_path_factory.mktemp("whole"), sources, with_rounds(max_rounds=2))


@pytest.mark.parametrize("place", PLACES)
def test_killed_run_goes_on_in_its_round(tmp_path: Path, sources: Sources, whole: RoundsResult, place: str):
    settings = with_rounds(max_rounds=2)
    stand_in = StandIn([2, 4, 8], killed_in=place)
    with pytest.raises(KilledError, match=place):
        stand_in.call(tmp_path / "run", sources, settings)
    assert not (tmp_path / "run" / "weights").exists()
    result = stand_in.call(tmp_path / "run", sources, settings)
    same_history(result, whole)
    killed_round = str(int(place[-1]) + ("train" in place))
    times = {number: [n for n, *_ in stand_in.trained].count(number) for number in "012"}
    # the real fit sees for itself that the training is done; a finished round does not even call it
    again = "train" not in place and not place.startswith("fit ")
    assert times == {number: 2 if again and number == killed_round else 1 for number in "012"}
    assert result.weights.read_text() == "2"


FILES = ["write_coco", "relabel_gallery", "tune_figures", "count_facts", "Tracker"]


@pytest.mark.parametrize("name", FILES)
def test_killed_before_each_of_the_files_of_a_round(
    tmp_path: Path, sources: Sources, whole: RoundsResult, monkeypatch: pytest.MonkeyPatch, name: str
):
    """One run, killed before the first call of `name`, then before the second, ... until it gets through."""
    stand_in, kills = StandIn([2, 4, 8]), 0
    while kills < 40:
        with monkeypatch.context() as patch:
            patch.setattr(one_round, name, DiesAfter(getattr(one_round, name), calls=kills))
            try:
                result = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=2))
            except KilledError:
                kills += 1
                continue
        break
    assert kills >= 2
    same_history(result, whole)


@dataclass
class DiesAfter:
    """A function that is killed before it is called once more than so many times."""

    real: Callable[..., object]
    calls: int

    def __call__(self, *arguments: object, **options: object) -> object:
        if not self.calls:
            raise KilledError
        self.calls -= 1
        return self.real(*arguments, **options)


def test_killed_while_the_best_weights_are_copied(tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch):
    stand_in = StandIn([2, 4])

    def torn(source: Path, target: Path) -> None:
        target.write_text("half")
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(rounds_module.shutil, "copyfile", torn)
        stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=1))
    assert not (tmp_path / "run" / "weights" / "best.pt").exists()
    assert stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=1)).weights.read_text() == "1"
    assert [number for number, *_ in stand_in.trained] == ["0", "1"]


def test_finished_rounds_are_not_trained_again(tmp_path: Path, sources: Sources):
    stand_in = StandIn([2, 4])
    first = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=1))
    again = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=1))
    assert len(stand_in.trained) == 2 and again == first


def test_damaged_round_is_made_again_from_what_is_there(tmp_path: Path, sources: Sources):
    stand_in = StandIn([2, 4])
    first = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=1))
    (tmp_path / "run" / "rounds" / "1" / "coco" / "detections_tune.json").unlink()
    shutil.rmtree(tmp_path / "run" / "rounds" / "0" / "coco")
    again = stand_in.call(tmp_path / "run", sources, with_rounds(max_rounds=1))
    same_history(again, first)


def test_log_of_the_run_tells_of_all_rounds_and_of_what_follows(tmp_path: Path, sources: Sources):
    StandIn([2, 4]).call(tmp_path / "run", sources, with_rounds(max_rounds=1))
    logging.getLogger("raybox").info("and then the export")
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "round 0: AP40 on tune 0." in text and "round 1: AP40 on tune 0." in text
    assert "over the best earlier round" in text and "kept, 0 dropped, 0 new" in text
    assert "2 rounds, reached max_rounds; the best is round 1" in text and "and then the export" in text
    inner = (tmp_path / "run" / "rounds" / "1" / "log.txt").read_text()
    assert "stage3_round: relabelling" in inner and "round 0:" not in inner and "and then" not in inner


def test_other_settings_are_refused_by_the_round_as_well(tmp_path: Path, sources: Sources):
    run = start_run(tmp_path / "run", stage="stage3", settings=BASE, inputs={})
    stand_in = StandIn([4])
    run_rounds(run, sources, BASE, fit=stand_in.fit, predictor=stand_in.predict)
    with pytest.raises(UserError, match=r"settings.seed: 0 -> 1"):
        run_rounds(run, sources, BASE.model_copy(update={"seed": 1}), fit=stand_in.fit)


def test_rounds_that_cannot_work_are_refused_before_anything_is_trained(tmp_path: Path, sources: Sources):
    stand_in, settings = StandIn([4]), with_rounds(max_rounds=2)
    true = settings.labels.model_copy(update={"source": "true_boxes"})
    with pytest.raises(UserError, match=r"max_rounds: 2 with labels.source: true_boxes"):
        stand_in.call(tmp_path / "a", sources, settings.model_copy(update={"labels": true}))
    few = settings.labels.true_boxes.model_copy(update={"only": True, "num_boxes": 5})
    alone = settings.labels.model_copy(update={"true_boxes": few})
    with pytest.raises(UserError, match=r"max_rounds: 2 with labels.true_boxes.only"):
        stand_in.call(tmp_path / "b", sources, settings.model_copy(update={"labels": alone}))
    boxless = replace(sources, tune=sources.tune.with_boxes(sources.tune.boxes.iloc[:0]))
    with pytest.raises(UserError, match="needs true boxes in the tune split"):
        stand_in.call(tmp_path / "c", boxless, settings)
    assert stand_in.trained == []


def test_without_tune_images_there_is_one_round_without_figures(tmp_path: Path, sources: Sources):
    none = replace(sources.tune, images=sources.tune.images.iloc[:0], boxes=sources.tune.boxes.iloc[:0])
    result = StandIn([4]).call(tmp_path / "run", replace(sources, tune=none), BASE)
    assert result.detections_tune is None and result.best_round == 0
    assert result.metrics["rounds/0/tune_ap40"] is None and result.metrics["rounds/0/num_boxes"]
    boxless = replace(sources, tune=sources.tune.with_boxes(sources.tune.boxes.iloc[:0]))
    result = StandIn([4]).call(tmp_path / "other", boxless, BASE)
    assert result.detections_tune is not None and result.metrics["rounds/0/tune_ap40"] is None


def same_history(result: RoundsResult, expected: RoundsResult) -> None:
    assert result.history == expected.history
    assert (result.best_round, result.stopped) == (expected.best_round, expected.stopped)
    numbers = [replace(folder, data_yaml=Path()) for folder in (result.folder, expected.folder)]
    assert numbers[0] == numbers[1]
