"""The last step of every run of stage 1: calibration and thresholds on validation, figures on test, report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr.arrays import Floats
from cxr.imaging.pictures import Pictures
from cxr.labels import slug
from cxr.runs.run_folder import Run
from cxr.splits import fingerprint, patients_of
from cxr.tables import Dataset, Exclusion
from eval.classification.calibration import Calibration, fit_calibration
from eval.classification.metrics import classification_metrics
from eval.classification.operating_points import choose_thresholds, specificity_at_sensitivity, specificity_interval
from stage1_classify.data.batches import Split
from stage1_classify.data.studies import make_cases
from stage1_classify.data.targets import evaluation_targets
from stage1_classify.evaluation.failures import FILE as FAILURES
from stage1_classify.evaluation.predictions import write_predictions
from stage1_classify.evaluation.report import ReportFacts, write_classifier_report
from stage1_classify.evaluation.report_tables import SUBGROUP_FILE as SUBGROUPS
from stage1_classify.evaluation.scored_split import Scored
from stage1_classify.model.probabilities import OUTPUT, save_calibration
from stage1_classify.settings.classifier import Stage1Settings

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class RawScores:
    """A split and its predicted probabilities (cases, K) before calibration."""

    split: Split
    raw: Floats

    @property
    def targets(self) -> Floats:
        """(cases, K) 1, 0 or NaN."""
        return self.split.targets.astype(np.float64)


@dataclass(frozen=True)
class Evidence:
    """The data that a classifier is evaluated on.

    data: the whole data set. ids: split name -> image ids of the training. val: for calibration and thresholds.
    test: for the figures. train: None for an ensemble. members: folders of the runs of an ensemble. combine: how the
    ensemble combines them.
    """

    data: Dataset
    ids: Mapping[str, list[str]]
    val: RawScores
    test: RawScores
    train: Split | None = None
    members: Sequence[str] = ()
    combine: str = ""

    @property
    def excluded(self) -> list[Exclusion]:
        """What is excluded while the data set is read and the studies are made."""
        parts = [part for part in (self.train, self.val.split, self.test.split) if part is not None]
        return [*self.data.excluded, *(item for part in parts for item in part.cases.left_out)]


def evaluation_split(data: Dataset, settings: Stage1Settings, *, progress: bool) -> Split:
    """Pictures, cases and certain targets of a split that is not used for training."""
    cases = make_cases(data, settings.views.max_views)
    targets = evaluation_targets(cases.first.labels[settings.findings], settings.labels)
    return Split(Pictures(data, settings.input, progress=progress), cases, targets)


def finish_run(
    run: Run, settings: Stage1Settings, evidence: Evidence, *, outputs: Mapping[str, Path], facts: Mapping[str, Any]
) -> None:
    """Fit calibration and thresholds, score the test split, write everything, the manifest last.

    Args:
        settings: for an ensemble those of its first member with the ensemble's `operating` and `seed`.
        outputs: files that exist already: weights, splits, seen.
        facts: further entries of the manifest.
    """
    findings = settings.findings
    calibration = _calibrate(evidence.val, settings)
    val, test = (_apply(calibration, part) for part in (evidence.val, evidence.test))
    thresholds = _thresholds(val, settings)
    metrics = _metrics(test, thresholds, settings)
    files = dict(outputs) | {OUTPUT: run.dir / "calibration.json", "predictions": run.dir / "predictions.csv"}
    save_calibration(files[OUTPUT], calibration)
    write_predictions(files["predictions"], {"val": val, "test": test}, findings, thresholds)
    report = ReportFacts(
        metrics,
        evidence.data,
        val,
        test,
        thresholds,
        calibration,
        counts={name: len(ids) for name, ids in evidence.ids.items()},
        phases=run.phases,
        train=evidence.train,
        members=evidence.members,
        combine=evidence.combine,
    )
    files["report"] = write_classifier_report(run.dir, settings, report)
    files |= {path.stem: path for path in (run.dir / FAILURES, run.dir / SUBGROUPS)}
    entries = {"thresholds": dict(zip(findings, map(_number, thresholds), strict=True))}
    run.finish(metrics, files, **entries, **_provenance(evidence, settings), **facts)


def _calibrate(val: RawScores, settings: Stage1Settings) -> Calibration:
    calibration = fit_calibration(val.targets, val.raw, settings.operating_point.calibration)
    for note in calibration.notes(settings.findings):
        log.info("%s", note)
    return calibration


def _apply(calibration: Calibration, part: RawScores) -> Scored:
    return Scored(part.split, part.raw, calibration.apply(part.raw))


def _thresholds(val: Scored, settings: Stage1Settings) -> Floats:
    operating = settings.operating_point
    return choose_thresholds(
        val.targets, val.probabilities, kind=operating.threshold, sensitivity=operating.sensitivity
    )


def _metrics(test: Scored, thresholds: Floats, settings: Stage1Settings) -> dict[str, float | None]:
    patients = patients_of(test.split.cases.first).tolist()
    metrics = classification_metrics(
        test.targets,
        test.probabilities,
        findings=settings.findings,
        thresholds=thresholds,
        groups=patients,
        seed=settings.seed,
        min_positives=settings.train.min_positives,
    )
    return metrics | _specificities(test, patients, settings)


def _specificities(test: Scored, patients: Sequence[str], settings: Stage1Settings) -> dict[str, float | None]:
    """`specificity_at_sensitivity/<slug>`: the best point of the test split's ROC, with its interval."""
    wished = settings.operating_point.sensitivity
    figures: dict[str, float | None] = {}
    for k, finding in enumerate(settings.findings):
        labels, scores = test.targets[:, k], test.probabilities[:, k]
        interval = specificity_interval(labels, scores, wished, groups=patients, seed=settings.seed)
        values = (specificity_at_sensitivity(labels, scores, wished), interval.low, interval.high)
        name = f"specificity_at_sensitivity/{slug(finding)}"
        figures |= {name + end: _number(value) for end, value in zip(("", "/low", "/high"), values, strict=True)}
    return figures


def _provenance(evidence: Evidence, settings: Stage1Settings) -> dict[str, Any]:
    return {
        "findings": settings.findings,
        "thresholds_chosen_on": "val",
        "splits": {name: {"count": len(ids), "sha256": fingerprint(ids)} for name, ids in evidence.ids.items()},
        "excluded": [{"what": item.what, "reason": item.reason} for item in evidence.excluded],
        "synthetic": evidence.data.synthetic,
        "seed": settings.seed,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
