"""AP40 of detectors, of the CAM teacher and of the priors, on the test split and on its bootstrap resamples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cxr.coco import CocoBoxes, read_coco
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, open_run
from eval.detection.average_precision import main_ap_measure
from eval.experiments.comparison import Figures, Trainings
from eval.experiments.plan import Runs
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import bootstrap
from stage3_detect.settings.experiments import PRIOR, TEACHER


@dataclass(frozen=True)
class DetectionScorer:
    """Scores detections on the test split of one stage 2 run, all on the same resamples.

    The figures are AP40: first the mean over the findings with true boxes, then each of `truth.findings`, NaN for a
    finding without true boxes.
    """

    stage2: FinishedRun
    truth: CocoBoxes
    num_resamples: int

    def __call__(self, runs: Mapping[str, Runs]) -> tuple[Mapping[str, Trainings], str]:
        """Figures of each variant by seed, and the test images in words. A run that variants share is scored once."""
        folders = dict.fromkeys(folder for own in runs.values() for folder in own.values())
        scored = {folder: self.score_run(folder) for folder in folders}
        by_seed = {name: {seed: scored[path] for seed, path in own.items()} for name, own in runs.items()}
        return by_seed, self.describe()

    def score(self, detections: CocoBoxes) -> Figures:
        """Raises a UserError where `detections` are of other images or findings."""
        counts = resample_counts(self.truth.groups, num_resamples=self.num_resamples)
        scored = bootstrap(main_ap_measure(self.truth, detections), counts)
        return Figures.of([scored.of(finding) for finding in (None, *scored.findings)])

    def score_run(self, folder: Path) -> Figures:
        """Score the detections of a finished stage 3 run.

        Raises:
            UserError: no finished stage 3 run, or one that was evaluated on other images.
        """
        detections = read_coco(open_run(folder, stage="stage3").output("detections_detector"))
        own, mine = (set(coco.images["image_id"]) for coco in (detections, self.truth))
        if own != mine:
            raise UserError(
                f"run {folder}: its detections are of {len(own)} images, of which {len(own & mine)} are among the "
                f"{len(mine)} test images of {self.stage2.dir}; give a run on the same stage 2 run"
            )
        return self.score(detections)

    def score_stage2(self) -> dict[str, Figures]:
        """Score the CAM teacher, which is stage 2's chosen method, and the priors, which do not look at the image."""
        names = {TEACHER: f"detections_{self.stage2.manifest['best_method']}"}
        for output in self.stage2.manifest["outputs"]:
            if output.startswith(f"detections_{PRIOR}"):
                names[output.removeprefix("detections_")] = output
        return {name: self.score(read_coco(self.stage2.output(output))) for name, output in names.items()}

    def describe(self) -> str:
        """Number of images, of patients, and of true boxes per finding."""
        boxes = self.truth.without_ignored().boxes["finding"].value_counts()
        numbers = [f"{name} {boxes.get(name, 0)}" for name in self.truth.findings]
        images = f"{len(self.truth.images)} test images of {len(set(self.truth.groups))} patients"
        return f"{images}; true boxes: {', '.join(numbers)}."
