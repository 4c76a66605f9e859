"""The whole stage as a user runs it: offline, killed in the middle, finished, with other settings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.cli import StageArguments, parse_stage_arguments
from cxr.coco import CocoBoxes, read_coco
from cxr.config import UserError
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import open_run
from stage3_detect.model.checkpoint import read_network
from stage3_detect.model.correction import BoxCorrection
from stage3_detect.pipeline import open_compared
from stage3_detect.run import main
from stage3_detect.training.trainer import PseudoBoxTrainer
from tests.paths import ROOT
from tests.stage3_detect.serving.chain_builders import make_classifier_run
from tests.stage3_detect.stage3_builders import make_coco, make_stage2_run, tiny_settings

# Every attempt to reach the network is written down and refused; the home folder is a fresh one. At the end the
# modules are noted that NNCF and OpenVINO would send their telemetry by.
GUARD = """
import atexit, os, runpy, socket, sys
def refuse(*arguments, **options):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{arguments[:2]}\\n")
    raise OSError("no network in this test")
class NoSocket(socket.socket):
    connect = connect_ex = refuse
    sendto = connect
socket.socket, socket.getaddrinfo, socket.create_connection = NoSocket, refuse, refuse
socket.gethostbyname = refuse
@atexit.register
def note_telemetry():
    import nncf.telemetry.wrapper as wrapper
    from openvino.tools.ovc import telemetry_utils
    used = type(wrapper.telemetry).__module__, telemetry_utils.tm.__name__, "openvino_telemetry.main" in sys.modules
    with open(os.environ["NETWORK_LOG"] + ".telemetry", "w") as log:
        log.write(" ".join(map(str, used)))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def given(command: list[str]) -> StageArguments:
    """What the script parses out of a command line."""
    script = next(index for index, word in enumerate(command) if word.endswith("run.py"))
    return parse_stage_arguments("stage3", command[script + 1 :], previous="stage2")


def command(folder: Path, *changes: str) -> list[str]:
    settings = ["data.image_px=64", "train.num_epochs=2", "train.batch_size=8", "train.precision=fp32"]
    small = [
        "num_resamples=20",
        "export.num_check_images=2",
        "export.num_calibration_images=4",
        "export.formats=[onnx, openvino_int8]",
        "self_training.max_rounds=1",
    ]
    small += [
        "distillation.num_epochs=1",
        "self_training.num_epochs=1",
        "num_gallery_images=3",
        "device=cpu",
        "num_workers=1",
    ]
    paths = ["--from", str(folder / "stage2"), "--out", str(folder / "stage3")]
    return [str(ROOT / "stage3_detect" / "run.py"), *paths, "--set", *settings, *small, *changes]


