"""The tune and the test split of the data with readers' boxes. Nothing is chosen on the test split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.datasets import SeveralData, make_splits
from cxr.datasets.own_names import read_data
from cxr.imaging.pictures import Pictures, decodable_splits
from cxr.readers import read_groups, readings_of
from cxr.runs.label_files import terms_of
from cxr.runs.run_folder import open_run
from cxr.splits import check_no_leak
from cxr.tables import Dataset, empty_boxes
from eval.stats.bootstrap import Counts, resample_counts
from stage1_classify.model import seen_images
from stage1_classify.model.seen_patients import check_unseen, read_seen
from stage1_classify.settings.classifier import Stage1Settings
from stage2_pseudolabel.boxes.detect import Scored, detect
from stage2_pseudolabel.boxes.fused_rule import AnyRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.truth import check_boxes, ground_truth
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class SplitData:
    """Images, true boxes and maps of a split, and the bootstrap resamples that all entries share.

    truth: N images, K findings. maps: (N, K, h, w) per method and probabilities (N, K), in the order of `truth`.
    pictures: the N images. frame: how maps lie over them.
    counts: (R, N) of `resample_counts` over `truth.groups`, shared by all entries so that differences are paired.
    readers: group of readers -> ids of the images that the group read; empty without groups.
    marked: the boxes as single readers marked them, a table of `cxr.tables.BOX_COLUMNS`.
    """

    truth: CocoBoxes
    maps: SplitMaps
    pictures: Pictures
    frame: Frame
    counts: Counts
    readers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    marked: pd.DataFrame = field(default_factory=empty_boxes)

    def scored(self, method: str) -> Scored:
        """Maps of a method with the probabilities; those of each method where boxes are fused."""
        maps, *further = self.maps.stacks_of(method)
        return Scored(maps, self.maps.probabilities, tuple(further))

    def detect(self, rules: Sequence[AnyRule], methods: Sequence[str]) -> CocoBoxes:
        """Scored boxes of all findings in all images. rules, methods: (K,) box rule and CAM method of each finding.

        Findings of one method are detected together, because the maps of two methods may differ in size.
        """
        tables = []
        for method in dict.fromkeys(methods):
            columns = [column for column, own in enumerate(methods) if own == method]
            findings, boxes = tuple(self.truth.findings[column] for column in columns), self.truth.boxes
            own_boxes = boxes[boxes["finding"].isin(findings)]
            truth = CocoBoxes(self.truth.images, own_boxes, findings, self.truth.info)
            scored = self.scored(method).of(slice(None), columns)
            tables.append(detect(scored, truth, [rules[column] for column in columns], frame=self.frame))
        return self.truth.with_boxes(pd.concat(tables, ignore_index=True))


def read_box_data(
    settings: Stage2Settings, stage1: Stage1Settings, source: Path, *, progress: bool
) -> tuple[Dataset, dict[str, list[str]]]:
    """The images that can be decoded, and a tune and a test split that the classifier has not seen.

    Raises:
        UserError: a split is empty or shares patients with another, or the classifier was trained or chosen on it.
    """
    data = read_data(settings.data, terms_of(open_run(source, stage="stage1")))
    splits = make_splits(data, settings.split, settings.data)
    data, splits = decodable_splits(data, splits, stage1.input, on_problem=settings.data.on_problem, progress=progress)
    _check_not_empty(splits)
    check_no_leak(data, splits)
    seen = read_seen(source)
    check_unseen(seen, data, splits["tune"], split="tune", by=["train"])
    check_unseen(seen, data, splits["test"], split="test", by=["train", "val"])
    return _without_copies(data, splits, settings, stage1, source, progress=progress)


def _check_not_empty(splits: Mapping[str, Sequence[str]]) -> None:
    missing = [name for name in ("tune", "test") if not splits.get(name)]
    if missing:
        raise UserError(f"split: no images in {' and '.join(missing)}; it gives {', '.join(splits)}")


def _without_copies(
    data: Dataset,
    splits: dict[str, list[str]],
    settings: Stage2Settings,
    stage1: Stage1Settings,
    source: Path,
    *,
    progress: bool,
) -> tuple[Dataset, dict[str, list[str]]]:
    """Data and splits without copies of images that the classifier has seen or, of several data sets, of tune images
    in another set's test part.
    """
    rule = settings.data.on_problem
    hashes = seen_images.content_hashes(data, stage1.input, progress=progress)
    seen = seen_images.read_seen_images(source)
    forbidden = seen_images.forbidden(seen, choices="tune")
    data, splits = seen_images.without_copies(data, splits, forbidden, hashes, on_problem=rule)
    if isinstance(settings.data, SeveralData):
        tune = seen_images.table_of(data, {"tune": splits["tune"]}, hashes)
        data, splits = seen_images.without_copies(data, splits, {"test": tune}, hashes, on_problem=rule, same_set=False)
    _check_not_empty(splits)
    return data, splits


def true_boxes(data: Dataset, findings: Sequence[str], settings: Stage2Settings, *, split: str) -> CocoBoxes:
    """The fused boxes of a split. UserError where there are none."""
    truth = ground_truth(data, findings, settings.readers, split=split)
    marked = int(data.boxes["finding"].isin(findings).sum())
    check_boxes(truth, marked, settings.readers, split=split)
    log.info(
        "%s: %d images, %d true boxes, fused from %d boxes of readers",
        split, len(data.images), len(truth.without_ignored().boxes), marked,
    )  # fmt: skip
    return truth


def make_split(
    data: Dataset, truth: CocoBoxes, pictures: Pictures, maps: SplitMaps, *, frame: Frame, settings: Stage2Settings
) -> SplitData:
    """The split without the images that have no maps."""
    bad = {item.what for item in maps.bad}
    if bad:
        rows = [row for row, image_id in enumerate(pictures.image_ids) if image_id not in bad]
        data = data.select(pictures.image_ids[row] for row in rows)
        pictures, maps = Pictures(data, pictures.settings), maps.select(rows=rows)
        images, boxes = (
            table[~table["image_id"].isin(bad)].reset_index(drop=True) for table in (truth.images, truth.boxes)
        )
        truth = CocoBoxes(images, boxes, truth.findings, truth.info)
    counts = resample_counts(truth.groups, num_resamples=settings.num_resamples, seed=settings.seed)
    readings = readings_of(data.boxes, num_readers=settings.readers.num_readers)
    groups = read_groups(readings, settings.readers.groups)
    return SplitData(truth, maps, pictures, frame, counts, groups, data.boxes)
