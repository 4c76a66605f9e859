"""What corrections of a few training images are worth: AP40 of the detector trained with them, and without.

    python tests/benchmarks/bench_corrections.py runs/demo/stage3 --out runs/corrections [--images 25] [--seeds 0 1 2]

Needs a run on phantom images, whose true boxes are known. A program plays the radiologist through the real service: it
posts training images, and of the boxes that the service shows it accepts those with an IoU of at least .5 with a true
box, moves those of at least .1 to it, rejects the others, and draws what is missed. Each image is read completely.
`stage3_detect/corrections.py` makes the training data, and `stage3_detect/study.py` trains the run's settings with and
without it. The detectors are compared on the test split, on the same resamples of its patients. With --control, a third
one is trained with the pseudo-boxes of the same images, shown as often as the corrections and with the same weight.

Images are drawn at random, by --sample-seed, from the training images whose label affirms a finding; with --any-image
from all training images. Prints the study's tables and, as the last line, one JSON object.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import yaml

from cxr.boxes import CORNERS, iou_matrix
from cxr.coco import CocoBoxes, read_coco, write_coco
from cxr.labels import slug
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun, open_run
from stage3_detect.labels.corrections import files_of
from stage3_detect.labels.sources import in_fixed_order

STAGE3 = Path(__file__).parents[2] / "stage3_detect"
CONTROL = "control.json"
ACCEPT_IOU, MOVE_IOU = 0.5, 0.1
Box = dict[str, Any]


def decide(shown: Sequence[Box], truth: Sequence[Box]) -> list[Box]:
    """The reader's boxes. Each true box answers one box of the model, the one with the highest score first."""
    left, decided = list(truth), []
    for box in sorted(shown, key=lambda one: -one["score"]):
        given = {"finding": box["finding"], "score": box["score"]}
        same = [one for one in left if one["finding"] == box["finding"]]
        ious = iou_matrix([box["box_xyxy"]], [one["box_xyxy"] for one in same])[0].tolist() if same else []
        best = max(ious, default=0.0)
        if best >= ACCEPT_IOU:
            decided.append({**given, "action": "accepted", "box_xyxy": box["box_xyxy"]})
        elif best >= MOVE_IOU:
            true = same[ious.index(best)]["box_xyxy"]
            decided.append({**given, "action": "moved", "box_xyxy": true, "original_box_xyxy": box["box_xyxy"]})
        else:
            decided.append({**given, "action": "rejected", "box_xyxy": box["box_xyxy"]})
        if best >= MOVE_IOU:
            left.remove(same[ious.index(best)])
    return decided + [{**one, "action": "drawn", "score": None} for one in left]


def true_boxes(truth: CocoBoxes, image_id: str) -> list[Box]:
    """The true boxes of an image."""
    own = truth.boxes[truth.boxes["image_id"] == image_id]
    return [{"finding": row["finding"], "box_xyxy": [row[name] for name in CORNERS]} for row in own.to_dict("records")]


def sample(labels: CocoBoxes, number: int, *, seed: int, any_image: bool) -> dict[str, Path]:
    """Random training images: image id -> file."""
    assert labels.label_matrix is not None
    affirmed = labels.images["image_id"][(labels.label_matrix == 1).any(axis=1)]
    files = files_of(labels)
    ordered = in_fixed_order(files if any_image else affirmed, seed=seed)
    return {image_id: files[image_id] for image_id in ordered[:number]}


