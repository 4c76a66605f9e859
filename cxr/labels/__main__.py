"""Print all findings with their parents, their names, and what each data set says of them.

    python -m cxr.labels [LABEL_FILE]

With a label file (docs/data.md): the findings of a run that has it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code
from cxr.labels.sets import LEGEND, SETS, as_lines, sets_table
from cxr.labels.terminology import load_terminology


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cxr.labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("label_file", type=Path, nargs="?", metavar="LABEL_FILE", help="your own findings")
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Print the table and its legend."""
    lines = as_lines(sets_table(load_terminology(given.label_file)))
    sources = as_lines([[one.name, one.source] for one in SETS])
    absences = as_lines([[one.name, one.absence] for one in SETS])
    text = [*lines, "", LEGEND, "", "When a finding is absent:", *absences, "", "Sources:", *sources]
    sys.stdout.write("\n".join(text) + "\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
