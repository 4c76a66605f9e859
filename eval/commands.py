"""The commands of `eval/run.py`, one row each. Their modules take seconds to import, so only the given ones are."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

AddArguments = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], object]
"""Does the work; returns what the command prints last."""


@dataclass(frozen=True)
class Command:
    """help: for --help. load: imports the command; returns what adds its arguments to a parser, and what runs it."""

    help: str
    load: Callable[[], tuple[AddArguments, Run]]


def _compare() -> tuple[AddArguments, Run]:
    from eval.leaderboard.compare import compare_runs

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
        parser.add_argument("--out", type=Path, help="folder of the report (default: the runs' common folder)")

    return add, lambda given: compare_runs(given.runs, out=given.out)


def _score() -> tuple[AddArguments, Run]:
    from eval.detection.score import add_score, score_files

    return add_score, lambda given: score_files(given.gt, given.pred, out=given.out)


def _audit() -> tuple[AddArguments, Run]:
    from eval.audit.command import add_audit_arguments, write_audit

    return add_audit_arguments, write_audit


def _transfer() -> tuple[AddArguments, Run]:
    from eval.classification.transfer_report import transfer_report

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file that names the predictions")
        parser.add_argument("--out", type=Path, help="folder of the report (default: next to CONFIG, with its name)")

    return add, lambda given: transfer_report(given.config, out=given.out)


def _radiologists() -> tuple[AddArguments, Run]:
    from eval.classification.radiologists import add_radiologists_arguments, report_radiologists

    return add_radiologists_arguments, report_radiologists


def _label_forest() -> tuple[AddArguments, Run]:
    from eval.classification.label_forest_report import add_label_forest_arguments, report_label_forest

    return add_label_forest_arguments, report_label_forest


def _curves() -> tuple[AddArguments, Run]:
    from eval.experiments.curves import add_curve_arguments, report_curves

    return add_curve_arguments, report_curves


def _reproduce() -> tuple[AddArguments, Run]:
    from eval.experiments.reproduce import reproduce

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("run", type=Path, metavar="RUN", help="finished run of stage 1, 2 or 3")
        parser.add_argument("--out", type=Path, help="folder of the new run (default: RUN_again)")

    return add, lambda given: reproduce(given.run, out=given.out)


def _readers() -> tuple[AddArguments, Run]:
    from eval.readers.compare_readers import add_arguments, compare_readers

    return add_arguments, compare_readers


def _drift() -> tuple[AddArguments, Run]:
    from eval.drift.compare_records import add_drift_arguments, report_drift

    return add_drift_arguments, lambda given: report_drift(given.reference, given.current, out=given.out)


COMMANDS = {
    "compare": Command("compare finished runs of any stage in one report", _compare),
    "score": Command("score any COCO detections: AP, FROC, CorLoc, RoDeO", _score),
    "audit": Command("find leaks, broken files, suspicious labels and boxes of a data set", _audit),
    "transfer": Command("AUROC of classifiers on several data sets, as a matrix", _transfer),
    "radiologists": Command("F1 of a classifier next to that of radiologists", _radiologists),
    "label-forest": Command("predict one finding from the other labels, without images", _label_forest),
    "curves": Command("training curves of groups of runs, with bands", _curves),
    "reproduce": Command("repeat a finished run and compare metrics and files", _reproduce),
    "readers": Command("agreement of radiologists, and the human AP", _readers),
    "drift": Command("compare new images with a reference", _drift),
}
