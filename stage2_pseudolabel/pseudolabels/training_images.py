"""The images that get pseudo-labels: the classifier's training images, with their true boxes where there are any."""

import logging
from pathlib import Path

import numpy as np

from cxr.coco import CocoBoxes
from cxr.datasets.own_names import read_data
from cxr.imaging.pictures import decodable
from cxr.readers import ReaderSettings
from cxr.runs.label_files import terms_of
from cxr.runs.run_folder import open_run
from cxr.splits import load_splits
from cxr.tables import Dataset
from stage1_classify.settings.classifier import Stage1Settings
from stage2_pseudolabel.boxes.truth import ground_truth
from stage2_pseudolabel.cam_maps.store import SplitMaps

log = logging.getLogger("raybox")


def training_images(stage1: Stage1Settings, source: Path, *, max_images: int | None, progress: bool) -> Dataset:
    """The frontal images that the classifier in `source` was trained on, or a sample of `max_images` of them."""
    run = open_run(source, stage="stage1")
    data = read_data(stage1.data, terms_of(run))
    splits = load_splits(run.output("splits"))
    train = data.select(splits["train"])
    frontal = train.images.loc[train.images["view"] != "lateral", "image_id"].tolist()
    if len(frontal) < len(train.images):
        log.info("pseudo-labels: %d lateral images excluded", len(train.images) - len(frontal))
    if max_images is not None and max_images < len(frontal):
        log.info("pseudo-labels: a sample of %d of %d images (pseudo_labels.max_images)", max_images, len(frontal))
        frontal = sorted(np.random.default_rng(0).choice(frontal, max_images, replace=False).tolist())
    return decodable(train.select(frontal), stage1.input, on_problem=stage1.data.on_problem, progress=progress)


def training_truth(
    train: Dataset, maps: SplitMaps, findings: tuple[str, ...], readers: ReaderSettings
) -> CocoBoxes | None:
    """True boxes of the training images that have maps; None if the data has no boxes."""
    if train.boxes.empty:
        return None
    bad = {item.what for item in maps.bad}
    usable = train.select(image_id for image_id in train.images["image_id"] if image_id not in bad)
    return ground_truth(usable, findings, readers, split="train")
