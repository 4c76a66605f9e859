"""`predict.py --dicom`: results of DICOM files, and why others have none."""

import json
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from cxr.coco import read_coco
from cxr.config import UserError
from cxr.imaging.files import write_png8
from cxr.runs.provenance import sha256_of
from stage3_detect.dicom_results.make import PICTURE, PRESENTATION, REPORT
from stage3_detect.prediction.call import Call
from stage3_detect.prediction.files import predict_files
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, dicom_bytes, pixels, texts
from tests.stage3_detect.dicom_results.viewer_rules import ohif_edits, stone_shows
from tests.stage3_detect.prediction.run_builders import make_stage3_run, write_settled_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stage3_run(tmp_path_factory.mktemp("runs") / "stage3", write=write_settled_weights)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "scans" / "a").mkdir(parents=True)
    (tmp_path / "scans" / "a" / "one.dcm").write_bytes(dicom_bytes())
    return tmp_path / "scans"


def call(run: Path, scans: Path, **changes: object) -> Call:
    return Call(run, (scans,), out=scans.parent / "out", dicom=scans.parent / "dicom", pictures=False, **changes)  # type: ignore[arg-type]


def test_each_dicom_file_has_a_folder_of_results(run: Path, scans: Path):
    predict_files(call(run, scans))
    folder = scans.parent / "dicom" / "a" / "one"
    assert sorted(path.name for path in folder.iterdir()) == sorted([REPORT, PRESENTATION, PICTURE])
    report = pydicom.dcmread(BytesIO((folder / REPORT).read_bytes()))
    boxes = json.loads((scans.parent / "out" / "predictions.json").read_text())["annotations"]
    shown = [box for box in boxes if box["shown"]]
    assert len(ohif_edits(report)) == len(stone_shows(report)) == len(shown) > 0
    assert {image for image, _ in stone_shows(report)} == {IMAGE}
    assert f"manifest SHA-256 {sha256_of(run / 'manifest.json')}" in " ".join(texts(report))


def test_files_without_results_are_named_and_still_have_their_boxes(run: Path, scans: Path):
    write_png8(scans / "b.png", pixels())
    (scans / "c.dcm").write_bytes(dicom_bytes(SeriesInstanceUID=None))
    with pytest.raises(UserError) as caught:
        predict_files(call(run, scans))
    assert len(caught.value.problems) == 3
    assert "b.png is not DICOM" in caught.value.problems[0]
    assert "c.dcm has no SeriesInstanceUID" in caught.value.problems[1]
    assert "not all files have DICOM results" in caught.value.problems[2]
    assert "3 images" in caught.value.problems[2] and "2 images without DICOM results" in caught.value.problems[2]
    assert len(read_coco(scans.parent / "out" / "predictions.json").images) == 3
    assert [path.name for path in (scans.parent / "dicom").iterdir()] == ["a"]


def test_a_folder_among_the_images_is_refused(run: Path, scans: Path):
    with pytest.raises(UserError, match="--dicom"):
        predict_files(Call(run, (scans,), out=scans.parent / "out", dicom=scans / "dicom"))
