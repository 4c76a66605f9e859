"""`predict.py` as a user calls it: files and folders in, COCO JSON and pictures out; nothing is lost or overwritten."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cxr.cli import EXIT_USER, exit_code
from cxr.coco import CocoBoxes, boxes_table, read_coco, write_coco
from cxr.config import UserError
from cxr.imaging.files import cut_region, read_image, write_png8
from cxr.runs.run_folder import FinishedRun, open_run
from cxr.wording import counted
from eval.detection.points import OperatingPoint
from eval.drift.records import read_records
from eval.report.captions import place_plate
from stage3_detect.export.formats import open_predictor, preferred_format
from stage3_detect.image_quality.verdict import SENTENCES, GateMode, Quality
from stage3_detect.model.boxes import detect
from stage3_detect.model.predictor import BoxPredictor, FoundBox, boxes_in_whole
from stage3_detect.model.torch_network import TorchNetwork
from stage3_detect.predict import main, parse
from stage3_detect.prediction.call import Call
from stage3_detect.prediction.coco_stream import BoxLines, write_stream
from stage3_detect.prediction.files import note_of, predict_files
from stage3_detect.prediction.points import open_point, remark, words_of
from stage3_detect.prediction.render import MAX_SIDE_PX, MIN_SIDE_PX, caption, render_found
from stage3_detect.settings.detector import PredictSettings
from tests.builders import write_picture
from tests.crashing import DEADLY, crash_decoder, exit_code_of
from tests.cxr.imaging.image_files import dicom
from tests.paths import ROOT
from tests.stage3_detect.prediction.run_builders import make_stage3_run
from tests.stage3_detect.stage3_builders import FINDINGS, draw_image


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stage3_run(tmp_path_factory.mktemp("runs") / "stage3")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three readable pictures, two of one name in two folders, a DICOM without ending, and what is no image."""
    folder = tmp_path / "scans"
    picture, _ = draw_image(np.random.default_rng(0), num_boxes=2)
    for name in ("a/x.png", "b/x.png"):
        (folder / name).parent.mkdir(parents=True)
        write_png8(folder / name, picture)
    write_picture(folder / "a" / "made.dicom", bright_xyxy=(5, 5, 30, 20))
    (folder / "a" / "made.dicom").rename(folder / "b" / "1.2.840.113")
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / "a" / ".x.png").write_bytes(b"")
    return folder


def test_operating_points_by_name_by_number_and_none(run: Path, tmp_path: Path):
    finished = open_run(run)
    assert open_point(finished.manifest, None).scores == dict(zip(FINDINGS, (0.3, 0.4), strict=True))
    assert words_of(open_point(finished.manifest, None)) == "operating point f1"
    assert open_point(finished.manifest, "0.7").scores == dict.fromkeys(FINDINGS, 0.7)
    assert words_of(open_point(finished.manifest, "0.7")) == "score 0.7"
    for wrong in ("f2", "1.5", "-1", "nan"):
        with pytest.raises(UserError, match=rf"--points {wrong}: expected one of f1, a score from 0 to 1"):
            open_point(finished.manifest, wrong)


def test_run_without_points_says_what_is_taken(tmp_path: Path):
    finished = open_run(make_stage3_run(tmp_path / "stage3", operating_points={}, score_curves={}))
    point = open_point(finished.manifest, None)
    assert point.scores == dict.fromkeys(FINDINGS, 0.25)
    expected_line = "the run has no operating points: boxes with a score of 0.25 or more are shown"
    assert (
        remark(finished.manifest, point, asked=False) == expected_line
        and remark(finished.manifest, point, asked=True) == ""
    )


def test_point_that_never_shows_a_finding_is_reported(tmp_path: Path):
    points = {"f1": {"about": "", "scores": {FINDINGS[0]: 0.3, FINDINGS[1]: None}}}
    finished = open_run(make_stage3_run(tmp_path / "stage3", operating_points=points))
    line = remark(finished.manifest, open_point(finished.manifest, None), asked=False)
    assert line.startswith("operating point f1 never shows Pleural Effusion:")


