"""The comparison with WSRPN on NIH ChestX-ray14 runs through the three stages on a tiny release in the real layout."""

from pathlib import Path

import pytest

from cxr.cli import StageArguments
from cxr.runs.run_folder import FinishedRun, open_run
from cxr.splits import load_splits
from stage1_classify import run as stage1
from stage2_pseudolabel import run as stage2
from stage3_detect import run as stage3
from tests.builders import nih_folder, write_picture
from tests.paths import ROOT

pytestmark = pytest.mark.slow

CLASSES = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
TINY = {
    "stage1": [
        "backbone.name=test_convnext", "backbone.pretrained=false", "backbone.feature_stage=1",
        "split.fractions={train: 0.6, val: 0.2, test: 0.2}", "input.size_hw=[32, 48]", "input.cache_dir=null",
        "train.num_epochs=1", "train.batch_size=16", "train.num_workers=0", "train.min_positives=1",
        "train.precision=fp32", "train.memory_format=contiguous",
    ],
    "stage2": [
        "methods=[gradcam, pcam]", "fuse_maps=[]", "fuse_boxes=[[gradcam, pcam]]", "max_faithfulness_pairs=2",
        "num_resamples=20", "pseudo_labels.min_likelihood_ratio=0",
    ],
    "stage3": [
        "model=yolo26n.yaml", "backbone.source=yolo", "data.image_px=64", "self_training.max_rounds=0",
        "train.num_epochs=1", "train.batch_size=8", "export.formats=[onnx]", "num_resamples=20", "num_workers=0",
    ],
}  # fmt: skip


def write_release(root: Path) -> None:
    """96 patients with an image and a finding each; every third has a box, which is bright in the image."""
    rows, boxes = [], []
    for number in range(96):
        name, finding = f"{number + 10:08d}_000.png", CLASSES[number // 3 % 8]
        rows.append((name, finding, 0, number + 10, 50, "M", "PA", 1024, 1024, 0.1, 0.1))
        if number % 3 == 0:
            boxes.append((name, "Infiltrate" if finding == "Infiltration" else finding, 256, 256, 256, 512))
    nih_folder(root, rows=rows, boxes=boxes)
    for number, (name, *_) in enumerate(rows):
        write_picture(next(root.rglob(str(name))), bright_xyxy=(15, 10, 30, 30) if number % 2 else (40, 10, 55, 30))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[FinishedRun]:
    folder = tmp_path_factory.mktemp("nih")
    write_release(folder / "data")
    for number, stage in enumerate((stage1, stage2, stage3), start=1):
        name = f"stage{number}"
        sources = (folder / f"stage{number - 1}",) if number > 1 else ()
        changes = [f"data.root={folder / 'data'}"] if number < 3 else []
        settings = ROOT / "configs" / "nih" / f"{name}.yaml"
        stage.main(StageArguments(settings, folder / name, sources, (*changes, *TINY[name])))
    return [open_run(folder / f"stage{number}") for number in (1, 2, 3)]


def test_the_classifier_sees_no_patient_with_boxes(runs: list[FinishedRun]) -> None:
    """64 of the 96 patients have none, and the three images of the builder's patients have boxes or share a patient."""
    splits = load_splits(runs[0].output("splits"))
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 40, "val": 12, "test": 12}
    marked = {f"{number + 10:08d}_000" for number in range(0, 96, 3)}
    assert not marked & {image_id for ids in splits.values() for image_id in ids}


def test_the_measures_of_the_source_are_there(runs: list[FinishedRun]) -> None:
    for run, entry in ((runs[1], "pcam"), (runs[1], "gradcam"), (runs[2], "detector")):
        measures = [f"{name}{share}" for name in ("ap", "iou_accuracy") for share in (10, 30, 50, 70)]
        for measure in (*measures, "rodeo"):
            assert f"{measure}/{entry}" in run.metrics
