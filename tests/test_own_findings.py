"""Two findings that do not ship, with a tree of their own, from a hospital's table to DICOM results."""

import json
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import yaml

from cxr.cli import StageArguments
from cxr.coco import read_coco
from cxr.labels.codes import codes_of, codes_of_json
from cxr.runs.label_files import FILE_NAME, terms_of
from cxr.runs.run_folder import FinishedRun, open_run
from stage1_classify import run as stage1
from stage1_classify.model.loading import load_trained
from stage2_pseudolabel import run as stage2
from stage3_detect import run as stage3
from stage3_detect.dicom_results.make import REPORT
from stage3_detect.dicom_results.read_report import read_report
from stage3_detect.prediction.call import Call
from stage3_detect.prediction.files import predict_files
from stage3_detect.serving.model.bundle_model import open_model
from tests.builders import write_picture, write_rows
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, dicom_bytes
from tests.test_pipeline import STAGE3

BULLA, DRAIN, AIR = "Bulle pleurale", "Drain d'aspiration", "Épanchement gazeux"
pytestmark = pytest.mark.slow

LABEL_FILE = {
    AIR: None,
    BULLA: {"parent": AIR, "synonyms": ["bulle"], "code": {"value": "B1", "scheme": "99HOP", "meaning": "Bulle d'air"}},
    DRAIN: {},
}


def write_hospital(root: Path) -> None:
    """Images with a bulla (left) or a drain (right); one table for all, a second one for those with boxes."""
    for part, num_images in (("train", 24), ("boxes", 16)):
        rows, marks = [], []
        for index in range(num_images):
            name = f"{part}/cliché{index:02d}.png"
            bulla, drain = index % 2, int(index % 4 == 0)
            box = (4, 5, 26, 22) if bulla else (36, 22, 57, 38) if drain else None
            write_picture(root / name, bright_xyxy=box)
            rows.append((name, f"{part}{index}", bulla, drain))
            if box is not None:
                marks.append((name, "bulle" if bulla else "drain", *box))
        write_rows(root / f"{part}.csv", ("image", "patient", "bulle", "drain"), rows)
        write_rows(root / f"{part}_marks.csv", ("image", "label", "x1", "y1", "x2", "y2"), marks)


def write_settings(folder: Path) -> None:
    columns = {"image": "image", "patient": "patient"}
    data = {"dataset": "csv_table", "root": str(folder / "data"), "columns": columns}
    data |= {"findings": {"bulle": "bulle", "drain": DRAIN}}
    marks = {name: name for name in ("image", "x1", "y1", "x2", "y2")} | {"finding": "label"}
    augment = ("affine", "contrast", "flip", "grid", "elastic", "erase")
    settings = {
        "stage1": {
            "data": {**data, "table": "train.csv"},
            "label_file": str(folder / "labels.yaml"),
            "split": {"kind": "patients", "fractions": {"train": 0.6, "val": 0.2, "test": 0.2}},
            "findings": [AIR, BULLA, DRAIN],
            "hierarchy": {"enabled": True},
            "backbone": {"name": "test_convnext", "feature_stage": 1},
            "input": {"size_hw": [32, 48], "cache_dir": None},
            "augment": {f"{name}_probability": 0 for name in augment},
            "optimizer": {"learning_rate": 0.003},
            "train": {"num_epochs": 2, "batch_size": 8, "min_positives": 1},
        },
        "stage2": {
            "data": {**data, "table": "boxes.csv", "boxes": {"table": "boxes_marks.csv", **marks}},
            "split": {"kind": "patients", "fractions": {"tune": 0.5, "test": 0.5}},
            "methods": ["pcam"],
            "pseudo_labels": {"min_likelihood_ratio": 0.0},
            "num_resamples": 20,
        },
        "stage3": STAGE3,
    }
    (folder / "labels.yaml").write_text(yaml.safe_dump({"findings": LABEL_FILE}, allow_unicode=True), encoding="utf-8")
    for stage, values in settings.items():
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[FinishedRun]:
    """The finished runs of the three stages. The label file is gone after the first one."""
    folder = tmp_path_factory.mktemp("hospital")
    write_hospital(folder / "data")
    write_settings(folder)
    for number, stage in enumerate((stage1, stage2, stage3), start=1):
        sources = (folder / f"stage{number - 1}",) if number > 1 else ()
        stage.main(StageArguments(folder / f"stage{number}.yaml", folder / f"stage{number}", sources, ()))
        (folder / "labels.yaml").unlink(missing_ok=True)
    return [open_run(folder / f"stage{number}") for number in (1, 2, 3)]