def boxes_of(run: FinishedRun, picture: np.ndarray) -> list[FoundBox]:
    return open_predictor(run).predict(picture, open_point(run.manifest, None))


def test_predictor_gives_the_detectors_boxes_with_confidence_and_point(run: Path):
    finished, (picture, _) = open_run(run), draw_image(np.random.default_rng(3), num_boxes=2)
    boxes = boxes_of(finished, picture)
    found = detect(picture, TorchNetwork(finished.output("weights")), PredictSettings())
    assert len(boxes) == len(found.scores) > 5
    np.testing.assert_array_equal([box.xyxy for box in boxes], found.xyxy)
    assert [box.score for box in boxes] == found.scores.tolist()
    np.testing.assert_allclose([box.confidence for box in boxes], found.scores, atol=1e-6)
    least = dict(zip(FINDINGS, (0.3, 0.4), strict=True))
    assert [box.shown for box in boxes] == [box.score >= least[box.finding] for box in boxes]


def test_predictor_without_curves_gives_no_confidence(tmp_path: Path):
    finished = open_run(make_stage3_run(tmp_path / "stage3", score_curves={}))
    boxes = boxes_of(finished, np.eye(40, 60, dtype=np.float32))
    assert boxes and {box.confidence for box in boxes} == {None}


def test_boxes_of_a_mirrored_half_lie_in_the_right_half():
    np.testing.assert_array_equal(
        boxes_in_whole(np.array([[0.0, 1, 10, 20]]), "right_mirrored", width=101), [[91, 1, 101, 20]]
    )
    same = np.array([[3.0, 1, 10, 20]])
    assert boxes_in_whole(same, "left", width=101) is same and boxes_in_whole(same, "full", width=101) is same


def test_run_of_halves_reads_both_halves(tmp_path: Path):
    finished = open_run(make_stage3_run(tmp_path / "stage3", regions=["left", "right_mirrored"]))
    picture, _ = draw_image(np.random.default_rng(5), num_boxes=2)
    boxes = boxes_of(finished, picture)
    network = TorchNetwork(finished.output("weights"))
    left = detect(cut_region(picture, "left"), network, PredictSettings()).xyxy
    right = detect(cut_region(picture, "right_mirrored"), network, PredictSettings()).xyxy
    expected = {*map(tuple, left), *((130 - x2, y1, 130 - x1, y2) for x1, y1, x2, y2 in right)}
    assert {box.xyxy for box in boxes} == expected and len(boxes) == len(left) + len(right)
    assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)


def found(finding: str, xyxy: tuple[float, ...], score: float, *, shown: bool = True) -> FoundBox:
    return FoundBox(finding, xyxy, score, None if score > 0.8 else 0.5 * score, shown)


def test_stream_of_no_image_is_coco(tmp_path: Path):
    totals = write_stream(
        tmp_path / "p.json", BoxLines(tmp_path / "lines", set()), findings=FINDINGS, info={"kind": "detections"}
    )
    coco = read_coco(tmp_path / "p.json")
    assert (len(coco.images), len(coco.boxes), coco.findings) == (0, 0, FINDINGS) and totals.num_images == 0


def test_stream_is_what_write_coco_writes(tmp_path: Path):
    lines = BoxLines(tmp_path / "lines", {"a/x", "b/x"})
    entry = {"file_name": "a/x.png", "width": 130, "height": 90, "image_id": "a/x"}
    lines.add(entry, [found(FINDINGS[1], (1.5, 2, 30, 40), 0.9), found(FINDINGS[0], (0, 0, 9, 9), 0.2, shown=False)])
    lines.add(entry | {"image_id": "b/x", "file_name": "b/x.png"}, [])
    totals = write_stream(tmp_path / "stream.json", lines, findings=FINDINGS, info={"data_root": "."})
    assert (totals.num_images, totals.num_boxes, totals.num_shown, totals.num_images_shown) == (2, 2, 1, 1)
    streamed = read_coco(tmp_path / "stream.json")
    rows = [("a/x", FINDINGS[1], 1.5, 2, 30, 40, 0.9), ("a/x", FINDINGS[0], 0, 0, 9, 9, 0.2)]
    boxes = boxes_table(rows).assign(confidence=[np.nan, 0.1])
    write_coco(tmp_path / "whole.json", CocoBoxes(streamed.images, boxes, FINDINGS, {"data_root": "."}))
    stream, whole = (json.loads((tmp_path / name).read_text()) for name in ("stream.json", "whole.json"))
    assert [box.pop("shown") for box in stream["annotations"]] == [True, False]
    assert stream == whole
    assert not list(tmp_path.glob(".*"))


