"""`compare` or `reproduce` runs, `score` COCO files, `audit` a data set, measure the agreement of `readers`, the
`transfer` of classifiers between data sets or the `drift` of images."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cxr.cli import exit_code
from eval.audit.command import add_audit_arguments, write_audit
from eval.classification.transfer_report import transfer_report
from eval.detection.score import add_score, score_files
from eval.drift.compare_records import add_drift_arguments, report_drift
from eval.experiments.reproduce import reproduce
from eval.leaderboard.compare import compare_runs
from eval.readers.compare_readers import add_arguments, compare_readers


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line; argparse exits with 2 on a wrong one."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("compare", help="one table and report over finished runs")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    compare.add_argument("--out", type=Path, help="where the report goes (the runs' common folder)")
    add_score(commands.add_parser("score", help="AP of any COCO files"))
    matrix = commands.add_parser("transfer", help="AUROC of classifiers on several data sets, as a matrix")
    matrix.add_argument("config", type=Path, metavar="CONFIG", help="YAML file that names the predictions")
    matrix.add_argument("--out", type=Path, help="folder (folder next to CONFIG with its name)")
    again = commands.add_parser("reproduce", help="make a finished run again and compare")
    again.add_argument("run", type=Path, metavar="RUN", help="finished run of stage 1, 2 or 3")
    again.add_argument("--out", type=Path, help="folder of the new run (RUN_again)")
    add_audit_arguments(commands.add_parser("audit", help="is a data set whole, and can it be trusted?"))
    add_arguments(commands.add_parser("readers", help="agreement of readers, and the human AP"))
    add_drift_arguments(commands.add_parser("drift", help="do new images still look like the reference?"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 2 for a mistake of the user."""
    given = parse_arguments(argv)
    commands: dict[str, Callable[[], object]] = {
        "compare": lambda: compare_runs(given.runs, out=given.out),
        "reproduce": lambda: reproduce(given.run, out=given.out),
        "score": lambda: score_files(given.gt, given.pred, out=given.out),
        "audit": lambda: write_audit(given),
        "readers": lambda: compare_readers(given),
        "transfer": lambda: transfer_report(given.config, out=given.out),
        "drift": lambda: report_drift(given.reference, given.current, out=given.out),
    }

    def work() -> None:
        label = "" if given.command == "reproduce" else "report: "
        sys.stdout.write(f"{label}{commands[given.command]()}\n")

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