def start(folder: Path) -> "subprocess.Popen[bytes]":
    home = folder / "home"
    home.mkdir(exist_ok=True)
    settings = {"HOME": str(home), "NETWORK_LOG": str(folder / "network.log"), "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in os.environ.items() if "YOLO" not in name}
    environment = kept | settings | {"ULTRALYTICS_API_KEY": "ul_" + "0" * 40, "MPLCONFIGDIR": str(folder / "mpl")}
    script = [sys.executable, "-c", GUARD, *command(folder)]
    return subprocess.Popen(script, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage 3 run that was killed after its first epoch and then given the same command again."""
    folder = tmp_path_factory.mktemp("stage3")
    make_stage2_run(folder, inputs={"stage1": make_classifier_run(folder / "stage1")})
    first = start(folder)
    last = folder / "stage3" / "rounds" / "0" / "train" / "weights" / "last.pt"
    deadline = time.monotonic() + 300
    while not last.is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert last.is_file() and not (folder / "stage3" / "manifest.json").exists()
    second = start(folder)
    _, errors = second.communicate(timeout=600)
    assert second.returncode == 0, errors.decode()
    return folder


def test_killed_run_goes_on_where_it_was(folder: Path):
    assert "the training resumes after epoch" in (folder / "stage3" / "log.txt").read_text()
    text = (folder / "stage3" / "rounds" / "0" / "metrics.jsonl").read_text()
    steps = [json.loads(line)["step"] for line in text.splitlines()]
    assert steps[-1] == 2 and sorted(set(steps)) == [1, 2]


def test_the_training_starts_from_distilled_weights(folder: Path):
    run = open_run(folder / "stage3", stage="stage3")
    assert "the distillation is finished" in (folder / "stage3" / "log.txt").read_text()
    first, second = (open_run(folder / "stage3" / "rounds" / name, stage="stage3_round") for name in "01")
    weights = sha256_of(run.output("weights_distilled"))
    assert first.manifest["inputs"]["start"]["sha256"] == second.manifest["inputs"]["start"]["sha256"] == weights
    assert {f"distillation/r2/backbone_{stride}" for stride in (8, 16, 32)} <= set(run.metrics)
    assert "Distillation" in run.output("report").read_text() and "learned" in run.output("model_card").read_text()


def test_a_distillation_needs_the_classifier(tmp_path: Path):
    make_stage2_run(tmp_path, num_train=3, num_test=3)
    with pytest.raises(UserError, match=r"distillation.num_epochs: 1 needs the classifier"):
        main(given(command(tmp_path)))


def test_nothing_reached_for_the_network_or_wrote_into_the_home(folder: Path):
    """The export to int8 among it, whose libraries come with telemetry."""
    assert not (folder / "network.log").exists()
    assert list((folder / "home").rglob("*")) == []
    # NNCF's own stand-in is a mock, OpenVINO's an empty class
    assert (folder / "network.log.telemetry").read_text() == "unittest.mock openvino.tools.ovc.telemetry_stub False"


def test_run_holds_detections_weights_formats_and_pages(folder: Path):
    run = open_run(folder / "stage3", stage="stage3")
    detections = read_coco(run.output("detections_detector"))
    truth = read_coco(open_run(folder / "stage2").output("gt_test"))
    assert detections.images.equals(truth.images) and detections.findings == truth.findings
    assert len(detections.boxes) and detections.boxes["score"].min() >= 0.001
    assert run.output("weights").name == "best.pt" and run.output("onnx").is_file()
    assert run.output("openvino_int8").is_file()
    for page in (run.output("report").read_text(), run.output("model_card").read_text()):
        assert "PCAM" in page and str(folder) not in page


def test_manifest_tells_what_predictions_need(folder: Path):
    run = open_run(folder / "stage3", stage="stage3")
    best = open_run(folder / "stage3" / "rounds" / str(run.manifest["best_round"]), stage="stage3_round")
    correction = BoxCorrection.from_dict(run.manifest["box_correction"])
    assert correction.as_dict() == best.manifest["box_correction"]
    assert run.manifest["regions"] == ["full"] and run.manifest["findings"] == ["Nodule/Mass", "Pleural Effusion"]
    assert {"operating_points", "score_curves", "not_exported", "training"} <= set(run.manifest)


def test_tune_detections_are_those_of_the_best_round_put_right(folder: Path):
    run = open_run(folder / "stage3", stage="stage3")
    best = open_run(folder / "stage3" / "rounds" / str(run.manifest["best_round"]), stage="stage3_round")
    correction = BoxCorrection.from_dict(run.manifest["box_correction"])
    wanted = correction.of_table(read_coco(best.output("detections_tune"))).boxes
    found = read_coco(run.output("detections_tune")).boxes
    assert len(found) == len(wanted)
    assert found[["x1", "y2", "score"]].to_numpy() == pytest.approx(wanted[["x1", "y2", "score"]].to_numpy(), abs=1e-3)


def test_figures_have_their_names(folder: Path):
    metrics = open_run(folder / "stage3").metrics
    for name in ("detector", "teacher", "prior_mean_box", "prior_center_box"):
        for key in (f"ap40/{name}", f"ap40/{name}/low", f"ap40/{name}/high", f"ap40/{name}/nodule_mass/high"):
            assert metrics[key] is not None
    others = {"ap10/detector", "ap30/detector", "ap50/detector", "ap70/detector", "ap5095/detector", "voc40/detector"}
    assert others | {"froc/detector", "rounds/num", "rounds/1/tune_ap40"} <= set(metrics)
    assert metrics["ms_per_image/teacher"] == 50.0 and metrics["ms_per_image/detector"] > 0
    assert metrics["ms_per_image/detector/p99"] >= metrics["ms_per_image/detector"]
    assert metrics["export/onnx/box_difference_px"] <= 1
    assert metrics["export/onnx/score_difference"] <= 1e-3
    assert metrics["export/openvino_int8/ap40_loss"] is not None


def test_another_run_is_compared(folder: Path):
    test = read_coco(open_run(folder / "stage2").output("gt_test"))
    found = open_compared({"supervised": folder / "stage3"}, test)
    assert list(found) == ["supervised"] and found["supervised"].findings == test.findings
    fewer = CocoBoxes(test.images.iloc[1:], test.boxes, test.findings, test.info)
    with pytest.raises(UserError, match=r"compare_with\.supervised: 1 images are not in both"):
        open_compared({"supervised": folder / "stage3"}, fewer)


@pytest.mark.parametrize("name", ["teacher", "detector_onnx", "prior_mean_box", "human", "Two words", "a/b", ""])
def test_a_compared_run_needs_a_name_that_no_metric_has(name: str):
    with pytest.raises(ValueError, match=f"{name!r}(: expected| is used)"):
        tiny_settings(compare_with={name: "somewhere"})
    assert list(tiny_settings(compare_with={"supervised_25": "somewhere"}).compare_with) == ["supervised_25"]


def test_weights_hold_no_path_of_this_machine(folder: Path):
    data = (folder / "stage3" / "weights" / "best.pt").read_bytes()
    assert str(folder).encode() not in data and str(ROOT).encode() not in data
    assert not list((folder / "stage3" / "weights").glob("*.partial"))


def test_finished_run_says_so_and_other_settings_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.chdir(ROOT)
    manifest = (folder / "stage3" / "manifest.json").read_bytes()
    main(given(command(folder)))
    assert (folder / "stage3" / "manifest.json").read_bytes() == manifest
    assert "nothing to do" in (folder / "stage3" / "log.txt").read_text()
    with pytest.raises(UserError, match=r"settings.train.learning_rate: 0.002 -> 0.5"):
        main(given(command(folder, "train.learning_rate=0.5")))


@pytest.fixture(scope="module")
def on_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the classifier's network that was interrupted in its second epoch and then given the same command."""
    folder = tmp_path_factory.mktemp("on_classifier")
    stage1 = make_classifier_run(folder / "stage1", backbone={"name": "test_efficientnet", "feature_stage": 3})
    make_stage2_run(folder, num_train=9, num_test=3, inputs={"stage1": stage1})
    line = command(folder, "distillation.num_epochs=0", "backbone.source=classifier", "train.num_epochs=2")
    line += ["self_training.max_rounds=0", "export.formats=[onnx, openvino_fp32]", "num_workers=0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PseudoBoxTrainer, "validate", _stopped_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            main(given(line))
    main(given(line))
    return folder


_validate = PseudoBoxTrainer.validate


def _stopped_in_second_epoch(self: PseudoBoxTrainer) -> Any:
    if self.epoch == 1:
        raise KeyboardInterrupt
    return _validate(self)


def test_a_run_on_the_classifiers_network(on_classifier: Path):
    log = (on_classifier / "stage3" / "log.txt").read_text()
    assert "the training resumes after epoch 1" in log and "16 bits" not in log
    run = open_run(on_classifier / "stage3", stage="stage3")
    done = open_run(on_classifier / "stage3" / "rounds" / "0", stage="stage3_round")
    assert done.manifest["inputs"]["start"]["sha256"] == sha256_of(run.output("weights_start"))
    for form in ("onnx", "openvino_fp32"):
        assert run.metrics[f"export/{form}/box_difference_px"] <= 1
        assert run.metrics[f"export/{form}/score_difference"] <= 1e-3
    bundle = json.loads((on_classifier / "stage3" / "export" / "bundle" / "bundle.json").read_text())
    assert "onnx" in {engine["format"] for engine in bundle["engines"]}
    assert "the stage 1 classifier's network" in run.output("model_card").read_text()


def test_the_network_of_such_a_run_learned_and_its_first_stages_did_not(on_classifier: Path):
    run = open_run(on_classifier / "stage3", stage="stage3")
    before, after = (
        read_network(run.output(name), what="", advice="")[0].half().state_dict()
        for name in ("weights_start", "weights")
    )
    assert before.keys() == after.keys()
    own = {name for name in before if name.startswith("model.0.network.")}
    changed = {name for name in own if not torch.equal(before[name], after[name])}
    assert {name.split(".")[5] for name in changed if ".blocks." in name} == {"2", "3"}
    assert all(".blocks." in name for name in changed)


def test_builder_is_deterministic(tmp_path: Path):
    first, second = (make_coco(tmp_path / name, "x", num_images=4, seed=3) for name in "ab")
    assert first.boxes.equals(second.boxes)