def test_cut_line_is_dropped_and_the_rest_kept(tmp_path: Path):
    lines = BoxLines(tmp_path / "lines", {"a", "b"})
    for name in ("a", "b"):
        lines.add({"file_name": name, "width": 3, "height": 2, "image_id": name}, [])
    whole = (tmp_path / "lines").read_bytes()
    (tmp_path / "lines").write_bytes(whole[:-5])
    again = BoxLines(tmp_path / "lines", {"a", "b"})
    assert again.done == {"a"} and [line["image"]["image_id"] for line in again] == ["a"]
    again.add({"file_name": "b", "width": 3, "height": 2, "image_id": "b"}, [])
    assert (tmp_path / "lines").read_bytes() == whole


@pytest.mark.parametrize(("size_hw", "drawn_hw"), [((48, 64), (480, 640)), ((2560, 1280), (1280, 640))])
def test_pictures_are_drawn_at_a_size_with_room(size_hw: tuple[int, int], drawn_hw: tuple[int, int]):
    drawn = render_found(np.eye(*size_hw, dtype=np.float32), [], FINDINGS, note="note")
    assert drawn[: drawn_hw[0]].shape == (*drawn_hw, 3) and drawn.shape[0] > drawn_hw[0]
    assert MIN_SIDE_PX <= max(drawn_hw) <= MAX_SIDE_PX


def test_only_shown_boxes_are_drawn_where_they_are():
    image = np.zeros((480, 640), dtype=np.float32)
    hidden = found(FINDINGS[0], (10, 10, 200, 200), 0.1, shown=False)
    shown = found(FINDINGS[1], (300, 100, 500, 400), 0.9)
    plain = render_found(image, [hidden], FINDINGS, note="n")
    assert not plain[:480].any()
    drawn = render_found(image, [hidden, shown], FINDINGS, note="n")[:480]
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (columns.min(), columns.max()) == pytest.approx((300, 500), abs=3)
    assert rows.max() == pytest.approx(400, abs=3) and 60 < rows.min() < 100  # the caption lies above
    assert drawn[250, 300].any() and not drawn[250, 400].any()


@pytest.mark.parametrize("mode", ["abstain", "warn"])
def test_the_note_says_the_result_or_why_there_is_none(mode: GateMode):
    point, remarks = OperatingPoint("f1", "", {}), ["synthetic", "research"]
    assert note_of(Quality.of([]), 2, point, remarks) == "2 boxes at or above operating point f1 · synthetic · research"
    note = note_of(Quality.of(["unlike"], mode), 2, point, remarks)
    assert note.startswith("Not analysed: the image is unlike" if mode == "abstain" else "2 boxes at or above")
    assert note.endswith(" · synthetic · research") and SENTENCES["unlike"][1:] in note


def test_captions_say_the_chance_or_the_bare_score():
    assert caption(FoundBox("Edema", (0, 0, 1, 1), 0.3, 0.456, True)) == "Edema 46 %"
    assert caption(FoundBox("Edema", (0, 0, 1, 1), 0.3, None, True)) == "Edema 0.30"
    assert caption(FoundBox("Edema", (0, 0, 1, 1), 0.3, 0.0099, True)) == "Edema <1 %"
    assert caption(FoundBox("Edema", (0, 0, 1, 1), 0.009, None, True)) == "Edema <0.01"


