"""A few test images as files: radiograph and heat map, for pages that show an image's way through all stages."""

import json
from pathlib import Path

from cxr.runs.run_folder import atomic_write_text
from eval.leaderboard.chain_pictures import EXAMPLES_FILE
from eval.report.pictures import save_jpeg
from stage2_pseudolabel.evaluation.gallery import Example, radiograph, ranked_examples, shown_findings
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.split_data import SplitData

NUM_EXAMPLES, LONGER_SIDE_PX = 5, 420
CHOICE = (
    f"One test image for each finding, at most for the {NUM_EXAMPLES} most frequent: the one on which the CAM box "
    "with the highest score has the median IoU with the true boxes. Half of the images are better and half are worse."
)


def write_examples(run_dir: Path, test: SplitData, entry: CamEntry) -> Path:
    """Write `examples.json` and its pictures; returns the path of the JSON file.

    The file names image, finding and method, and the paths of radiograph and heat map, relative to `run_dir`. Each map
    is scaled to its own maximum. entry: whose maps and boxes are shown.
    """
    chosen = median_examples(test, entry, NUM_EXAMPLES)
    files = [_write_pictures(run_dir, test, entry, one) for one in chosen]
    content = {"choice": CHOICE, "examples": files}
    path = run_dir / EXAMPLES_FILE
    atomic_write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def median_examples(test: SplitData, entry: CamEntry, number: int) -> list[Example]:
    """For each of the most frequent findings the image nearest to the median IoU; no image twice where possible."""
    chosen: list[Example] = []
    for column in shown_findings(test, number):
        ranked = ranked_examples(test, entry, column)
        middle, used = (len(ranked) - 1) / 2, {one.row for one in chosen}
        order = sorted(range(len(ranked)), key=lambda place: (ranked[place].row in used, abs(place - middle)))
        chosen.append(ranked[order[0]])
    return chosen


def _write_pictures(run_dir: Path, test: SplitData, entry: CamEntry, one: Example) -> dict[str, str]:
    method = entry.methods[one.column]
    cam = test.maps.of(method)[one.row, one.column]
    names = [f"pictures/examples/{one.column}_{kind}.jpg" for kind in ("radiograph", "map")]
    for name, own in zip(names, (None, cam), strict=True):
        save_jpeg(run_dir / name, radiograph(test, one.row, own, longer_side_px=LONGER_SIDE_PX))
    return {
        "image_id": str(test.truth.images["image_id"].iloc[one.row]),
        "finding": test.truth.findings[one.column],
        "method": method,
        "radiograph": names[0],
        "heat_map": names[1],
    }
