"""Readings with a fixed image, model and clock."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from stage3_detect.serving.corrections.record import Reading, SavedReading

FINDINGS = ("Lung Opacity", "Consolidation", "Pleural Effusion")
PARENTS = {"Lung Opacity": (), "Consolidation": ("Lung Opacity",), "Pleural Effusion": ()}
IMAGE, OTHER_IMAGE, MODEL = "a" * 64, "b" * 64, "f" * 64
BOX, MOVED_BOX = (10.0, 20.0, 40.0, 50.5), (12.0, 20.0, 44.0, 50.0)
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def box(action: str = "accepted", finding: str = "Pleural Effusion", **changes: Any) -> dict[str, Any]:
    """A box as the page posts it."""
    given: dict[str, Any] = {"finding": finding, "box_xyxy": list(BOX), "action": action, "score": 0.5}
    if action == "moved":
        given |= {"box_xyxy": list(MOVED_BOX), "original_box_xyxy": list(BOX)}
    if action == "drawn":
        given["score"] = None
    return given | changes


def body(boxes: Sequence[dict[str, Any]] = (), **changes: Any) -> dict[str, Any]:
    """A reading as the page posts it."""
    return {
        "image_sha256": IMAGE,
        "name": "chest.png",
        "width_px": 130,
        "height_px": 90,
        "reader": "r1",
        "consent": True,
        "seconds": 14.5,
        "clicks": 3,
        "model_sha256": MODEL,
        "boxes": list(boxes),
        **changes,
    }


def reading(boxes: Sequence[dict[str, Any]] = (), **changes: Any) -> Reading:
    return Reading.model_validate(body(boxes, **changes))


def saved(boxes: Sequence[dict[str, Any]] = (), **changes: Any) -> SavedReading:
    facts = {"id": "000001", "time": NOON.isoformat(), "findings": FINDINGS, "parents": PARENTS}
    return SavedReading.model_validate(body(boxes) | facts | changes)
