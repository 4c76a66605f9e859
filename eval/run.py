"""Commands on finished runs, files of boxes, data sets and label tables; `eval/commands.py` lists them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code
from eval.commands import COMMANDS


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line; argparse exits with 2 on a wrong one."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help)
        if name in words:
            add_arguments, run = command.load()
            add_arguments(own)
            own.set_defaults(run_command=run)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 2 for a mistake of the user."""
    given = parse_arguments(argv)

    def work() -> None:
        printed = given.run_command(given)
        sys.stdout.write(f"report: {printed}\n" if isinstance(printed, Path) else f"{printed}\n")

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
