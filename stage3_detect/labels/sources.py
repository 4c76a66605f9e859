"""The boxes that stage 3 uses from a stage 2 run: for training, for choices (tune split) and for the test."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table, read_coco
from cxr.config import UserError
from cxr.labels import PARENTS
from cxr.runs.label_files import terms_of
from cxr.runs.run_folder import FinishedRun
from stage3_detect.labels.corrections import read_corrections, refuse_evaluation_images, without_corrected
from stage3_detect.settings.labels import LabelSettings, NumBoxes

_SHOWN = 5


@dataclass(frozen=True)
class Sources:
    """The data of a stage 3 run.

    labels: boxes of the training images, stage 2's or radiologists'. true: images of the tune split whose boxes are
    used for training (few-box mode), or None. tune: the other images of that split, for choices; may be empty. test:
    for the final scores only. corrections: images with readers' corrections, or None; `labels` does not have them.
    parents: child -> parent, the tree of the findings.
    """

    labels: CocoBoxes
    tune: CocoBoxes
    true: CocoBoxes | None
    test: CocoBoxes
    corrections: CocoBoxes | None = None
    parents: Mapping[str, str] = field(default_factory=lambda: PARENTS)

    @property
    def readers(self) -> CocoBoxes:
        """All readers' boxes outside the test split, whether used for training or not."""
        if self.true is None:
            return self.tune
        tables = ((self.true.images, self.tune.images), (self.true.boxes, self.tune.boxes))
        images, boxes = (pd.concat(pair, ignore_index=True) for pair in tables)
        return replace(self.tune, images=images, boxes=boxes)

    @property
    def training_images(self) -> CocoBoxes:
        """The images of `labels` and `corrections`, with or without boxes, as a table without boxes. Files of the
        corrections have absolute paths."""
        columns = [*IMAGE_FIELDS, "patient_id"]
        tables = [self.labels.images.reindex(columns=columns, fill_value="")]
        if self.corrections is not None:
            images = self.corrections.images.reindex(columns=columns, fill_value="")
            root = Path(str(self.corrections.info["data_root"])).absolute()
            tables.append(images.assign(path=[str(root / path) for path in images["path"]]))
        images = pd.concat(tables, ignore_index=True)
        return CocoBoxes(images, boxes_table(), self.labels.findings, self.labels.info)


def open_sources(stage2: FinishedRun, settings: LabelSettings, *, seed: int) -> Sources:
    """Read the files of a finished stage 2 run.

    Raises:
        UserError: the settings ask for true boxes of the training images and the run has none, or for more true boxes
            of the tune split than it has; the files differ in findings or their order; or the corrections cannot be
            used (see `corrections`).
    """
    labels = _labels(stage2, settings)
    tune, test = (read_coco(stage2.output(name)) for name in ("gt_tune", "gt_test"))
    for name, coco in (("gt_tune", tune), ("gt_test", test)):
        if coco.findings != labels.findings:
            raise UserError(
                f"run {stage2.dir}: {name} has the findings {', '.join(coco.findings)}, the labels have "
                f"{', '.join(labels.findings)}; all must have the same in the same order, run stage 2 again"
            )
    taken = first_boxes(tune, settings.true_boxes.num_boxes, seed=seed)
    rest = set(tune.images["image_id"]) - taken
    true = tune.select(taken) if taken else None
    parents = terms_of(stage2).parents
    if settings.corrections.path is None:
        return Sources(labels, tune.select(rest), true, test, parents=parents)
    corrections = read_corrections(settings.corrections.path, labels.findings)
    refuse_evaluation_images(corrections, {"tune": tune, "test": test})
    return Sources(without_corrected(labels, corrections), tune.select(rest), true, test, corrections, parents)


def _labels(stage2: FinishedRun, settings: LabelSettings) -> CocoBoxes:
    if settings.source == "pseudo_labels":
        return read_coco(stage2.output("pseudo_labels"))
    if "gt_train" not in stage2.manifest["outputs"]:
        raise UserError(
            "labels.source: true_boxes needs boxes of the training images, and the stage 2 run has none (no gt_train); "
            "use pseudo_labels, or labels.true_boxes for boxes of the tune split"
        )
    return read_coco(stage2.output("gt_train"))


def first_boxes(coco: CocoBoxes, number: NumBoxes, *, seed: int) -> set[str]:
    """Ids of the images of the first patients, in a fixed random order, that have at least `number` boxes together.

    Images of these patients without boxes are included. A smaller number selects a subset of a larger one's images.
    Patients are never split, because choices are made on the remaining images. "all" selects every image.

    Raises:
        UserError: there are fewer boxes than `number`, or none for "all".
    """
    group_of = pd.Series(coco.groups, coco.images["image_id"].tolist(), dtype=object)
    counts = coco.boxes.loc[~coco.is_ignored, "image_id"].map(group_of).value_counts()
    if number == "all" and counts.empty:
        raise UserError("labels.true_boxes.num_boxes: all asked for, the tune split has no box; set it to 0")
    if number == "all":
        return set(group_of.index)
    groups = in_fixed_order(set(coco.groups), seed=seed)
    reached = np.cumsum([counts.get(group, 0) for group in groups], dtype=np.int64)
    if number > reached[-1:].sum():
        raise UserError(
            f"labels.true_boxes.num_boxes: {number} boxes asked for, the tune split has {reached[-1:].sum()}; "
            "give a smaller number, or all"
        )
    first = set(groups[: int(np.searchsorted(reached, number)) + 1]) if number else set()
    return set(group_of.index[group_of.isin(first)])


def require_pictures(sources: Sources) -> None:
    """Check before hours of training that every picture of the tune and test split exists.

    Raises:
        UserError: pictures are missing; names the first ones.
    """
    problems = []
    for split, coco in (("tune", sources.tune), ("test", sources.test)):
        root = Path(str(coco.info["data_root"]))
        missing = [root / path for path in dict.fromkeys(coco.images["path"]) if not (root / path).is_file()]
        problems += [f"stage 3: no file {path} (a picture of the {split} split)" for path in missing[:_SHOWN]]
        if missing:
            problems.append(
                f"stage 3: {len(missing)} pictures of the {split} split are missing; restore them or run stage 2 again"
            )
    if problems:
        raise UserError(problems)


def in_fixed_order(names: Iterable[str], *, seed: int) -> list[str]:
    """Names in random order by a hash of (seed, name): adding names does not change the order of the others."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
