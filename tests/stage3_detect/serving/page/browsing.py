"""The service as a process and the page in a browser, for the tests of the reading page."""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.paths import ROOT

REQUIRED = "RAYBOX_REQUIRE_BROWSER"
"""With the value 1 in the environment, a missing browser is a failure."""

HOW_TO_GET_IT = "no browser; get one with: apt-get install chromium"

DROP = """([selector, files]) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
  }
  const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector(selector).dispatchEvent(event);
}"""
HAS_ALL = "!app.model?.map_method || app.readings.every((r) => r.status !== 'ready' || r.maps || r.mapsMessage)"
WATCH = "document.addEventListener('securitypolicyviolation', (event) => console.error('policy', event.blockedURI))"


def chromium() -> str | None:
    """Path of an installed browser."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def is_required() -> bool:
    return os.environ.get(REQUIRED) == "1"


@contextmanager
def serving(run: Path, *options: str) -> Iterator[str]:
    """`serve.py` on a free port of this machine; yields its address, and checks that it ends with 0."""
    command = [sys.executable, "stage3_detect/serve.py", str(run), "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as log:  # a pipe that nobody reads would fill and stop the service
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0


def _address(process: subprocess.Popen[str], log: IO[str]) -> str:
    """What a service that starts says of its page; waits until it is ready."""
    assert process.stdout is not None
    address = next((line.split()[1] for line in process.stdout if line.startswith("page:")), None)
    if address is None:
        log.seek(0)
        raise AssertionError(log.read())
    with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
        client.get(f"{address}readyz").raise_for_status()
    return address.rstrip("/")


@contextmanager
def browsing() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Reader:
    """A page of the service, with what it asked for and complained about."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def drop(self, *paths: Path, on: str = "body") -> None:
        """Drop files, and wait until each image is read or refused and its heat maps are there."""
        files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
        self.page.evaluate(DROP, [on, files])
        if on == "body":
            self.page.locator(".tile").nth(len(paths) - 1).wait_for()
            self.page.locator(".tile:not([data-status=ready], [data-status=error])").first.wait_for(state="detached")
            while not self.state(HAS_ALL):  # marks are drawn again when maps arrive
                self.page.wait_for_timeout(20)

    def marks(self, kind: str = "detection") -> Locator:
        return self.page.locator(f".mark.{kind}")

    def boxes_on_image(self, kind: str = "detection", tile: int = 0) -> list[tuple[float, ...]]:
        """Boxes as the SVG draws them, in pixels of the image, left to right; by the size of tile and image alone."""
        drawn = self.page.locator(".tile").nth(tile)
        width, height = (
            int(part) for part in (drawn.locator(".title").text_content() or "").split("  ")[1].split(" x ")
        )
        place = drawn.bounding_box()
        assert place
        scale = min(place["width"] / width, place["height"] / height)
        left, top = (place["width"] - width * scale) / 2, (place["height"] - height * scale) / 2
        boxes = []
        for rect in drawn.locator(f".mark.{kind} .line").all():
            x, y, w, h = (float(rect.get_attribute(name) or "nan") for name in ("x", "y", "width", "height"))
            boxes.append(tuple((v - o) / scale for v, o in ((x, left), (y, top), (x + w, left), (y + h, top))))
        return sorted(boxes)

    def pixel(self, canvas: str, x: float, y: float) -> list[int]:
        """RGBA at a point of the first tile's canvas, as shares of its width and height."""
        script = """([canvas, x, y]) => {
          const box = document.querySelector(`.tile canvas.${canvas}`);
          const at = [Math.floor(x * box.width), Math.floor(y * box.height)];
          return [...box.getContext("2d").getImageData(...at, 1, 1).data];
        }"""
        return list(self.page.evaluate(script, [canvas, x, y]))

    def call(self, module: str, expression: str, *arguments: object) -> object:
        """The value of an expression with the names that a module of the page exports, `arguments` as `args`."""
        script = f"async (args) => {{ const m = await import('/static/{module}.js'); return {expression}; }}"
        return self.page.evaluate(script, list(arguments))

    def state(self, expression: str) -> object:
        """The value of an expression of `app`, the state of the page."""
        return self.call("main", f"((app) => {expression})(m.app)")


@contextmanager
def reading(browser: Browser, address: str, *, size: tuple[int, int] = (1280, 800)) -> Iterator[Reader]:
    """A fresh page; at its end it must have complained about nothing and asked no other server.

    Pages share one context, and so the files of the page; what the reading page keeps is kept for each page alone.
    """
    context = browser.contexts[0] if browser.contexts else browser.new_context()
    page = context.new_page()
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.add_init_script(WATCH)
    page.set_default_timeout(15_000)
    reader = Reader(page, address)
    page.on("console", lambda message: reader.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: reader.problems.append(str(error)))
    page.on("request", lambda request: reader.urls.append(request.url))
    page.goto(address)
    try:
        yield reader
        assert reader.problems == []
        assert [url for url in reader.urls if not url.startswith((address, "data:", "blob:"))] == []
    finally:
        page.close()


def shown(detections: Sequence[dict[str, object]]) -> list[tuple[float, ...]]:
    """Boxes that reach the operating point, left to right."""
    return sorted(tuple(found["box_xyxy"]) for found in detections if found["shown"])  # type: ignore[arg-type]
