"""Files that this program wrote and reads again, after somebody edited them: one clear error, or what they hold."""

import copy
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cxr.config import Settings, UserError
from cxr.imaging.listing import ImageFile
from cxr.json_lines import JsonLines
from cxr.own_json import check_shape, read_if_whole
from cxr.runs.cluster import _exit_code_in
from cxr.runs.run_folder import Run, open_run, start_run
from cxr.tracking import read_log
from eval.report.blocks import read_report
from stage1_classify.evaluation.prediction_lines import line_shape, predicted_images
from stage1_classify.experiments.sweep_work import kept_figure
from stage1_classify.reports.records import RecordFile
from stage1_classify.reports.report_table import Report
from stage1_classify.training.computation import _recorded
from stage3_detect.export.formats import _Made
from stage3_detect.labels.yolo_folder import _Facts
from stage3_detect.prediction.coco_stream import BoxLines, finished_lines, write_stream
from stage3_detect.serving.corrections.log import RecordLog, read_records
from stage3_detect.serving.dicom.examination import _Examined
from stage3_detect.serving.dicom.store import FILE_NAME, DicomQueue

EVIDENCE = {
    "finding": "Edema", "verdict": "present", "reason": "", "sentence": "Edema.", "begin": 0, "stop": 5, "cue": "",
    "cue_begin": None, "places": [["L", "upper"]], "marks": [],
}  # fmt: skip
BOX = {"finding": "Edema", "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0, "score": 0.5, "shown": True, "confidence": 0.25}
QUALITY = {
    "ok": False, "reasons": ["The image is dark."], "codes": ["dark"], "abstained": True, "statistics": {"mean": 0.5},
    "features": [0.5], "gate": "g",
}  # fmt: skip
IMAGE = {"file_name": "a.png", "image_id": "a", "width": 30, "height": 40, "quality": QUALITY}
FOUND = {"finding": "Edema", "xyxy": [1.0, 2.0, 4.0, 6.0], "score": 0.5, "confidence": None, "shown": True}
FACTS = ("positives", "normals", "uncertain", "left_out", "true", "boxes", "regions", "held_out")
MANIFEST = {
    "format": 2, "stage": "stage1", "settings": {"seed": 1}, "outputs": {}, "metrics": {"auroc/mean": 0.5},
    "inputs": {"stage1": {"path": "../a", "sha256": "0"}}, "phases": {"training": {"seconds": 1.0}},
    "findings": ["Edema"], "best_epoch": 3, "unreadable": [["a.png", "damaged"]],
}  # fmt: skip


class Own(Settings):
    seed: int = 1


def _manifest(path: Path) -> Any:
    run = open_run(path.parent)
    return [run.manifest[key] for key in MANIFEST], run.settings["seed"]


def _boxes(path: Path) -> Any:
    lines = BoxLines(path, {"a"})
    return write_stream(path.with_name("predictions.json"), lines, findings=["Edema"], info={})


def _records(path: Path) -> Any:
    records = RecordFile(path)
    records.check([Report("a", "Edema.", None)])
    return list(records)


def _predictions(path: Path) -> Any:
    lines = JsonLines(path, line_shape(2))
    return predicted_images(lines, [ImageFile(path, "a.png", "a")])


READERS: dict[str, tuple[str, dict[str, Any], Callable[[Path], Any]]] = {
    "manifest": ("manifest.json", MANIFEST, _manifest),
    "computation": (
        "computation.json",
        {"precision": "fp32", "memory_format": "contiguous"},
        lambda path: _recorded(Run(path.parent, "stage1", "resumed", Own(), {})),
    ),
    "predictions of stage 1": (
        "predictions.partial.jsonl", {"image_id": "a", "file": "a.png", "probabilities": [0.5, 0.25]}, _predictions,
    ),
    "predictions of stage 3": (
        "predictions.partial.jsonl", {"image": IMAGE, "boxes": [BOX]}, lambda path: BoxLines(path, {"a"}).done,
    ),
    "report labels": (
        "records.partial.jsonl",
        {"report_id": "a", "language": "en", "labels": {"Edema": 1}, "places": {"Edema": [["L", ""]]}, "remarks": ["x"],
         "evidence": [EVIDENCE]},
        _records,
    ),
    "figures of a training": ("metrics.jsonl", {"step": 1, "loss": 0.5}, lambda path: read_log(path.parent)),
    "report": (
        "report.json",
        {"format": 1, "title": "t", "lead": "l", "synthetic": False,
         "blocks": [{"kind": "text", "title": "t", "body": "b"}, {"kind": "table", "title": "t", "columns": ["c"],
                    "rows": [[1]], "note": "", "highlight": None, "collapsed": False}]},
        lambda path: read_report(path.parent),
    ),
    "examination of the DICOM queue": (
        "row",
        {"header": {}, "display": {}, "boxes": [FOUND], "quality": {"ok": True, "reasons": [], "abstains": False}},
        lambda path: check_shape(json.loads(path.read_text()), _Examined, where=str(path), advice="x"),
    ),
    "record of an export": (
        "made_onnx.json",
        {"weights": "0", "files": {"onnx": "0"}, "metrics": {"ap": 0.5}},
        lambda path: check_shape(json.loads(path.read_text()), _Made, where=str(path), advice="x"),
    ),
    "counts of a training set": (
        "dataset.json",
        {**{f"num_{name}": 1 for name in FACTS}, "excluded": [["a", "damaged"]]},
        lambda path: check_shape(json.loads(path.read_text()), _Facts, where=str(path), advice="x"),
    ),
}  # fmt: skip
MAY_BE_MISSING = {"confidence", "quality", "abstains", "metrics", "loss", "body", "note", "highlight", "collapsed"}
"""Keys that earlier versions did not write, or that have a default."""


def edited(content: Any) -> Iterator[tuple[str, Any]]:
    """Each part of the content removed, and replaced by values of all types."""
    places = list(content.items()) if isinstance(content, dict) else list(enumerate(content))
    for key, value in places:
        without = copy.copy(content)
        del without[key]
        yield f"no {key}", without
        for other in (None, 7, 0.5, "x", True, [], {}, ["x"], {"x": "x"}, [[]]):
            changed = copy.copy(content)
            changed[key] = other
            yield f"{key}: {other!r}", changed
        if isinstance(value, dict | list):
            for name, inner in edited(value):
                changed = copy.copy(content)
                changed[key] = inner
                yield f"{key}.{name}", changed


@pytest.mark.parametrize("name", READERS)
def test_an_edited_file_is_named_or_read(tmp_path: Path, name: str) -> None:
    file, content, read = READERS[name]
    path = tmp_path / file
    path.write_text(json.dumps(content) + "\n")
    assert read(path) is not None
    num_refused = 0
    for change, other in edited(content):
        path.write_text(json.dumps(other) + "\n")
        try:
            read(path)
        except UserError as error:
            (problem,) = error.problems
            assert str(tmp_path) in problem and "\n" not in problem, change
            num_refused += 1
        else:
            assert not change.startswith("no ") or change.removeprefix("no ") in MAY_BE_MISSING, change
    assert num_refused > 10


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "\0", "[" * 100_000])
@pytest.mark.parametrize("name", [name for name, one in READERS.items() if one[0].endswith(("json", "partial.jsonl"))])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, name: str, text: str) -> None:
    file, _, read = READERS[name]
    if name in ("record of an export", "counts of a training set"):
        read = _whole
    (tmp_path / file).write_text(text + "\n")
    with pytest.raises(UserError) as refused:
        read(tmp_path / file)
    assert str(tmp_path / file) in str(refused.value)


