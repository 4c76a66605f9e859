"""The recipes of the sources run to the end on images in the real layouts, with small networks and few steps."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from cxr.config import load_config
from cxr.runs.run_folder import FinishedRun, open_run, start_run
from eval.report.blocks import Table, read_report
from stage1_classify import ensemble_pipeline, pipeline
from stage1_classify.evaluation.new_images import Call, predict_images
from stage1_classify.settings.classifier import EnsembleSettings, Stage1Settings
from stage1_classify.training.fabric import make_fabric
from tests.builders import Row, chexpert_folder, chexpert_row, kermany_folder, write_picture
from tests.cxr.datasets.release_builders import siim_folder, spr_folder
from tests.paths import ROOT

NUM = 24


def chexpert(root: Path) -> Path:
    """Frontal and lateral images of 24 training and 12 validation patients, with every finding of the recipes."""

    def rows(part: str, start: int, num: int) -> list[Row]:
        studies = [f"CheXpert-v1.0-small/{part}/patient{start + n:05d}/study1" for n in range(num)]
        views = ("view1_frontal", "view2_lateral")
        return [chexpert_row(f"{one}/{view}.jpg", **labels_of(n)) for n, one in enumerate(studies) for view in views]

    folder = chexpert_folder(root, train=rows("train", 100, NUM), valid=rows("valid", 70000, NUM // 2))
    table = folder / "train.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    # the builder's study of two views has other labels for each of them
    table.write_text("".join(line for line in lines if "patient00002" not in line), encoding="utf-8")
    return folder


def labels_of(number: int) -> dict[str, object]:
    """Half of the patients have each finding, and with it its parents."""
    lung = ("Consolidation", "Pneumonia", "Edema", "Atelectasis", "Lung_Lesion", "Lung_Opacity", "Pneumothorax")
    names = (*lung, "Enlarged_Cardiomediastinum", "Cardiomegaly", "Pleural_Effusion")
    return dict.fromkeys(names, number % 2)


def siim(root: Path) -> Path:
    """24 images and those of the builder, each with a bright box left of the middle, so that a mirror image differs."""
    siim_folder(root, rows=[(f"1.3.{n}", "1 2" if n % 2 else " -1") for n in range(NUM)])
    for n, path in enumerate(sorted(root.rglob("*.png"))):
        write_picture(path, bright_xyxy=(18, 10, 26 + n % 4, 30))
    return root


def kermany(root: Path) -> Path:
    """24 persons in train; person1 of the builder is in train and test."""
    parts = [("train", NUM), ("val", 8), ("test", 8)]
    numbered = [(part, place * 100 + n) for place, (part, num) in enumerate(parts) for n in range(num)]
    names = [("PNEUMONIA/person", "_virus_1.jpeg"), ("NORMAL/IM-9", "-0001.jpeg")]
    extra = [f"{part}/{names[n % 2][0]}{n + 500:04d}{names[n % 2][1]}" for part, n in numbered]
    return kermany_folder(root, extra=extra)


def spr(root: Path) -> Path:
    spr_folder(root, genders=[(str(n + 2), str(n % 2)) for n in range(NUM)], ages=False)
    for n in range(NUM):
        write_picture(root / "kaggle" / "kaggle" / "train" / f"{n + 2:06d}.png")
    return root


SMALL = [
    "backbone.pretrained=false", "backbone.name=test_convnext", "backbone.feature_stage=1", "input.cache_dir=null",
    "input.size_hw=[32, 48]", "train.batch_size=4", "train.num_epochs=1", "train.num_workers=0",
    "train.min_positives=1", "train.precision=fp32", "train.memory_format=contiguous", "sampling.num_samples=8",
]  # fmt: skip
CYCLES = ["train.num_epochs=4", "freeze.cycle_epochs=2", "schedule.cycle_factors=[1, 0.5]"]
VAL = ["split.val_fraction=0.4"]
PARTS = "split.fractions={train: 0.5, val: 0.25, test: 0.25}"
RECIPES: list[tuple[str, Callable[[Path], Path], Sequence[str]]] = [
    ("pneumothorax/stage1", siim, ["input.crop_hw=[24, 32]", "train.accumulate_steps=2", PARTS]),
    ("sex/stage1", spr, ["backbone.name=resnet10t", "train.device=cpu", PARTS]),
]
MORE: list[tuple[str, Callable[[Path], Path], Sequence[str]]] = [
    ("cardiomegaly/stage1", chexpert, [*CYCLES, *VAL]),
    ("pneumonia/source", kermany, []),
    ("pneumonia/finetuned", kermany, []),
    ("pneumonia/stage1", kermany, [PARTS]),
    ("table8/baseline", chexpert, VAL),
    ("table8/weighted", chexpert, VAL),
    ("table8/hierarchical", chexpert, [*VAL, "train.num_epochs=2", "hierarchy.conditional_epochs=1"]),
]


def trained(recipe: str, build: Callable[[Path], Path], changes: Sequence[str], folder: Path) -> FinishedRun:
    root = build(folder / "data")
    overrides = [*SMALL, f"data.root={root}", *changes]
    settings = load_config(Stage1Settings, ROOT / "configs" / f"{recipe}.yaml", overrides)
    run = start_run(folder / "run", stage="stage1", settings=settings, inputs={})
    try:
        pipeline.run(run, settings, make_fabric(settings))
    finally:
        run.release()
    return open_run(folder / "run")


@pytest.mark.parametrize(
    ("recipe", "build", "changes"),
    [*RECIPES, *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE)],
    ids=[recipe for recipe, *_ in (*RECIPES, *MORE)],
)
def test_a_recipe_runs_to_its_report(
    tmp_path: Path, recipe: str, build: Callable[[Path], Path], changes: Sequence[str]
) -> None:
    run = trained(recipe, build, changes, tmp_path)
    assert run.metrics["auroc/mean"] is not None
    table = pd.read_csv(run.output("predictions"))
    assert (table["split"] == "test").any()
    assert run.manifest["shared_patients"] == (1 if recipe in ("pneumonia/source", "pneumonia/finetuned") else 0)
    report = read_report(run.dir)
    assert report is not None
    assert any(isinstance(block, Table) and block.title == "Figures per finding" for block in report.blocks)


@pytest.mark.slow
def test_pneumothorax_with_test_time_augmentation_gives_a_file_of_predictions(tmp_path: Path) -> None:
    recipe, build, changes = RECIPES[0]
    member = trained(recipe, build, changes, tmp_path)
    settings = load_config(EnsembleSettings, ROOT / "configs" / "pneumothorax" / "ensemble.yaml")
    members = ensemble_pipeline.open_members([member.dir], settings)
    run = start_run(tmp_path / "tta", stage="stage1", settings=settings, inputs={"member_0": member.dir})
    try:
        ensemble_pipeline.run(run, settings, members)
    finally:
        run.release()
    plain, both = (pd.read_csv(one.output("predictions")) for one in (member, open_run(tmp_path / "tta")))
    assert both["image_id"].tolist() == plain["image_id"].tolist()
    assert (both["Pneumothorax"] != plain["Pneumothorax"]).any()


@pytest.mark.slow
def test_sex_of_images_without_labels_becomes_a_file_of_image_id_and_prediction(tmp_path: Path) -> None:
    recipe, build, changes = RECIPES[1]
    run = trained(recipe, build, changes, tmp_path)
    unlabelled = tmp_path / "data" / "kaggle" / "kaggle" / "test"
    predict_images(Call(run.dir, (unlabelled,), tmp_path / "out"))
    table = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert list(table.columns) == ["image_id", "prediction"]
    assert len(table) == 1
    assert table["prediction"].isin([0, 1]).all()
