"""Label chest X-ray reports in English or French: positive, negative, uncertain or not mentioned, with side and zone.

    python stage1_classify/label_reports.py reports.csv --out runs/labels

REPORTS.csv has the columns report_id and report, optionally language (en or fr; otherwise it is detected); other
columns are carried over. --columns names those of a table that calls them otherwise. The output folder gets
labels.csv, sides.csv, evidence.jsonl and report.html.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import add_encoding_option, exit_code
from cxr.threads import num_cores


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, metavar="REPORTS.csv", help="table of reports")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    columns = "columns of the table, for instance --columns report_id=Examen report='Compte rendu'"
    parser.add_argument("--columns", nargs="+", default=(), metavar="NAME=COLUMN", help=columns)
    add_encoding_option(parser)
    own = "label file with your own findings and synonyms (docs/data.md)"
    parser.add_argument("--label-file", type=Path, metavar="FILE", help=own)
    language = "language of reports whose row does not state it (default: detect it)"
    parser.add_argument("--language", choices=("en", "fr"), help=language)
    num_cpus = num_cores()
    workers = f"processes (default and at most: {num_cpus}, one per processor)"
    parser.add_argument("--workers", type=int, default=num_cpus, dest="num_workers", metavar="N", help=workers)
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Label the reports and print where the page is."""
    from stage1_classify.reports.label_table import Call, label_table  # edsnlp takes seconds, --help needs none
    from stage1_classify.reports.report_table import column_names

    columns = column_names(given.columns)
    sys.stdout.write(label_table(Call(**vars(given) | {"columns": columns})) + "\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
