"""What CAM methods, several as one, and kinds of box rules are worth, by cross-validation within the tune split.

    python tests/benchmarks/bench_methods.py STAGE2_RUN [--methods layercam pcam] [--splits 10]

The tune patients of a finished run, whose maps must still be there, are halved at random again and again. Rules are
chosen on one half and measured on the other, both ways round. The test split is not read. Values are means and standard
deviations over the halves; halves overlap, so the deviation is not that of the mean. Prints a table and, as the last
line, one JSON object.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from cxr.coco import CocoBoxes, read_coco
from cxr.config import UserError, parse_settings
from cxr.progress import track
from cxr.runs.run_folder import FinishedRun, open_input, open_run
from eval.detection.average_precision import evaluate
from eval.detection.matching import MAIN_IOU
from eval.leaderboard.names import display_name, methods_of, single_methods
from stage1_classify.model.loading import load_trained
from stage2_pseudolabel.boxes.detect import Scored, detect
from stage2_pseudolabel.boxes.fused_rule import AnyRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.search import Tuned, fuse_tuned, tune_rules
from stage2_pseudolabel.cam_maps.parts import Part
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings


def tune_split(run: FinishedRun, names: Sequence[str]) -> tuple[SplitMaps, CocoBoxes, Frame]:
    """Maps, true boxes and frame of the run's tune split."""
    truth = read_coco(run.output("gt_tune"))
    stage1 = open_input(run, "stage1")
    if stage1 is None:
        raise UserError(f"{run.dir}: its stage 1 run is not where it was; put it back")
    trained = load_trained(stage1.dir)
    files = sorted((run.dir / "maps").glob("tune_*.npz"))
    if not files:
        raise UserError(f"{run.dir / 'maps'}: no maps of the tune split; run stage 2 again and keep them")
    parts = [Part.load(file, single_methods(names)) for file in files]
    if any(reason for part in parts for reason in part.reasons):
        raise UserError(f"{run.dir}: the tune split has images without maps; use a run without excluded images")
    columns = [trained.settings.findings.index(finding) for finding in truth.findings]
    logits = np.concatenate([part.logits for part in parts], axis=1)
    maps = {name: np.concatenate([part.maps[name] for part in parts])[:, columns] for name in parts[0].maps}
    own = trained.settings.input
    frame = Frame(own.size_hw, own.keep_aspect, tuple(run.manifest["map_shift_hw"]))
    return SplitMaps(maps, trained.probabilities_of(list(logits))[:, columns]), truth, frame


def halves(truth: CocoBoxes, num_splits: int) -> Iterator[tuple[list[int], list[int]]]:
    """Rows of the images on which rules are chosen, and of those on which they are measured."""
    patients = np.array(truth.groups)
    names = np.unique(patients)
    for seed in range(num_splits):
        half = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
        first, second = np.flatnonzero(np.isin(patients, half)), np.flatnonzero(~np.isin(patients, half))
        yield first.tolist(), second.tolist()
        yield second.tolist(), first.tolist()


def part_of(truth: CocoBoxes, rows: list[int]) -> CocoBoxes:
    images = truth.images.iloc[rows].reset_index(drop=True)
    boxes = truth.boxes[truth.boxes["image_id"].isin(images["image_id"])].reset_index(drop=True)
    return CocoBoxes(images, boxes, truth.findings, truth.info)


Values = dict[str, dict[str, list[float]]]
"""AP40 on each half: entry -> kind of rule, or "best" -> values."""


def measure(
    maps: SplitMaps, truth: CocoBoxes, frame: Frame, names: Sequence[str], *, settings: Stage2Settings, num_splits: int
) -> Values:
    stacks = {name: maps.stacks_of(name) for name in names}
    scored = {name: Scored(own[0], maps.probabilities, tuple(own[1:])) for name, own in stacks.items()}
    found: Values = {name: defaultdict(list) for name in names}
    for chosen_on, measured_on in track(list(halves(truth, num_splits)), "halves"):
        on, off = part_of(truth, chosen_on), part_of(truth, measured_on)
        tuned: dict[str, Tuned] = {}
        for name in names:
            own, other = (scored[name].of(rows, slice(None)) for rows in (chosen_on, measured_on))
            if own.further:
                tuned[name] = fuse_tuned([tuned[one] for one in methods_of(name)], own, on, frame=frame)
            else:
                tuned[name] = tune_rules(own, on, settings.boxes, frame=frame)
            kinds: dict[str, Sequence[AnyRule]] = {kind: rules for kind, (rules, _) in tuned[name].by_kind.items()}
            for kind, rules in {"best": tuned[name].rules, **kinds}.items():
                boxes = off.with_boxes(detect(other, off, rules, frame=frame))
                found[name][kind].append(evaluate(off, boxes, ious=(MAIN_IOU,)).mean_ap(MAIN_IOU))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--methods", nargs="+", help="entries of the leaderboard; default: all of the run")
    parser.add_argument("--splits", type=int, default=10)
    given = parser.parse_args()
    run = open_run(given.run, stage="stage2")
    settings = parse_settings(Stage2Settings, run.settings, source=f"run {run.dir}")
    asked = given.methods or [*settings.methods, *settings.fusions]
    names = [*single_methods(asked), *(name for name in asked if len(methods_of(name)) > 1)]
    maps, truth, frame = tune_split(run, names)
    found = measure(maps, truth, frame, names, settings=settings, num_splits=given.splits)
    ranked = sorted(names, key=lambda name: -np.mean(found[name]["best"]))
    kinds = list(found[names[0]])
    shown = Table("method", *kinds, title=f"AP40, {2 * given.splits} halves of {len(truth.images)} tune images")
    for name in ranked:
        values = (found[name][kind] for kind in kinds)
        shown.add_row(display_name(name), *(f"{np.mean(own):.3f} ± {np.std(own):.3f}" for own in values))
    Console(width=150).print(shown)
    figures = {f"{name}/{kind}": round(float(np.mean(own)), 4) for name in ranked for kind, own in found[name].items()}
    Console(width=10_000).print(json.dumps(figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()
