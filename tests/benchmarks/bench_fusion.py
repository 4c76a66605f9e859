"""What boxes of the CAM teacher add to those of the detector at prediction time.

    python tests/benchmarks/bench_fusion.py STAGE2_RUN STAGE3_RUN [STAGE3_RUN ...] [--iou 0.5]

Boxes of one finding that overlap by more than the IoU are fused (weighted boxes fusion); the score of a fused box is
the mean over the two of their strongest box there, 0 for the one without. Nothing is tuned. The runs of stage 3 are
trainings of one detector that differ in the seed. Prints AP40 on the test split, of each training and of their mean,
and paired differences of the means; as the last line, one JSON object.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cxr.boxes import CORNERS, fused_clusters
from cxr.coco import CocoBoxes, boxes_table, read_coco
from cxr.runs.run_folder import open_run
from eval.experiments.comparison import Figures, mean_of
from eval.report.format import estimate_text
from stage3_detect.experiments.scores import DetectionScorer

NUM_RESAMPLES = 1000


def fused(sources: list[CocoBoxes], *, iou: float) -> CocoBoxes:
    """The boxes of several sources on the same images as one."""
    boxes = pd.concat([one.boxes.assign(source=place) for place, one in enumerate(sources)], ignore_index=True)
    groups = boxes.groupby(["image_id", "finding"], sort=False).ngroup().to_numpy(dtype=np.int64)
    scores = boxes["score"].to_numpy(dtype=np.float64)
    cluster, corners = fused_clusters(boxes[CORNERS].to_numpy(), scores, groups, iou=iou)
    strongest = np.zeros((len(corners), len(sources)))
    np.maximum.at(strongest, (cluster, boxes["source"].to_numpy()), scores)
    first = boxes.iloc[np.unique(cluster, return_index=True)[1]]
    names = zip(first["image_id"], first["finding"], strict=True)
    rows = [
        (*own, *box, score) for own, box, score in zip(names, corners.tolist(), strongest.mean(axis=1), strict=True)
    ]
    return sources[0].with_boxes(boxes_table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage2", type=Path)
    parser.add_argument("stage3", type=Path, nargs="+")
    parser.add_argument("--iou", type=float, default=0.5)
    arguments = parser.parse_args()
    stage2 = open_run(arguments.stage2, stage="stage2")
    scorer = DetectionScorer(stage2, read_coco(stage2.output("gt_test")), NUM_RESAMPLES)
    teacher = read_coco(stage2.output(f"detections_{stage2.manifest['best_method']}"))
    runs = [open_run(path, stage="stage3") for path in arguments.stage3]
    detectors = [read_coco(run.output("detections_detector")) for run in runs]
    trainings = {
        "CAM teacher": [scorer.score(teacher)] * len(runs),
        "detector": [scorer.score(own) for own in detectors],
        "fused": [scorer.score(fused([teacher, own], iou=arguments.iou)) for own in detectors],
    }
    show(trainings)


def show(trainings: dict[str, list[Figures]]) -> None:
    """Print a row for each, with the difference of its mean to those before."""
    means = {name: mean_of(own) for name, own in trainings.items()}
    table = Table("boxes", "each training", "mean", *(f"minus {name}" for name in list(means)[:-1]))
    figures: dict[str, list[float]] = {}
    for place, (name, own) in enumerate(trainings.items()):
        gaps = [means[name].minus(means[other])[0] for other in list(means)[:place]]
        estimate = means[name].estimates()[0]
        figures[name] = [estimate.value, estimate.low, estimate.high]
        each = ", ".join(f"{one.values[0]:.3f}" for one in own)
        table.add_row(name, each, estimate_text(estimate), *(estimate_text(gap) for gap in gaps))
    Console().print(table)
    Console().print_json(json.dumps(figures), indent=None)


if __name__ == "__main__":
    main()
