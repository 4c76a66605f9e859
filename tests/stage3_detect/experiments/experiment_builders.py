"""Settings, hand-made stage 3 runs and a quick stand-in for run.py, for the tests of experiments."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from cxr.coco import CocoBoxes, read_coco, write_coco
from cxr.config import Settings, parse_settings
from cxr.runs.run_folder import FinishedRun, start_run
from tests.paths import ROOT

if TYPE_CHECKING:
    from stage3_detect.settings.experiments import DetectorExperimentSettings

VARIANTS: dict[str, Any] = {"good": {}, "bad": {"noise.box_weights": False}}

# Writes detections of the test split: seeds differ a little, box_weights off is bad, an lr of 9 fails.
PRETENDED = """
import sys
from pathlib import Path
sys.path.insert(0, TESTS)
from tests.stage3_detect.experiments.experiment_builders import write_run
from cxr.cli import exit_code, parse_stage_arguments
from cxr.config import Settings, UserError, load_config
from cxr.runs.run_folder import open_run, start_run

class Whatever(Settings, extra="allow"):  # stage 3's settings take seconds to import
    noise: dict = {}

def main():
    given = parse_stage_arguments("stage3", previous="stage2")
    settings = load_config(Whatever, given.config, given.overrides)
    run = start_run(given.out, stage="stage3", settings=settings, inputs={"stage2": given.sources[0]})
    with (run.dir / "began.txt").open("a") as file:
        file.write("once\\\\n")
    if settings.train.get("learning_rate") == 0.9:
        raise UserError("training: the loss is nan")
    skill = 0.9 if settings.noise.get("box_weights", True) else 0.3
    run.release()
    write_run(given.out, open_run(given.sources[0]), skill=skill, seed=settings.seed, settings=settings)

sys.exit(exit_code(main))
"""


def pretended_script(folder: Path) -> Path:
    path = folder / "script.py"
    path.write_text(f"TESTS = {str(ROOT)!r}\n{PRETENDED}".replace("\\\\n", "\\n"))
    return path


def write_base(folder: Path, **changes: Any) -> Path:
    """A stage 3 settings file for tiny trainings."""
    values = {
        "data": {"image_px": 96},
        "train": {"num_epochs": 1, "batch_size": 8, "precision": "fp32"},
        "num_resamples": 20,
        "num_gallery_images": 3,
        "num_workers": 0,
        "device": "cpu",
    }
    path = folder / "stage3.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def experiment_settings(base: Path, **changes: Any) -> "DetectorExperimentSettings":
    from stage3_detect.settings.experiments import DetectorExperimentSettings

    values = {"base": str(base), "variants": VARIANTS, "reference": "good", "num_resamples": 200}
    return parse_settings(DetectorExperimentSettings, values | changes, source="study.yaml")


def detections(truth: CocoBoxes, *, skill: float, seed: int) -> CocoBoxes:
    """Every true box is found with a chance of `skill`; else a box lies far from it."""
    rng = np.random.default_rng(seed)
    boxes = truth.boxes.copy()
    found = rng.random(len(boxes)) < skill
    boxes.loc[~found, ["x1", "x2"]] += 1000.0
    return truth.with_boxes(boxes.assign(score=np.round(rng.uniform(0.1, 0.9, len(boxes)), 3)))


def write_run(
    folder: Path, stage2: FinishedRun, *, skill: float, seed: int, settings: Settings | None = None
) -> CocoBoxes:
    """A finished stage 3 run with detections of the test split; returns them."""
    run = start_run(folder, stage="stage3", settings=settings or Settings(), inputs={"stage2": stage2.dir})
    found = detections(read_coco(stage2.output("gt_test")), skill=skill, seed=seed)
    path = folder / "coco" / "detections_detector.json"
    write_coco(path, found)
    with run.phase("training"):
        pass
    run.finish({"ap40/detector": 0.5}, {"detections_detector": path})
    return found
