"""Read structured reports that readers edited in a DICOM viewer into a folder of corrections.

    python stage3_detect/dicom_corrections.py edited/ results/ --run runs/mine/stage3 --images /data --out corrections

Give the reports of raybox too: they say what the readers changed. The folder is that of the reading page
(corrections.json is COCO with reader ids); stage3_detect/corrections.py turns it into training data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reports = "structured reports, or folders of them: those that were edited, and those that raybox wrote"
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORTS", help=reports)
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="stage 3 run or bundle of the model")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="the images, as DICOM files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of corrections, new or not")
    reader = "id of the reader, instead of the name in each report"
    parser.add_argument("--reader", metavar="ID", help=reader)
    complete = "the readers read the whole images: a finding without a box is absent"
    parser.add_argument("--complete", action="store_true", help=complete)
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Save the readings and print what to do next."""
    from stage3_detect.labels.edited_reports import Call, save_readings  # pydicom and pandas take a second

    sys.stdout.write(save_readings(Call(**vars(given) | {"reports": tuple(given.reports)})) + "\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
