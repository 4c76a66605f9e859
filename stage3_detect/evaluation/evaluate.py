"""The detector on the test split, compared with its CAM teacher, other detectors, the priors and the human ceiling.

As in stage 2, all entries are scored on the same images, by the same measures and in the same bootstrap resamples over
patients. Operating points and calibration are chosen on the tune split.
"""

from collections.abc import Mapping

from cxr.coco import CocoBoxes, read_coco
from cxr.config import UserError
from cxr.metrics import ReadMetrics
from cxr.runs.run_folder import FinishedRun
from eval.detection.indexed import IndexedDetections
from eval.detection.measures import box_measures
from eval.detection.points import BEST_F1
from eval.leaderboard.leaderboard import Entry, Kind, Leaderboard, bootstrapped
from eval.leaderboard.names import AP40, DETECTOR, HUMAN, PRIORS, RODEO, TEACHER
from eval.stats.bootstrap import resample_counts
from eval.stats.intervals import ratio_of
from stage3_detect.evaluation.results import Evaluation
from stage3_detect.evaluation.scores import evaluate_scores
from stage3_detect.labels.sources import Sources
from stage3_detect.settings.detector import Stage3Settings


def evaluate(
    detections: CocoBoxes,
    tune: CocoBoxes | None,
    *,
    stage2: FinishedRun,
    sources: Sources,
    settings: Stage3Settings,
    others: Mapping[str, CocoBoxes],
) -> Evaluation:
    """Score the boxes of the detector.

    Args:
        detections: on `sources.test`. tune: on `sources.tune`; None if no tune image is left to choose on.
        stage2: the run whose best method is the CAM teacher and which has the boxes of the priors.
        others: detections of other detectors by name, such as "supervised". UserError as `check_others`.
    """
    truth = sources.test
    check_others(truth, others)
    counts = resample_counts(truth.groups, num_resamples=settings.num_resamples, seed=settings.seed)
    on_tune = None if tune is None else (tune, sources.tune)
    scores = evaluate_scores(detections, truth, counts, tune=on_tune)
    best_f1 = scores.point(BEST_F1)
    teacher = str(stage2.manifest["best_method"])

    def entry(name: str, kind: Kind, boxes: CocoBoxes) -> Entry:
        min_scores = best_f1.scores if best_f1 is not None and name == DETECTOR else None
        measures = box_measures(IndexedDetections(truth, boxes), min_scores=min_scores)
        return Entry(name, kind, boxes, bootstrapped(measures, counts))

    entries = (
        entry(DETECTOR, "detector", detections),
        entry(TEACHER, "method", read_coco(stage2.output(f"detections_{teacher}"))),
        *(entry(name, "detector", boxes) for name, boxes in others.items()),
        *(entry(name, "prior", boxes) for name, boxes in _priors(stage2).items()),
    )
    more = _figures_of_stage2(stage2.metrics, teacher)
    board = Leaderboard(truth, entries, entries[0], more=more, teacher=teacher)
    shares = {name: ratio_of(board.main.ap40.of(), board.entry(name).ap40.of()) for name in others}
    return Evaluation(board, shares, scores)


def _priors(stage2: FinishedRun) -> dict[str, CocoBoxes]:
    """The priors of the run. `prior_no_map` is missing where Bayes' rule was not among its box rules."""
    outputs = stage2.manifest["outputs"]
    return {name: read_coco(stage2.output(f"detections_{name}")) for name in PRIORS if f"detections_{name}" in outputs}


def _figures_of_stage2(metrics: ReadMetrics, teacher: str) -> dict[str, float | None]:
    """The human ceiling, and RoDeO of teacher and priors, whose scores are chosen on stage 2's tune split."""
    keys = (f"{AP40}/{HUMAN}", f"tune_{AP40}/{HUMAN}")
    new_names = {key: key for key in [key for key in keys if metrics.get(key) is not None][:1]}
    new_names |= {f"{RODEO}/{name}": f"{RODEO}/{name}" for name in PRIORS}
    new_names[f"{RODEO}/{teacher}"] = f"{RODEO}/{TEACHER}"
    return {
        new + key.removeprefix(old): value
        for old, new in new_names.items()
        for key, value in metrics.items()
        if key == old or key.startswith(f"{old}/")
    }


def check_others(truth: CocoBoxes, others: Mapping[str, CocoBoxes]) -> None:
    """UserError where detections are on other images or findings than `truth`, or where their name is taken."""
    problems = []
    for name, boxes in others.items():
        if name in (DETECTOR, TEACHER, HUMAN, *PRIORS):
            problems.append(f"compare_with.{name}: the name is taken; use another, for example supervised")
        missing = set(truth.images["image_id"]) ^ set(boxes.images["image_id"])
        differences = []
        if boxes.findings != truth.findings:
            differences.append(f"findings {', '.join(boxes.findings)}, expected {', '.join(truth.findings)}")
        if missing:
            differences.append(f"{len(missing)} images are not in both test splits, first {min(missing)}")
        problems += [f"compare_with.{name}: {one}; give a run that used the same stage 2 run" for one in differences]
    if problems:
        raise UserError(problems)
