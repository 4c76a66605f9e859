"""Times of the reading page: from the drop of an image to its boxes, from pointing at a finding to its heat map.

    python tests/benchmarks/bench_page.py runs/demo/stage3 [--repeats 15] [--threads 2]

The service runs as a process and the page in Chromium without a screen, both on this machine. The image is a phantom
radiograph of 3000 x 2500 pixels as an uncompressed DICOM file of 12 bits, already in the browser's memory. A time ends
when the browser has drawn the frame that shows the boxes or the map. `service` is what /page/readings takes of it.
Prints a table and, as the last line, one JSON object.
"""

import argparse
import base64
import json
import sys
import tempfile
import time
from pathlib import Path

import cv2
import httpx
import numpy as np
from playwright.sync_api import Page
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from cxr.phantom.cases import SCREENING, render_frontal, sample_findings, sample_patient
from cxr.phantom.dicom import DicomFacts, write_dicom
from tests.stage3_detect.serving.page.browsing import DROP, browsing, serving

SIZE_WH = (2500, 3000)

POINT = """async (finding) => {
  const start = performance.now();
  document.querySelector(`.finding[data-finding="${finding}"]`).dispatchEvent(new PointerEvent("pointerenter"));
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  const took = performance.now() - start;
  if (document.querySelector(".tile").dataset.map !== finding) throw new Error(`no map of ${finding}`);
  document.getElementById("findings").dispatchEvent(new PointerEvent("pointerleave"));
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  return took;
}"""
PAINTED = "() => performance.getEntriesByName('raybox:drop-to-boxes').map((entry) => entry.duration)"
MAPPED = "async () => [...((await import('/static/main.js')).app.readings[0].maps ?? new Map()).keys()]"


def write_image(path: Path) -> Path:
    """A phantom radiograph with findings, enlarged, with noise."""
    rng = np.random.default_rng(8)
    case = render_frontal(sample_patient(rng), sample_findings(rng, normal_share=0), SCREENING, rng=rng)
    picture = cv2.resize(case.picture, SIZE_WH, interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture + rng.normal(0, 0.006, picture.shape), 0, 1).astype(np.float32)
    write_dicom(path, picture, DicomFacts(path.stem, "F", 60, inverted=True, low=100, high=3900, pixel_spacing_mm=0.14))
    return path


def service_ms(address: str, path: Path, repeats: int) -> list[float]:
    """What the page's own request takes, from this process."""
    times = []
    with httpx.Client(timeout=60) as client:
        for _ in range(repeats):
            begin = time.perf_counter()
            files = {"file": (path.name, path.read_bytes())}
            client.post(f"{address}/page/readings", files=files).raise_for_status()
            times.append(1000 * (time.perf_counter() - begin))
    return times


def drop_ms(page: Page, path: Path, repeats: int) -> list[float]:
    """From the drop to the frame with the boxes; the first time is left out, it loads code."""
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()]]
    for index in range(repeats + 1):
        page.evaluate(DROP, ["body", files])
        while len(page.evaluate(PAINTED)) <= index:
            page.wait_for_timeout(20)
        wait_for_maps(page)
    return list(page.evaluate(PAINTED))[1:]


def wait_for_maps(page: Page) -> list[str]:
    """Findings with a map."""
    for _ in range(3000):
        names = list(page.evaluate(MAPPED))
        if names:
            return names
        page.wait_for_timeout(20)
    raise SystemExit("the service gave no heat maps in 60 s")


def point_ms(page: Page, repeats: int) -> list[float]:
    """From pointing at a finding to the frame with its map, over all findings."""
    names = wait_for_maps(page)
    shown = [name for name in names if page.locator(f".finding[data-finding='{name}']").count()]
    return [float(page.evaluate(POINT, name)) for _ in range(repeats) for name in shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished stage 3 run, or a bundle")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="of the detector's engine")
    given = parser.parse_args()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        path = write_image(Path(folder) / "large.dcm")
        with serving(given.run, "--maps", "--threads", str(given.threads)) as address:
            page = browser.new_page(viewport={"width": 1920, "height": 1080})
            page.goto(address)
            page.locator(".finding").first.wait_for()
            times["drop_to_boxes"] = drop_ms(page, path, given.repeats)
            times["point_to_map"] = point_ms(page, given.repeats)
            times["service"] = service_ms(address, path, given.repeats)
    table = Table("what", "median ms", "95th percentile ms", "most ms", title="Reading page, 3000 x 2500 DICOM")
    figures: dict[str, float] = {"repeats": given.repeats, "threads": given.threads}
    for name, values in times.items():
        three = [float(np.quantile(values, share)) for share in (0.5, 0.95, 1)]
        table.add_row(name, *(f"{value:.0f}" for value in three))
        figures |= {f"{name}_ms/{part}": value for part, value in zip(("median", "p95", "max"), three, strict=True)}
    Console(width=100).print(table)
    Console(width=10_000).print(json.dumps(figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()
