"""The data with readers' boxes: its tune and test part with images, true boxes, pictures and maps."""

import logging
from dataclasses import dataclass
from pathlib import Path

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.imaging.pictures import Pictures, decodable_splits
from cxr.splits import check_no_leak
from cxr.tables import Dataset
from stage1_classify.model.seen_patients import check_unseen, read_seen
from stage1_classify.settings.classifier import Stage1Settings
from stage2_pseudolabel.boxes.search import Scored
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Part:
    """A split of the data: its images, true boxes, pictures, and maps and probabilities of the scored findings."""

    data: Dataset
    truth: CocoBoxes
    pictures: Pictures
    maps: SplitMaps

    def scored(self, method: str) -> Scored:
        """Maps of a method with the probabilities."""
        return Scored(self.maps.maps[method], self.maps.probabilities)


def read_box_data(
    settings: Stage2Settings, stage1: Stage1Settings, source: Path, *, progress: bool
) -> tuple[Dataset, dict[str, list[str]]]:
    """The images that can be decoded, and a tune and test part that the classifier has not seen.

    Raises:
        UserError: a part is empty, shares patients with another, or the classifier was trained or chosen on it.
    """
    data = settings.data.read()
    splits = settings.split.make(data)
    data, splits = decodable_splits(data, splits, stage1.input, on_problem=settings.data.on_problem, progress=progress)
    missing = [name for name in ("tune", "test") if not splits.get(name)]
    if missing:
        raise UserError(f"split: no images in {' and '.join(missing)}; it gives {', '.join(splits)}")
    check_no_leak(data, splits)
    seen = read_seen(source)
    check_unseen(seen, data, splits["tune"], split="tune", by=["train"])
    check_unseen(seen, data, splits["test"], split="test", by=["train", "val"])
    return data, splits


def make_part(data: Dataset, pictures: Pictures, maps: SplitMaps, *, truth: CocoBoxes, stage1: Stage1Settings) -> Part:
    """What can be used of a split: images that could not, which `maps` names, are left out of everything."""
    bad = {item.what for item in maps.bad}
    if not bad:
        return Part(data, truth, pictures, maps)
    rows = [row for row, image_id in enumerate(pictures.image_ids) if image_id not in bad]
    data = data.select(pictures.image_ids[row] for row in rows)
    images = truth.images[~truth.images["image_id"].isin(bad)].reset_index(drop=True)
    boxes = truth.boxes[~truth.boxes["image_id"].isin(bad)].reset_index(drop=True)
    kept = CocoBoxes(images, boxes, truth.findings, truth.info)
    return Part(data, kept, Pictures(data, stage1.input), maps.select(rows=rows))
