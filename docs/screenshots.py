"""Makes docs/page.jpg, page_map.jpg and page_correct.jpg: the reading page with a phantom image, from the demo's run.

    make demo
    .venv/bin/python docs/screenshots.py [--run runs/demo/stage3] [--image FILE]

Needs Chromium (apt-get install chromium).
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.stage3_detect.serving.page.browsing import Reader, browsing, serving

FOLDER = Path(__file__).parent
RUN = Path("runs/demo/stage3")
IMAGE = Path("data/phantom_demo/vindr/test/2215d99832f623388e16774021d48c92.dicom")
SIZE = {"width": 1280, "height": 800}
SHOWN_MAP = "Cardiomegaly"
MAX_WAIT_MS = 120_000
"""The first heat map waits for its network."""


def main() -> None:
    """Start the service, open the image, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=RUN)
    parser.add_argument("--image", type=Path, default=IMAGE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        image = Path(folder) / f"phantom{given.image.suffix}"
        image.write_bytes(given.image.read_bytes())
        corrections = str(Path(folder) / "corrections")
        with serving(given.run.resolve(), "--maps", "--corrections", corrections) as address:
            page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
            page.goto(address)
            page.locator(".finding").first.wait_for()
            Reader(page, address).drop(image)
            take_pictures(page)


def take_pictures(page: Page) -> None:
    """The boxes, a heat map, and corrections."""
    save(page, "page.jpg")
    page.locator(f".finding[data-finding='{SHOWN_MAP}']").hover()
    page.locator(f".tile[data-map='{SHOWN_MAP}']").wait_for(timeout=MAX_WAIT_MS)
    save(page, "page_map.jpg")
    page.mouse.move(640, 22)
    for key in ("e", "ArrowDown", "a", "ArrowDown", "x", "ArrowDown", "Alt+ArrowLeft"):
        page.keyboard.press(key)
    page.locator("#reader").fill("reader1")
    page.locator("#consent").check()
    save(page, "page_correct.jpg")


def save(page: Page, name: str) -> None:
    """The page as JPEG."""
    page.evaluate("() => document.activeElement?.blur()")
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").save(FOLDER / name, quality=88, optimize=True)


if __name__ == "__main__":
    main()
