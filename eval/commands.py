"""The commands of `eval/run.py`, one row each."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.audit.command import add_audit_arguments, write_audit
from eval.classification.label_forest_report import add_label_forest_arguments, report_label_forest
from eval.classification.radiologists import add_radiologists_arguments, report_radiologists
from eval.classification.transfer_report import transfer_report
from eval.detection.score import add_score, score_files
from eval.drift.compare_records import add_drift_arguments, report_drift
from eval.experiments.curves import add_curve_arguments, report_curves
from eval.experiments.reproduce import reproduce
from eval.leaderboard.compare import compare_runs
from eval.readers.compare_readers import add_arguments, compare_readers


@dataclass(frozen=True)
class Command:
    """help: for --help. add_arguments: to its parser. run: does the work; returns what the command prints last."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], object]


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--out", type=Path, help="folder of the report (default: the runs' common folder)")


def _add_transfer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file that names the predictions")
    parser.add_argument("--out", type=Path, help="folder of the report (default: next to CONFIG, with its name)")


def _add_reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="finished run of stage 1, 2 or 3")
    parser.add_argument("--out", type=Path, help="folder of the new run (default: RUN_again)")


COMMANDS = {
    "compare": Command(
        "compare finished runs of any stage in one report",
        _add_compare,
        lambda given: compare_runs(given.runs, out=given.out),
    ),
    "score": Command(
        "score any COCO detections: AP, FROC, CorLoc, RoDeO",
        add_score,
        lambda given: score_files(given.gt, given.pred, out=given.out),
    ),
    "audit": Command(
        "find leaks, broken files, suspicious labels and boxes of a data set", add_audit_arguments, write_audit
    ),
    "transfer": Command(
        "AUROC of classifiers on several data sets, as a matrix",
        _add_transfer,
        lambda given: transfer_report(given.config, out=given.out),
    ),
    "radiologists": Command(
        "F1 of a classifier next to that of radiologists", add_radiologists_arguments, report_radiologists
    ),
    "label-forest": Command(
        "predict one finding from the other labels, without images", add_label_forest_arguments, report_label_forest
    ),
    "curves": Command("training curves of groups of runs, with bands", add_curve_arguments, report_curves),
    "reproduce": Command(
        "repeat a finished run and compare metrics and files",
        _add_reproduce,
        lambda given: reproduce(given.run, out=given.out),
    ),
    "readers": Command("agreement of radiologists, and the human AP", add_arguments, compare_readers),
    "drift": Command(
        "compare new images with a reference",
        add_drift_arguments,
        lambda given: report_drift(given.reference, given.current, out=given.out),
    ),
}
