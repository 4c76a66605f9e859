"""Detect boxes on every image of a table and measure the time per image."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr.coco import CocoBoxes, boxes_table
from cxr.imaging.files import Pixels, read_pixels
from cxr.progress import track
from stage3_detect.model.boxes import detect
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection
from stage3_detect.model.network import Network
from stage3_detect.settings.detector import PredictSettings

Milliseconds = npt.NDArray[np.float64]


def predict_images(
    images: CocoBoxes,
    network: Network,
    settings: PredictSettings,
    *,
    correction: BoxCorrection = NO_CORRECTION,
    read_ahead: bool = False,
) -> tuple[CocoBoxes, Milliseconds]:
    """Detections on the listed images, one by one, and milliseconds per image (N,) from decoding to boxes.

    Args:
        read_ahead: decode the next picture while the network works on the current one. This is faster, but the
            measured milliseconds (decoding plus detection) then include the other work; report times without it.

    Raises:
        UserError: an image is missing or unreadable.
    """
    root = Path(images.info["data_root"])
    records = images.images.to_dict("records")
    if records:  # not timed: the first passes through a network select kernels
        detect(_timed_read(root, records[0])[0], network, settings)
    rows: list[tuple[object, ...]] = []
    milliseconds = []
    pictures = _ahead(root, records) if read_ahead else (_timed_read(root, record) for record in records)
    for record in track(records, "detecting"):
        pixels, decoding = next(pictures)
        begin = time.perf_counter()
        found = detect(pixels, network, settings, correction)
        milliseconds.append(decoding + (time.perf_counter() - begin) * 1000)
        for box, score, index in zip(found.xyxy, found.scores, found.classes, strict=True):
            rows.append((str(record["image_id"]), network.findings[index], *map(float, box), float(score)))
    info = dict(images.info) | {"kind": "detections"}
    detections = CocoBoxes(images.images, boxes_table(rows), images.findings, info)
    return detections, np.asarray(milliseconds)


def _timed_read(root: Path, record: dict[Any, Any]) -> tuple[Pixels, float]:
    begin = time.perf_counter()
    pixels = read_pixels(root / record["path"], region=record["region"])
    return pixels, (time.perf_counter() - begin) * 1000


def _ahead(root: Path, records: Sequence[dict[Any, Any]]) -> Iterator[tuple[Pixels, float]]:
    """Pictures in order, decoded one ahead in a thread (decoding releases the interpreter lock)."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[tuple[Pixels, float]] | None = None
        for record in [*records, None]:
            following = pool.submit(_timed_read, root, record) if record is not None else None
            if waiting is not None:
                yield waiting.result()
            waiting = following
