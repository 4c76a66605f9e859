"""The detector on the test split beside its CAM teacher, other detectors, the priors and the human ceiling.

As in stage 2's leaderboard: all entries on the same images, in the same resamples of the patients, by the same
measures; what is chosen is chosen on the tune split.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cxr.arrays import mean_over_classes
from cxr.coco import CocoBoxes, read_coco
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun
from eval.detection.indexed import Indexed
from eval.detection.measures import box_measures
from eval.detection.operating_points import BEST_F1
from eval.stats.bootstrap import Counts, Difference, percentile_interval, resample_counts
from eval.stats.measures import Bootstrapped, bootstrap
from eval.stats.paired import compare_paired
from stage3_detect.evaluation.results import (
    DETECTOR,
    HUMAN,
    MAIN,
    PRIORS,
    TEACHER,
    Entry,
    Human,
    Judgement,
    Metrics,
)
from stage3_detect.evaluation.scores import judge_scores
from stage3_detect.evaluation.verdict import verdict
from stage3_detect.labels.sources import Sources
from stage3_detect.settings.detector import DetectSettings


def judge(
    detections: CocoBoxes,
    tune: CocoBoxes | None,
    stage2: FinishedRun,
    sources: Sources,
    settings: DetectSettings,
    beside: Mapping[str, CocoBoxes],
) -> Judgement:
    """Judge the detector's boxes.

    Args:
        detections: of `sources.test`. tune: of `sources.tune`, or None where there is nothing left to choose on.
        stage2: the run whose best method is the teacher and which has the priors' boxes.
        beside: other detectors' boxes of the same test images by name, such as "supervised".

    Raises:
        UserError: boxes beside are of other images or findings, or have the name of something else.
    """
    truth = sources.test
    _check_beside(truth, beside)
    counts = resample_counts(truth.groups, num_resamples=settings.num_resamples, seed=settings.seed)
    on_tune = None if tune is None else (tune, sources.tune)
    scores = judge_scores(detections, truth, counts, tune=on_tune)
    best_f1 = scores.point(BEST_F1)
    method = str(stage2.manifest["best_method"])
    others = {TEACHER: read_coco(stage2.output(f"detections_{method}")), **beside, **_priors(stage2)}
    entries = [_score(DETECTOR, truth, detections, counts, min_scores=best_f1.scores if best_f1 else None)]
    entries += [_score(name, truth, boxes, counts) for name, boxes in others.items()]
    main = {entry.name: entry.ap40 for entry in entries}
    detector = main.pop(DETECTOR)
    found = Judgement(
        truth=truth,
        teacher=method,
        entries=tuple(entries),
        against=compare_paired(detector, main),
        shares={name: share_of(detector, main[name]) for name in beside},
        human=_human(stage2.metrics),
        scores=scores,
        stage2=stage2.metrics,
    )
    return replace(found, verdict=verdict(found))


def _score(
    name: str,
    truth: CocoBoxes,
    boxes: CocoBoxes,
    counts: Counts,
    *,
    min_scores: Mapping[str, float] | None = None,
) -> Entry:
    measures = box_measures(Indexed(truth, boxes), min_scores=min_scores)
    return Entry(name, boxes, {measure.name: bootstrap(measure, counts) for measure in measures})


def share_of(one: Bootstrapped, whole: Bootstrapped) -> Difference:
    """Mean of the one over the mean of the whole, with the 95 % interval of the paired draws; NaN where that is 0."""
    part, total = (np.append(mean_over_classes(own.samples), own.mean) for own in (one, whole))
    shares = np.divide(part, total, out=np.full_like(part, np.nan), where=total > 0)
    interval = percentile_interval(shares[:-1])
    return Difference(float(shares[-1]), interval.low, interval.high)


def _priors(stage2: FinishedRun) -> dict[str, CocoBoxes]:
    """Those that the run has; the one without a map is there where Bayes' rule was among its box rules."""
    there = stage2.manifest["outputs"]
    return {
        name: read_coco(stage2.output(f"detections_{name}"))
        for name in PRIORS
        if f"detections_{name}" in there
    }


def _human(metrics: Metrics) -> Human | None:
    for split, name in (("test", f"{MAIN}/{HUMAN}"), ("tune", f"tune_{MAIN}/{HUMAN}")):
        if metrics.get(name) is not None:
            own = {key: value for key, value in metrics.items() if key == name or key.startswith(f"{name}/")}
            return Human(split, own)
    return None


def _check_beside(truth: CocoBoxes, beside: Mapping[str, CocoBoxes]) -> None:
    problems = []
    for name, boxes in beside.items():
        if name in (DETECTOR, TEACHER, HUMAN, *PRIORS):
            problems.append(f"compare_with.{name}: the name is taken; choose another, such as supervised")
        if boxes.findings != truth.findings:
            problems.append(
                f"compare_with.{name}: findings {', '.join(boxes.findings)}, expected {', '.join(truth.findings)}; "
                "give a run from the same stage 2 run"
            )
        missing = set(truth.images["image_id"]) ^ set(boxes.images["image_id"])
        if missing:
            problems.append(
                f"compare_with.{name}: {len(missing)} images are not in both test splits, first {min(missing)}; "
                "give a run from the same stage 2 run"
            )
    if problems:
        raise UserError(problems)