@contextmanager
def service(run: Path, folder: Path) -> Iterator[httpx.Client]:
    """The real service on a free port; ends with the block."""
    command = [sys.executable, STAGE3 / "serve.py", run, "--port", "0", "--corrections", folder, "--threads", "2"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = (line.split() for line in process.stdout)
        page = next(line[1] for line in lines if line and line[0] == "page:")
        with httpx.Client(base_url=page, timeout=60) as client:
            yield client
        process.send_signal(signal.SIGTERM)


def read_images(client: httpx.Client, images: dict[str, Path], truth: CocoBoxes) -> Counter[str]:
    """Read each image and post the corrections; returns the number of boxes by action."""
    actions: Counter[str] = Counter()
    for image_id, path in images.items():
        begin = time.perf_counter()
        answer = client.post("v1/detections", files={"files": (path.name, path.read_bytes())}).raise_for_status().json()
        found = answer["images"][0]
        boxes = decide([box for box in found["detections"] if box["shown"]], true_boxes(truth, image_id))
        reading = {
            "image_sha256": sha256_of(path),
            "name": path.name,
            "width_px": found["width_px"],
            "height_px": found["height_px"],
            "reader": "phantom",
            "consent": True,
            "complete": True,
            "seconds": time.perf_counter() - begin,
            "clicks": sum(box["action"] != "accepted" for box in boxes),
            "model_sha256": answer["model"]["manifest_sha256"],
            "boxes": boxes,
        }
        client.post("v1/corrections", json=reading).raise_for_status()
        actions.update(box["action"] for box in boxes)
    return actions


def train(given: argparse.Namespace, run: FinishedRun, stage2: Path) -> FinishedRun:
    """The study of all variants and seeds."""
    variants: dict[str, dict[str, Any]] = {"without": {}, "corrections": {}}
    variants["corrections"] = {"labels.corrections.path": str(given.out / "data" / "corrections.json")}
    if given.control:
        variants["control"] = {"labels.corrections.path": str(given.out / CONTROL)}
    study = {
        "base": str(run.dir / "config.yaml"),
        "overrides": {"export.formats": []},
        "seeds": given.seeds,
        "reference": "without",
        "variants": variants,
        "num_threads": 2,
    }
    config, out = given.out / "study.yaml", given.out / "study"
    config.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    call(STAGE3 / "study.py", config, "--from", stage2, "--out", out)
    return open_run(out, stage="study")


def call(*command: object) -> None:
    """Run a script of the project."""
    subprocess.run([sys.executable, *map(str, command)], check=True)


def figures(study: FinishedRun, findings: Sequence[str]) -> dict[str, float | None]:
    """AP40 of both, their difference with its interval, and each finding."""
    variants, ends = ("without", "corrections", "control"), ("", "/low", "/high")
    names = [f"ap40/{variant}{of}" for variant in variants for of in ("", "_minus_reference")]
    names += [f"ap40/{variant}/{slug(name)}" for name in findings for variant in variants]
    return {name + end: study.metrics[name + end] for name in names for end in ends if name + end in study.metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished stage 3 run on phantom images")
    parser.add_argument("--out", type=Path, required=True, help="new folder for corrections, training data and runs")
    parser.add_argument("--images", type=int, default=25)
    parser.add_argument("--sample-seed", type=int, default=0)
    parser.add_argument("--any-image", action="store_true", help="also images whose label affirms no finding")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--control", action="store_true", help="train on their pseudo-boxes shown as often, too")
    given = parser.parse_args()
    run = open_run(given.run, stage="stage3")
    stage2 = open_run(run.dir / run.manifest["inputs"]["stage2"]["path"], stage="stage2")
    truth, labels = read_coco(stage2.output("gt_train")), read_coco(stage2.output("pseudo_labels"))
    images = sample(labels, given.images, seed=given.sample_seed, any_image=given.any_image)
    folder = given.out / "corrections"
    with service(given.run, folder) as client:
        actions = read_images(client, images, truth)
    root = Path(str(truth.info["data_root"]))
    arguments = ["--run", given.run, "--images", root, "--out", given.out / "data"]
    call(STAGE3 / "corrections.py", folder, *arguments)
    own = labels.select(images).without_ignored()
    facts = own.images.assign(complete=False, num_readers=1)
    write_coco(given.out / CONTROL, replace(own, images=facts))
    study = train(given, run, stage2.dir)
    result = {"images": len(images), "actions": dict(actions), "seeds": given.seeds}
    sys.stdout.write(json.dumps(result | figures(study, truth.findings)) + "\n")


if __name__ == "__main__":
    main()
