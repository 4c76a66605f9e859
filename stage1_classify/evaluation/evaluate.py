"""The last step of every run of stage 1: calibration and thresholds on validation, figures on test, report."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.arrays import Floats
from cxr.imaging.pictures import Pictures
from cxr.labels import slug
from cxr.runs.run_folder import Run
from cxr.splits import crossing_patients, fingerprint, patients_of
from cxr.tables import Dataset
from eval.classification.calibration import fit_calibration
from eval.classification.metrics import classification_metrics
from eval.classification.operating_points import choose_thresholds, specificity_at_sensitivity, specificity_interval
from eval.report.format import json_value
from stage1_classify.data.batches import Split
from stage1_classify.data.studies import make_cases
from stage1_classify.data.targets import evaluation_targets
from stage1_classify.evaluation.failures import FILE as FAILURES
from stage1_classify.evaluation.predictions import Evidence, Scored, write_predictions
from stage1_classify.evaluation.report import ReportFacts, write_classifier_report
from stage1_classify.evaluation.report_tables import SUBGROUP_FILE as SUBGROUPS
from stage1_classify.model.probabilities import OUTPUT, save_calibration
from stage1_classify.settings.classifier import Stage1Settings

log = logging.getLogger("raybox")


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
        settings: for an ensemble those of its first member with the ensemble's `operating_point` and `seed`.
        outputs: files that exist already: weights, splits, seen.
        facts: further entries of the manifest.
    """
    assert evidence.val is not None, "nothing to fit calibration and thresholds on"
    findings, operating = settings.findings, settings.operating_point
    calibration = fit_calibration(evidence.val.targets, evidence.val.raw, operating.calibration)
    for note in calibration.notes(findings):
        log.info("%s", note)
    val, test = (Scored(part.split, part.raw, calibration.apply(part.raw)) for part in (evidence.val, evidence.test))
    thresholds = choose_thresholds(
        val.targets,
        val.probabilities,
        kind=operating.threshold,
        sensitivity=operating.sensitivity,
        fixed_at=operating.fixed_at,
    )
    files = dict(outputs) | {OUTPUT: run.dir / "calibration.json"}
    save_calibration(files[OUTPUT], calibration)
    metrics = evaluation_metrics(test, thresholds, settings)
    report = ReportFacts(
        evidence, metrics, val=val, test=test, thresholds=thresholds, calibration=calibration, phases=run.phases
    )
    write_evaluation(run, settings, report, outputs=files, facts=facts)


def write_evaluation(
    run: Run, settings: Stage1Settings, report: ReportFacts, *, outputs: Mapping[str, Path], facts: Mapping[str, Any]
) -> None:
    """Write predictions, report and, last, the manifest. settings, outputs, facts: see `finish_run`."""
    findings, thresholds = settings.findings, report.thresholds
    files = dict(outputs) | {"predictions": run.dir / "predictions.csv"}
    scored = {} if report.val is None else {"val": report.val}
    write_predictions(files["predictions"], scored | {"test": report.test}, findings, thresholds)
    files["report"] = write_classifier_report(run.dir, settings, report)
    files |= {path.stem: path for path in (run.dir / FAILURES, run.dir / SUBGROUPS)}
    entries = {"thresholds": dict(zip(findings, json_value(thresholds.tolist()), strict=True))}
    run.finish(report.metrics, files, **entries, **_provenance(report.evidence, settings), **facts)


def evaluation_metrics(test: Scored, thresholds: Floats, settings: Stage1Settings) -> dict[str, float | None]:
    """All figures of stage 1 (docs/run_folder.md), with intervals over patients."""
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
        best = specificity_at_sensitivity(labels, scores, wished)
        name = f"specificity_at_sensitivity/{slug(finding)}"
        figures |= {name: best, f"{name}/low": interval.low, f"{name}/high": interval.high}
    numbers: dict[str, float | None] = json_value(figures)
    return numbers


def _provenance(evidence: Evidence, settings: Stage1Settings) -> dict[str, Any]:
    val = None if evidence.val is None else evidence.val.split
    splits = [part for part in (evidence.train, val, evidence.test.split) if part is not None]
    excluded = [*evidence.data.excluded, *(item for part in splits for item in part.cases.left_out)]
    return {
        "findings": settings.findings,
        "thresholds_chosen_on": "val",
        "splits": {name: {"count": len(ids), "sha256": fingerprint(ids)} for name, ids in evidence.ids.items()},
        "shared_patients": len(crossing_patients(evidence.data, evidence.ids)),
        "excluded": [{"what": item.what, "reason": item.reason} for item in excluded],
        "synthetic": evidence.data.synthetic,
        "seed": settings.seed,
    }
