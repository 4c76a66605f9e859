"""One session of a reader in OHIF: open the report of raybox, edit its boxes, save a report; and what was on screen."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from playwright.sync_api import Page

from stage3_detect.model.predictor import Box

MOVED_BY_PX = (20.0, 10.0)
"""What the reader adds to the right and the lower side of the second box, in pixels of the image."""

_WAIT_MS = 90_000
_DRAWN_MS = 1500
"""Between two screenshots that must be equal."""


@dataclass(frozen=True)
class Screen:
    """A screenshot (H, W, 3, BGR), and the part of it that shows the image: x, y, width and height."""

    pixels: npt.NDArray[np.uint8]
    pane: tuple[float, float, float, float]
    image_hw: tuple[int, int]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the image is on the screen: OHIF fits the whole image into the pane."""
        left, top, width, height = self.pane
        rows, columns = self.image_hw
        scale = min(width / columns, height / rows)
        return left + width / 2 + (x - columns / 2) * scale, top + height / 2 + (y - rows / 2) * scale

    def outlined(self, box: Box, *, within_px: int = 2) -> list[float]:
        """Share of each side of a box near which there is a coloured pixel: top, right, bottom, left."""
        x1, y1, x2, y2 = (round(value) for value in (*self.place(*box[:2]), *self.place(*box[2:])))
        coloured = np.ptp(self.pixels, axis=2) > 100  # the radiograph is grey
        near = cv2.dilate(coloured.astype(np.uint8), np.ones((2 * within_px + 1, 2 * within_px + 1), np.uint8))
        sides = (near[y1, x1:x2], near[y1:y2, x2], near[y2, x1:x2], near[y1:y2, x1])
        return [float(side.mean()) for side in sides]


@dataclass(frozen=True)
class Session:
    """opened: the report is shown. loaded: its boxes can be edited. edited: after the changes. listed: lines of the
    list of measurements in `loaded`."""

    opened: Screen
    loaded: Screen
    edited: Screen
    listed: tuple[str, ...]


def read_in_ohif(page: Page, url: str, *, boxes: Sequence[Box], image_hw: tuple[int, int], shots: Path) -> Session:
    """Open a study that has one image and our results on it, and work as a reader does.

    The reader opens the report, confirms, pulls the lower right corner of the second box by `MOVED_BY_PX`, deletes the
    third box, and saves a report. Screenshots are kept in `shots`.
    """
    page.set_default_timeout(_WAIT_MS)
    page.goto(url)
    page.get_by_text("Skip all").click()  # the tour
    # a report that is opened before the image is drawn leaves OHIF with a black image
    _screen(page, image_hw, shots / "image.png")
    page.locator('[data-cy="study-browser-thumbnail-no-image"]', has_text="raybox report").dblclick()
    page.get_by_text("Do you want to continue tracking").wait_for()
    page.get_by_text("Certainty of Finding").nth(len(boxes) - 1).wait_for()  # each box with its numbers
    opened = _screen(page, image_hw, shots / "opened.png")
    page.locator('[data-cy="yes-hydrate-btn"]').click()
    page.locator('[data-cy="trackedMeasurements-btn"]').click()
    rows = page.locator('[data-cy="data-row"]')
    rows.nth(len(boxes) - 1).wait_for()
    page.get_by_text("Std Dev").nth(len(boxes) - 1).wait_for()
    loaded = _screen(page, image_hw, shots / "loaded.png")
    listed = page.locator("body").inner_text().partition("Measurements (")[2].splitlines()
    _pull_corner(page, loaded, boxes[1])
    rows.nth(2).hover()
    rows.nth(2).locator('[data-cy="actionsMenuTrigger"]').click()
    page.get_by_role("menuitem", name="Delete").click()
    edited = _screen(page, image_hw, shots / "edited.png")
    page.get_by_role("button", name="Create SR").click()
    with page.expect_response(lambda answer: answer.request.method == "POST") as stored:
        page.get_by_role("button", name="Save").click()
    assert stored.value.status == 200
    return Session(opened, loaded, edited, tuple(listed))


def _screen(page: Page, image_hw: tuple[int, int], path: Path) -> Screen:
    """As soon as the image is drawn, and nothing has changed for a while: the page itself does not say it."""
    page.mouse.move(5, 5)  # away from all boxes
    before, end = b"", time.monotonic() + _WAIT_MS / 1000
    while True:
        page.wait_for_timeout(_DRAWN_MS)
        shot = page.screenshot(path=path)
        pixels = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        frame: Any = page.locator('[data-cy="viewport-pane"]').bounding_box()
        x, y, width, height = (round(frame[name]) for name in ("x", "y", "width", "height"))
        if shot == before and np.median(pixels[y : y + height, x : x + width]) > 0:
            return Screen(np.asarray(pixels, dtype=np.uint8), (x, y, width, height), image_hw)
        assert time.monotonic() < end, f"no image on the page, see {path}"
        before = shot


def _pull_corner(page: Page, screen: Screen, box: Box) -> None:
    x2, y2 = box[2:]
    page.mouse.move(*screen.place(x2, y2))
    page.mouse.down()
    for share in (0.5, 1.0):
        page.mouse.move(*screen.place(x2 + share * MOVED_BY_PX[0], y2 + share * MOVED_BY_PX[1]), steps=4)
    page.mouse.up()