def test_each_run_keeps_the_label_file(runs: list[FinishedRun]) -> None:
    texts = {(run.dir / FILE_NAME).read_bytes() for run in runs}
    assert len(texts) == 1
    assert [terms_of(run).parents[BULLA] for run in runs] == [AIR] * 3


def test_figures_and_reports_have_the_names(runs: list[FinishedRun]) -> None:
    for name in ("bulle_pleurale", "drain_d_aspiration", "epanchement_gazeux"):
        assert f"auroc/{name}" in runs[0].metrics
    for run in runs:
        page = run.output("report").read_text(encoding="utf-8")
        assert BULLA in page
    assert AIR in runs[0].output("report").read_text(encoding="utf-8")


def test_the_tree_of_the_file_is_the_classifiers(runs: list[FinishedRun]) -> None:
    trained = load_trained(runs[0].dir)
    assert trained.members[0].probabilities.hierarchy.parent_of == (-1, 0, -1)


def test_boxes_have_the_names_and_an_own_parent_has_its_childrens(runs: list[FinishedRun]) -> None:
    truth = read_coco(runs[1].output("gt_test"))
    assert truth.findings == (AIR, BULLA, DRAIN)
    counts = truth.boxes["finding"].value_counts()
    assert counts[AIR] == counts[BULLA] > 0
    assert set(read_coco(runs[2].output("detections_detector")).findings) == {AIR, BULLA, DRAIN}


def test_the_service_knows_parents_and_codes(runs: list[FinishedRun]) -> None:
    facts = open_model(runs[2].dir).facts
    assert facts.findings == (AIR, BULLA, DRAIN)
    assert facts.parents[BULLA] == (AIR,)
    assert facts.codes == {BULLA: (("B1", "99HOP", "Bulle d'air"), None)}
    manifest = json.loads((runs[2].dir / "export/bundle/bundle.json").read_text(encoding="utf-8"))
    assert codes_of_json(manifest["codes"]) == facts.codes


def test_dicom_results_have_own_and_private_codes(runs: list[FinishedRun], tmp_path: Path) -> None:
    """The points show boxes of all findings."""
    (tmp_path / "scan.dcm").write_bytes(dicom_bytes())
    call = Call(runs[2].dir, (tmp_path / "scan.dcm",), tmp_path / "out", pictures=False, dicom=tmp_path / "dicom")
    predict_files(Call(**{**call.__dict__, "points": "0.0"}))
    data = (tmp_path / "dicom" / "scan" / REPORT).read_bytes()
    codes = terms_of(runs[2]).codes
    report = read_report(data, "report", (AIR, BULLA, DRAIN), codes)
    assert report is not None
    found = {box.finding for box in report.boxes[IMAGE]}
    assert found
    known = {code.finding for code in codes_of((AIR, BULLA, DRAIN), codes).values()}
    assert {tuple(code) for code in coded_findings(data)} <= known


def coded_findings(data: bytes) -> set[tuple[str, str, str]]:
    """Value, scheme and meaning of the findings of a report."""
    found = set()
    for element in pydicom.dcmread(BytesIO(data)).iterall():
        if element.keyword == "ContentSequence":
            for item in element.value:
                name = item.get("ConceptNameCodeSequence")
                if name and name[0].CodeValue == "121071":
                    code = item.ConceptCodeSequence[0]
                    found.add((code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning))
    return found
