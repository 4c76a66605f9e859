"""What readings say about images: COCO boxes for stage 3, labels for stage 1, and how often the model was right."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr.spreadsheet_cells import inert
from stage3_detect.serving.corrections.record import ACCEPTED, Corners, Reading, SavedReading

Label = int | None
"""1 present, 0 absent, -1 the readers disagree, None not judged."""

TABLE_COLUMNS = ("path", "patient", "study")
FACT_COLUMNS = ("image_sha256", "readers", "complete")
"""Columns of labels.csv before and after those of the findings."""


@dataclass(frozen=True)
class Place:
    """Where an image is. path: relative to the data root. patient, study: "" where unknown."""

    path: str
    patient: str = ""
    study: str = ""


ByImage = dict[str, list[SavedReading]]
"""image sha256 -> the last reading of each reader, in the order in which the image was first read."""


def last_readings(readings: Iterable[SavedReading]) -> ByImage:
    """Of several readings of an image by one reader the last one counts; those of other readers stay.

    Readings that give the image another size than its last one are left out: their boxes do not lie in the image.
    """
    given = list(readings)
    sizes_wh = {reading.image_sha256: reading.size_wh for reading in given}
    found: dict[str, dict[str, SavedReading]] = {}
    for reading in given:
        if reading.size_wh == sizes_wh[reading.image_sha256]:
            found.setdefault(reading.image_sha256, {})[reading.reader] = reading
    return {image: list(by_reader.values()) for image, by_reader in found.items()}


def all_findings(images: ByImage, served: Sequence[str] = ()) -> tuple[str, ...]:
    """The findings of the served model, then those of the models that earlier readings were made with."""
    earlier = (name for readings in images.values() for reading in readings for name in reading.findings)
    return tuple(dict.fromkeys([*served, *earlier]))


def judgement(reading: SavedReading) -> dict[str, int]:
    """What one reader says about each finding: 1 present, 0 absent; a finding without an entry is not judged.

    A kept box makes its finding present, and the findings that it implies in the model's hierarchy. A finding is absent
    if the reader rejected all its boxes, or, in a complete reading, if it has none.
    """
    present = {box.finding for box in reading.boxes if box.is_kept}
    present |= {parent for name in present for parent in reading.ancestors(name)}
    denied = {box.proposed_finding or box.finding for box in reading.boxes} | {box.finding for box in reading.boxes}
    denied |= set(reading.findings) if reading.complete else set()
    return dict.fromkeys(denied, 0) | dict.fromkeys(present, 1)


def image_labels(readings: Sequence[SavedReading], findings: Iterable[str]) -> dict[str, Label]:
    """Label of each finding: what more than half of the readers who judged it say, else -1."""
    judgements = [judgement(reading) for reading in readings]
    return {name: _majority([said[name] for said in judgements if name in said]) for name in findings}


def _majority(votes: Sequence[int]) -> Label:
    if not votes:
        return None
    value, count = Counter(votes).most_common(1)[0]
    return value if 2 * count > len(votes) else -1


def is_complete(readings: Sequence[SavedReading]) -> bool:
    """Whether each reader read the whole image."""
    return all(reading.complete for reading in readings)


def coco_document(
    images: ByImage, findings: Sequence[str], places: Mapping[str, Place], *, data_root: str
) -> dict[str, Any]:
    """The COCO file: each image with its labels and readings, each kept box with its reader and action.

    `read_coco` reads it; ``complete`` of an image is documented in `cxr/coco.py`. A reading lists its rejected boxes.
    """
    category_of = {name: number for number, name in enumerate(findings, start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, readings) in enumerate(images.items(), start=1):
        entries.append({"id": number, **_image_entry(image, readings, findings, places[image])})
        for reading in readings:
            for box in reading.boxes:
                if box.is_kept:
                    facts = {"reader": reading.reader, "action": box.action, "model_score": box.score}
                    own = {"image_id": number, "category_id": category_of[box.finding], **_bbox(box.box_xyxy), **facts}
                    annotations.append({"id": len(annotations) + 1, **own, "iscrowd": 0})
    return {
        "info": {"data_root": data_root, "made_by": "readers' corrections"},
        "images": entries,
        "categories": [{"id": number, "name": name} for name, number in category_of.items()],
        "annotations": annotations,
    }


def _image_entry(
    image: str, readings: Sequence[SavedReading], findings: Sequence[str], place: Place
) -> dict[str, object]:
    last = readings[-1]
    return {
        "file_name": place.path,
        "width": last.width_px,
        "height": last.height_px,
        "image_id": image,
        "region": "full",
        "sha256": image,
        "name": last.name,
        "patient_id": place.patient,
        "labels": image_labels(readings, findings),
        "complete": is_complete(readings),
        "num_readers": len(readings),
        "readings": [_reading_entry(reading) for reading in readings],
    }


def _reading_entry(reading: SavedReading) -> dict[str, object]:
    rejected = [
        {"finding": box.finding, "bbox": _bbox(box.box_xyxy)["bbox"], "model_score": box.score}
        for box in reading.boxes
        if not box.is_kept
    ]
    facts = reading.model_dump(include={"id", "reader", "time", "seconds", "clicks", "complete", "model_sha256"})
    return {**facts, "rejected": rejected}


def _bbox(corners: Corners) -> dict[str, Any]:
    x1, y1, x2, y2 = corners
    return {"bbox": [round(v, 4) for v in (x1, y1, x2 - x1, y2 - y1)], "area": round((x2 - x1) * (y2 - y1), 4)}


def label_table(images: ByImage, findings: Sequence[str], places: Mapping[str, Place]) -> str:
    """labels.csv, which the data set csv_table of stage 1 reads; a finding that nobody judged is blank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(inert, [*TABLE_COLUMNS, *findings, *FACT_COLUMNS]))
    for image, readings in images.items():
        place = places[image]
        labels = image_labels(readings, findings).values()
        readers = " ".join(reading.reader for reading in readings)
        facts = (image, readers, int(is_complete(readings)))
        writer.writerow(map(inert, [place.path, place.patient, place.study, *labels, *facts]))
    return text.getvalue()


def accepted_shares(readings: Iterable[Reading], findings: Iterable[str]) -> dict[str, float | None]:
    """Share of the model's boxes that readers accepted as they were, by the finding that the model gave them.

    None for a finding of which no reader saw a box. Moved, relabelled and rejected boxes count as not accepted, drawn
    boxes do not count.
    """
    shown: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for reading in readings:
        for box in reading.boxes:
            if (finding := box.proposed_finding) is not None:
                shown[finding] += 1
                accepted[finding] += box.action == ACCEPTED
    return {name: accepted[name] / shown[name] if shown[name] else None for name in findings}
