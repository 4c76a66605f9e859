"""Measure the labeller of reports on your own sentences: F1 for mention, negation, uncertainty, side and zone.

    python stage1_classify/score_reports.py sentences.csv

SENTENCES.csv has the columns text and labels, optionally language and kind; docs/reports.md shows how to write them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import add_encoding_option, exit_code


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", type=Path, metavar="SENTENCES.csv", help="texts with their expected labels")
    add_encoding_option(parser)
    own = "label file with your own findings and synonyms (docs/data.md)"
    parser.add_argument("--label-file", type=Path, metavar="FILE", help=own)
    parser.add_argument("--mistakes", action="store_true", help="also print each text with a mistake")
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Label the sentences and print the figures."""
    from eval.report.text_tables import print_tables
    from stage1_classify.reports.score_tables import mistakes_of, score_file  # edsnlp takes seconds, --help needs none

    answers, tables = score_file(given.sentences, own=given.label_file, encoding=given.encoding)
    print_tables(tables)
    if given.mistakes:
        sys.stdout.write("\n".join(mistakes_of(answers)) + "\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
