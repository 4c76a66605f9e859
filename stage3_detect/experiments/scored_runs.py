"""AP40 of trainings, teacher and priors on the test split and on its bootstrap resamples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr.arrays import Floats, mean_over_classes
from cxr.coco import CocoBoxes, read_coco
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, open_run
from eval.detection.average_precision import resampled_ap
from eval.detection.coco_ap import evaluate
from eval.experiments.variants import Figures
from eval.stats.bootstrap import resample_counts
from stage3_detect.settings.experiments import PRIOR, TEACHER

MAIN_IOU = 0.4


@dataclass(frozen=True)
class Judge:
    """The test split of one stage 2 run, which every set of detections is scored against in the same draws.

    Its figures are AP40: the mean over the findings with true boxes first, then each of `truth.findings` (NaN without).
    """

    stage2: FinishedRun
    truth: CocoBoxes
    num_resamples: int

    def figures(self, detections: CocoBoxes) -> Figures:
        """Raises a UserError where `detections` are of other images or findings."""
        matches = evaluate(self.truth, detections, ious=(MAIN_IOU,)).matches
        counts = resample_counts(self.truth.groups, num_resamples=self.num_resamples)
        once = np.ones((1, len(self.truth.images)), dtype=np.int32)
        point, draws = (resampled_ap(matches, weights, iou=MAIN_IOU) for weights in (once, counts))
        return Figures(_mean_first(point)[0], _mean_first(draws))

    def of_run(self, folder: Path) -> Figures:
        """Of a finished stage 3 run, by its detections on the test split.

        Raises:
            UserError: it is none, or was judged on other images.
        """
        detections = read_coco(open_run(folder, stage="stage3").output("detections_detector"))
        own, mine = (set(coco.images["image_id"]) for coco in (detections, self.truth))
        if own != mine:
            raise UserError(
                f"run {folder}: its detections are of {len(own)} images, of which {len(own & mine)} are among the "
                f"{len(mine)} test images of {self.stage2.dir}; give a run on the same stage 2 run"
            )
        return self.figures(detections)

    def of_stage2(self) -> dict[str, Figures]:
        """The CAM teacher, stage 2's chosen method, and the priors, which look at no picture."""
        names = {TEACHER: f"detections_{self.stage2.manifest['best_method']}"}
        for output in self.stage2.manifest["outputs"]:
            if output.startswith(f"detections_{PRIOR}"):
                names[output.removeprefix("detections_")] = output
        return {name: self.figures(read_coco(self.stage2.output(output))) for name, output in names.items()}

    def in_words(self) -> str:
        """How many images, patients and true boxes, and which findings have none."""
        boxes = self.truth.without_ignored().boxes["finding"].value_counts()
        counts = [f"{name} {boxes.get(name, 0)}" for name in self.truth.findings]
        return (
            f"{len(self.truth.images)} test images of {len(set(self.truth.groups))} patients; "
            f"true boxes: {', '.join(counts)}."
        )


def open_judge(stage2: FinishedRun, *, num_resamples: int) -> Judge:
    """The test split of a finished stage 2 run."""
    return Judge(stage2, read_coco(stage2.output("gt_test")), num_resamples)


def share_of(own: Figures, whole: Figures) -> Figures:
    """The first figure of `own` as a share of that of `whole`, in each draw; not-a-number where `whole` has none."""
    return Figures(_share(own.point[:1], whole.point[:1]), _share(own.draws[:, :1], whole.draws[:, :1]))


def _share(own: Floats, whole: Floats) -> Floats:
    return np.divide(own, whole, out=np.full_like(own, np.nan), where=whole > 0)


def _mean_first(by_class: Floats) -> Floats:
    """(R, K) -> (R, 1 + K)."""
    return np.concatenate([mean_over_classes(by_class)[:, None], by_class], axis=1)


def spread(values: Sequence[float]) -> float:
    """Standard deviation of single trainings; NaN of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
