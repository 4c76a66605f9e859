"""The whole chain of a hospital that has images and reports: labels from reports, the three stages, boxes in the places
that the reports name."""

from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cxr.cli import StageArguments
from cxr.coco import read_coco
from cxr.datasets.phantom import PhantomSettings, generate
from cxr.labels import CHEXPERT_FINDINGS, NO_FINDING
from cxr.phantom.write import PLACES, RELEASE, REPORTS
from cxr.runs.run_folder import open_run
from stage1_classify import run as stage1
from stage1_classify.label_reports import main as label_reports
from stage1_classify.label_reports import parse
from stage2_pseudolabel import run as stage2
from stage3_detect import run as stage3
from tests.test_pipeline import DRAWING, STAGE1, STAGE3

FINDINGS = ["Pleural Effusion", "Lung Opacity"]
MARGIN = 0.05


def write_reports(data: Path, table: Path) -> None:
    """The phantom's reports as a hospital exports them: semicolons, own names, a patient and a view."""
    reports = pd.read_csv(data / REPORTS)
    reports["patient"] = reports["Path"].str.extract(r"(patient\d+)")
    reports["view"] = "frontal"
    columns = {"report_id": "Examen", "report": "Compte rendu", "Path": "image"}
    reports.rename(columns=columns).drop(columns="language").to_csv(table, sep=";", index=False)


def write_settings(folder: Path) -> None:
    augment = ("affine", "contrast", "flip", "grid", "elastic", "erase")
    columns = {name: name for name in ("image", "patient", "view")}
    reports = folder / "labels"
    places = {"sides": str(reports / "sides.csv"), "labels": str(reports / "labels.csv"), "image": "image"}
    settings = {
        "stage1": STAGE1
        | {
            "data": {
                "dataset": "csv_table",
                "root": str(folder / "data" / "chexpert"),
                "table": str(reports / "labels.csv"),
                "columns": columns,
                "findings": {name: name for name in FINDINGS},
            },
            "findings": FINDINGS,
            "input": {"size_hw": [48, 64], "cache_dir": None},
            "split": {"kind": "patients", "fractions": {"train": 0.6, "val": 0.2, "test": 0.2}},
            "augment": {f"{name}_probability": 0 for name in augment},
        },
        "stage2": {
            "data": {"dataset": "phantom", "part": "vindr", "root": str(folder / "data"), "generate": DRAWING},
            "split": {"kind": "official", "names": {"tune": "train", "test": "test"}},
            "readers": {"rule": "majority", "num_readers": 3},
            "methods": ["pcam"],
            "pseudo_labels": {"report_places": places | {"margin": MARGIN}},
            "max_faithfulness_pairs": 0,
            "num_resamples": 20,
        },
        "stage3": STAGE3,
    }
    for stage, values in settings.items():
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the phantom's images, its reports, the labels from them, and the runs of stages 1 and 2."""
    folder = tmp_path_factory.mktemp("hospital")
    data = generate(folder / "data", PhantomSettings(**DRAWING), part="chexpert")
    write_reports(data, folder / "reports.csv")
    write_settings(folder)
    columns = ["--columns", "report_id=Examen", "report=Compte rendu"]
    label_reports(parse([str(folder / "reports.csv"), "--out", str(folder / "labels"), *columns, "--workers", "1"]))
    stage1.main(StageArguments(folder / "stage1.yaml", folder / "stage1", (), ()))
    stage2.main(StageArguments(folder / "stage2.yaml", folder / "stage2", (folder / "stage1",), ()))
    return folder


def test_labels_are_those_that_the_reports_were_written_from(hospital: Path) -> None:
    labels = pd.read_csv(hospital / "labels" / "labels.csv").set_index("image")
    drawn = pd.read_csv(hospital / "data" / "chexpert" / RELEASE / "train.csv").set_index("Path").loc[labels.index]
    names = [name for name in CHEXPERT_FINDINGS if name in labels.columns and name != NO_FINDING]
    pd.testing.assert_frame_equal(labels[names], drawn[names], check_dtype=False, check_names=False)
    assert len(names) == 13
    assert all((labels[name] == 1).any() for name in FINDINGS)


def test_places_are_those_that_were_drawn(hospital: Path) -> None:
    """A report leaves out a place now and then, but does not name another one."""
    found = pd.read_csv(hospital / "labels" / "sides.csv", keep_default_na=False)
    drawn = pd.read_csv(hospital / "data" / "chexpert" / PLACES, keep_default_na=False)
    both = found.merge(drawn, on=["report_id", "finding"], suffixes=("", "_drawn"))
    named = both[both["side"] != ""]
    assert len(named) >= 10
    assert (named["side"] == named["side_drawn"]).mean() == 1


def _sides(labels: Path) -> dict[tuple[str, str], set[str]]:
    """(image, finding) -> the sides that its report names."""
    images = pd.read_csv(labels / "labels.csv")[["report_id", "image"]]
    sides = pd.read_csv(labels / "sides.csv", keep_default_na=False).merge(images, on="report_id")
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    for image, finding, side in zip(sides["image"], sides["finding"], sides["side"], strict=True):
        named[image, finding].add(side)
    return named


def test_pseudo_boxes_lie_where_the_reports_say(hospital: Path) -> None:
    exported = read_coco(open_run(hospital / "stage2").output("pseudo_labels"))
    sides = _sides(hospital / "labels")
    boxes = exported.boxes[exported.boxes["iscrowd"] == 0].merge(exported.images, on="image_id")
    centres = (boxes["x1"] + boxes["x2"]) / 2 / boxes["width"]
    checked = 0
    for path, finding, centre in zip(boxes["path"], boxes["finding"], centres, strict=True):
        named = sides.get((path, finding), set())
        if named == {"L"}:  # the patient's left is on the right of the image
            assert centre >= 0.5 - MARGIN
        if named == {"R"}:
            assert centre <= 0.5 + MARGIN
        checked += named in ({"L"}, {"R"})
    assert checked >= 10


@pytest.mark.slow
def test_a_detector_trains_on_them(hospital: Path) -> None:
    stage3.main(StageArguments(hospital / "stage3.yaml", hospital / "stage3", (hospital / "stage2",), ()))
    detector = open_run(hospital / "stage3")
    assert {f"ap40/detector/{name}" for name in ("pleural_effusion", "lung_opacity")} <= detector.metrics.keys()
