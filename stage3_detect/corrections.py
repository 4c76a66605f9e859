"""Turn corrections from the reading page into training data for stages 1 and 3.

    python stage3_detect/corrections.py corrections --run runs/hospital/stage3 --images /data/xrays --out data/corrected

Writes corrections.json (boxes), labels.csv (labels), and settings with the commands to train. Images of the tune and
test split are left out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that serve.py was given with --corrections")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="the stage 3 run that is served")
    images = "folder with the images, searched recursively: by hash, then by name (default: those the service kept)"
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=images)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR2", help="folder to write")
    problem = "if an image is not found: stop and name all (error, the default) or leave it out (exclude)"
    parser.add_argument("--on-problem", choices=("error", "exclude"), default="error", help=problem)
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Write the folder and print what to do next."""
    from stage3_detect.labels.correction_folder import Call, make_training_folder  # pandas takes a second

    sys.stdout.write(make_training_folder(Call(**vars(given))) + "\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