def _whole(path: Path) -> None:
    """What can be made again is not an error, but as good as missing."""
    assert read_if_whole(path, shape=_Made) == {}
    raise UserError(str(path))


@pytest.mark.parametrize("change", [("a", "b"), ("a", "a")], ids=["a foreign image", "an image twice"])
def test_lines_of_another_call_are_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    one, other = ({"image_id": name, "file": "f", "probabilities": [0.5, 0.5]} for name in change)
    path = tmp_path / "lines"
    path.write_text(json.dumps(one) + "\n" + json.dumps(other) + "\n")
    with pytest.raises(UserError, match=r"lines: line 2: image '\w'"):
        _predictions(path)
    path.write_text("".join(json.dumps({"image": IMAGE | {"image_id": name}, "boxes": []}) + "\n" for name in change))
    for read in (lambda: BoxLines(path, {"a"}), lambda: finished_lines([path], {"a"})):
        with pytest.raises(UserError, match=r"lines: line 2: image '\w'"):
            read()


def test_records_of_other_reports_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "records"
    record = READERS["report labels"][1]
    path.write_text("".join(json.dumps(record | {"report_id": name}) + "\n" for name in ("a", "c")))
    reports = [Report(name, "", None) for name in ("a", "b")]
    with pytest.raises(UserError, match="line 2: got report 'c', expected 'b'"):
        RecordFile(path).check(reports)
    with pytest.raises(UserError, match="line 2: got report 'c', expected 'no further report'"):
        RecordFile(path).check(reports[:1])


def test_a_box_of_another_finding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text(json.dumps({"image": IMAGE, "boxes": [BOX | {"finding": "Fracture"}]}) + "\n")
    with pytest.raises(UserError, match="'Fracture'"):
        _boxes(path)
    assert not (tmp_path / "predictions.json").exists()


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": 3}, {"stage": 7}, {"inputs": []}])
def test_another_start_is_another_run(tmp_path: Path, change: dict[str, Any]) -> None:
    run = start_run(tmp_path / "run", stage="stage1", settings=Own(), inputs={})
    (run.dir / "last.ckpt").write_text("x")
    run.release()
    started = json.loads((run.dir / "started.json").read_text())
    (run.dir / "started.json").write_text(json.dumps(started | change))
    with pytest.raises(UserError, match="give another"):
        start_run(tmp_path / "run", stage="stage1", settings=Own(), inputs={})


def test_a_training_without_the_kept_epoch_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "val/auroc": 0.5}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: has no step 3"):
        kept_figure(open_run(tmp_path), "val/auroc")


@pytest.mark.parametrize("text", ["", "killed", "1.5"])
def test_the_exit_code_of_a_job_is_a_number(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.exit").write_text(text)
    with pytest.raises(UserError, match=r"a\.exit"):
        _exit_code_in(tmp_path / "a.exit")


@pytest.mark.parametrize("record", ['{"x": NaN}', "[" * 100_000, "{}", '{"record": [], "sha256": 1}'])
def test_an_edited_correction_is_named(tmp_path: Path, record: str) -> None:
    path = tmp_path / "readings.jsonl"
    log = RecordLog(path)
    log.append({"a": 1})
    log.close()
    with path.open("a") as file:
        file.write((f'{{"record": {record}, "sha256": "0"}}' if record.startswith('{"x') else record) + "\n")
    with pytest.raises(UserError, match="line 2"):
        read_records(path)


@pytest.mark.parametrize("schema", ["CREATE TABLE images (uid TEXT, study TEXT)", "CREATE TABLE outbox (id INTEGER)"])
def test_a_database_of_another_program_is_no_queue(tmp_path: Path, schema: str) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute(schema)
    with pytest.raises(UserError, match="DICOM queue"):
        DicomQueue(tmp_path)