def test_captions_stay_in_the_picture_and_off_each_other():
    size_wh, plate_wh = (200, 100), (80, 20)
    boxes = [(0, 0, 60, 40), (0, 0, 60, 41), (150, 80, 199, 99), (0, 0, 199, 99), (150, 0, 199, 99)]
    taken: list[tuple[int, int, int, int]] = []
    for box in boxes:
        taken.append(place_plate(box, plate_wh, size_wh, taken))
    assert taken[0] == (0, 41, 80, 61)  # no room above: below
    assert taken[2] == (120, 60, 200, 80)
    cover = np.zeros((100, 200), dtype=int)
    for x1, y1, x2, y2 in taken:
        assert 0 <= x1 < x2 <= 200 and 0 <= y1 < y2 <= 100
        cover[y1:y2, x1:x2] += 1
    assert cover.max() == 1


@pytest.mark.parametrize("inside", ["", "out"])
def test_nothing_is_written_among_the_images(run: Path, scans: Path, inside: str):
    with pytest.raises(UserError, match="lies among the images"):
        predict_files(Call(run, (scans,), out=scans / inside))
    assert not (scans / "out").exists()


def test_a_format_that_was_not_exported_is_an_error(run: Path, scans: Path, tmp_path: Path):
    with pytest.raises(UserError, match="pytorch"):
        predict_files(Call(run, (scans,), out=tmp_path / "out", format="onnx"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("exported", "device", "expected"),
    [
        ((), "cpu", "pytorch"),
        (("openvino_int8", "openvino_fp16", "tensorrt_fp16"), "cpu", "openvino_fp16"),
        (("onnx", "openvino_int8"), "cpu", "onnx"),
        (("tensorrt_fp16",), "cpu", "pytorch"),
        (("onnx", "openvino_fp32"), "cpu", "openvino_fp32"),
        (("onnx", "openvino_fp32"), "0", "pytorch"),
        (("onnx", "openvino_fp32"), "mps", "pytorch"),
    ],
)
def test_the_fastest_format_that_passed_its_checks_is_preferred_on_a_cpu(
    run: Path, exported: tuple[str, ...], device: str, expected: str
):
    finished = open_run(run)
    outputs: dict[str, object] = {name: {} for name in ("weights", *exported)}
    speeds = {"onnx": 3.0, "openvino_int8": 1.0, "openvino_fp16": 2.0, "openvino_fp32": 2.5, "tensorrt_fp16": 0.5}
    manifest = finished.manifest | {"outputs": outputs, "export_warnings": {"openvino_int8": "AP40 falls"}}
    metrics = {f"ms_per_image/detector_{name}": value for name, value in speeds.items()}
    given = replace(finished, manifest=manifest, metrics=metrics)
    assert preferred_format(given, device=device) == expected


def test_no_patient_name_in_what_predict_writes(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Readable and damaged files of a made-up patient, with names in all elements for them, PNG text among them."""
    scans, name = tmp_path / "scans", "Zzyzx"
    scans.mkdir()
    patient = {"PatientName": f"{name}^Anna", "PatientID": f"{name}1", "InstitutionName": f"{name} Clinic"}
    good = dicom(np.arange(4096, dtype=np.uint16).reshape(64, 64)[:48], **patient)
    broken = (good[:-200], good[:400], good.replace(b"MONOCHROME2", b"COLOURED   "), good.replace(b"PN", b"XX"))
    for number, content in enumerate((good, *broken)):
        assert name.encode() in content
        (scans / f"{number}.dcm").write_bytes(content)
    text = PngInfo()
    text.add_text("Patient", f"{name}^Anna")
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(32, 128)).save(scans / "text.png", pnginfo=text)
    assert name.encode() in (scans / "text.png").read_bytes()
    out = tmp_path / "out"
    with pytest.raises(UserError) as caught:
        predict_files(Call(run, (scans,), out=out, points="0.0"))
    assert open_run(out).metrics["images"] == 3
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    shown = "".join([str(caught.value), *capfd.readouterr()])
    assert b"0.dcm" in written and "2.dcm" in shown
    assert name.lower().encode() not in written.lower() and name.lower() not in shown.lower()


def test_device_that_is_not_there_is_reported_and_nothing_written(run: Path, scans: Path, tmp_path: Path):
    with pytest.raises(UserError, match="device: 99, but"):
        predict_files(Call(run, (scans,), out=tmp_path / "out", device="99"))
    assert not (tmp_path / "out").exists()


def test_all_files_are_read_written_and_drawn(run: Path, scans: Path, tmp_path: Path):
    out = tmp_path / "out"
    summary = predict_files(Call(run, (scans,), out=out, points="0.3", quality_gate="off"))
    coco = read_coco(out / "predictions.json")
    assert list(coco.images["image_id"]) == ["a/x", "b/1.2.840.113", "b/x"]
    assert coco.images[["width", "height"]].to_numpy().tolist() == [[130, 90], [60, 40], [130, 90]]
    assert coco.info["data_root"] == str(scans) and coco.info["made_by"]["point"] == "0.3"
    assert coco.info["learned_from"] == "synthetic pictures"
    finished = open_run(run)
    network = TorchNetwork(finished.output("weights"))
    for row in coco.images.to_dict("records"):
        found = detect(read_image(scans / row["path"]), network, PredictSettings())
        own = coco.boxes[coco.boxes["image_id"] == row["image_id"]]
        np.testing.assert_allclose(own[["x1", "y1", "x2", "y2"]], found.xyxy, atol=1e-3)
        picture = cv2.imread(str(out / "pictures" / f"{row['image_id']}.png"))
        assert picture is not None and picture.shape[1] == 640
    num_shown = int((coco.boxes["score"] >= 0.3).sum())
    with_shown = coco.boxes.loc[coco.boxes["score"] >= 0.3, "image_id"].nunique()
    where = f", in {counted(with_shown, 'image')}" if num_shown else ""
    assert summary == (
        f"3 images: {counted(num_shown, 'box')} from score 0.3 on{where} "
        f"({len(coco.boxes)} boxes of any score); 2 other files (a/.x.png, a/notes.txt) -> {out / 'predictions.json'}"
    )
    assert not list(out.glob("*partial*"))


def test_unsuitable_images_are_counted_and_show_no_box(run: Path, scans: Path, tmp_path: Path):
    """The pictures are small, and one has two grey values."""
    summary = predict_files(Call(run, (scans,), out=tmp_path / "out", points="0.0", pictures=False))
    assert "3 images unsuitable (3 small, 1 no_contrast), no box shown on them" in summary
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert "3 images: no boxes from score 0.0 on (" in summary
    quality = [image["quality"] for image in content["images"]]
    assert [one["codes"] for one in quality] == [["small"], ["small", "no_contrast"], ["small"]]
    assert quality[1]["reasons"] == [SENTENCES["small"], SENTENCES["no_contrast"]]
    assert [(one["ok"], one["abstained"]) for one in quality] == [(False, True)] * 3
    assert content["annotations"]
    assert not any(box["shown"] for box in content["annotations"])
    records = read_records(tmp_path / "out", option="--current")
    assert records.values["refused"].tolist() == [1, 1, 1]
    assert records.values["width_px"].tolist() == [130, 60, 130]
    warned = predict_files(
        Call(run, (scans,), out=tmp_path / "warned", points="0.0", pictures=False, quality_gate="warn")
    )
    assert "3 images unsuitable (3 small, 1 no_contrast);" in warned
    shown = json.loads((tmp_path / "warned" / "predictions.json").read_text())["annotations"]
    assert all(box["shown"] for box in shown)


def test_a_file_whose_name_is_not_utf8_is_read_and_drawn(run: Path, scans: Path, tmp_path: Path):
    name = os.fsdecode(b"\xff")
    (scans / "a" / "x.png").rename(scans / "a" / f"{name}.png")
    summary = predict_files(Call(run, (scans / "a",), out=tmp_path / "out"))
    assert summary.startswith("1 image: ")
    assert list(read_coco(tmp_path / "out" / "predictions.json").images["image_id"]) == [name]
    assert [path.name for path in (tmp_path / "out" / "pictures").iterdir()] == [f"{name}.png"]


def test_call_that_was_interrupted_goes_on(run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The interrupt comes while the last image is read; the second call reads that one alone."""
    out, call = tmp_path / "out", Call(run, (scans,), out=tmp_path / "out", pictures=False)
    read: list[Path] = []
    real = BoxPredictor.predict

    def interrupted(predictor: BoxPredictor, image: np.ndarray, point: OperatingPoint) -> list[FoundBox]:
        read.append(out)
        if len(read) == 3:
            raise KeyboardInterrupt
        return real(predictor, image, point)

    monkeypatch.setattr(BoxPredictor, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(call)
    assert not (out / "predictions.json").exists() and not (out / "manifest.json").exists()
    read.append(out)  # from here on nothing is interrupted
    predict_files(call)
    assert len(read) == 5
    again = read_coco(out / "predictions.json")
    monkeypatch.setattr(BoxPredictor, "predict", real)
    predict_files(Call(run, (scans,), out=tmp_path / "fresh", pictures=False))
    assert again.boxes.equals(read_coco(tmp_path / "fresh" / "predictions.json").boxes)
    assert not (out / "pictures").exists()


@pytest.fixture
def bad(scans: Path) -> list[Path]:
    """Files among the scans that cannot be read, in the order of their names."""
    made = [scans / "a" / "bad.png", scans / "b" / "empty.dcm", scans / "b" / "half.jpg"]
    made[0].write_bytes(b"no picture")
    made[1].write_bytes(b"")
    assert cv2.imwrite(str(made[2]), np.random.default_rng(0).integers(0, 255, (300, 200), dtype=np.uint8))
    made[2].write_bytes(made[2].read_bytes()[:-3000])
    return made


def test_unreadable_files_are_all_named_and_the_others_written(
    run: Path, scans: Path, bad: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    given = parse([str(run), str(scans), "--out", str(out), "--no-pictures"])
    assert exit_code(lambda: main(given)) == EXIT_USER
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert printed.out == ""
    assert [sum(str(path) in line for line in lines) for path in bad] == [1, 1, 1]
    assert len(lines) == 4 and "not all files could be read. 3 images:" in lines[3]
    assert len(read_coco(out / "predictions.json").images) == 3


def test_unreadable_files_are_excluded_on_request_and_named(
    run: Path, scans: Path, bad: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    summary = predict_files(Call(run, (scans,), out=tmp_path / "out", pictures=False, on_problem="exclude"))
    assert "; 3 unreadable files excluded; 2 other files (" in summary
    left_out = [record.getMessage() for record in caplog.records if "excluded: " in record.getMessage()]
    assert [str(path) in line for path, line in zip(bad, left_out, strict=True)] == [True] * 3


def test_an_image_that_crashes_its_decoder_is_unreadable_in_the_next_call(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with (scans / "b" / "x.png").open("ab") as file:
        file.write(DEADLY)
    crash_decoder(monkeypatch)
    call = Call(run, (scans,), out=tmp_path / "out", pictures=False)
    assert exit_code_of(lambda: predict_files(call)) == -signal.SIGSEGV
    with pytest.raises(UserError) as caught:
        predict_files(call)
    assert str(scans / "b" / "x.png") in caught.value.problems[0]
    assert len(read_coco(tmp_path / "out" / "predictions.json").images) == 2


def test_no_readable_file_is_an_error_even_when_excluded(run: Path, tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot decode"):
        predict_files(Call(run, (tmp_path / "bad.png",), out=tmp_path / "out", on_problem="exclude"))


def test_ctrl_c_leaves_no_file_that_looks_whole(run: Path, tmp_path: Path):
    for index in range(50):
        write_picture(tmp_path / "many" / f"{index:03d}.png", (600, 700))
    out = tmp_path / "out"
    # a test that was started in the background inherits that Ctrl-C is ignored
    listen = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start = "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [ROOT / "stage3_detect" / "predict.py", run, tmp_path / "many", "--out", out]
    script = [sys.executable, "-c", listen + start, *map(str, words)]
    process = subprocess.Popen(script, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (out / "predictions.partial.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and b"interrupted: " in errors
    assert not (out / "predictions.json").exists() and not (out / "manifest.json").exists()
