"""Boxes on radiographs: files and folders of PNG, JPEG or DICOM to COCO JSON and pictures with the boxes drawn.

    python stage3_detect/predict.py runs/phantom/stage3 scans/ one.dcm --out found

For research; no diagnosis.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="finished stage 3 run")
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGES", help="files, or folders that are searched deep"
    )
    where = "new folder for the results (predictions/<name of the first of IMAGES> beside RUN)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    forms = (
        "pytorch, or a form that the run was exported to: onnx, openvino_fp32, openvino_fp16, openvino_int8, "
    )
    parser.add_argument("--form", default="pytorch", help=forms + "tensorrt_fp16 (pytorch)")
    devices = (
        "auto, cpu, mps or a CUDA number, of pytorch and tensorrt_fp16; other forms take the processor (auto)"
    )
    parser.add_argument("--device", default="auto", help=devices)
    points = "from where on boxes are shown: an operating point of the run, or a score (f1; 0.25 where it has none)"
    parser.add_argument("--points", metavar="NAME|SCORE", help=points)
    problem = "a file that cannot be read: read the others, then exit with 2 (error) or with 0 (exclude)"
    parser.add_argument("--on-problem", choices=("error", "exclude"), default="error", help=problem)
    parser.add_argument("--no-pictures", action="store_true", help="write predictions.json alone")
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Find the boxes and say in one line what was found."""
    # torch takes seconds, and --help does not need it
    from stage3_detect.prediction.files import Call, predict_files

    call = Call(
        given.run,
        tuple(given.images),
        out=given.out,
        form=given.form,
        device=given.device,
        points=given.points,
        on_problem=given.on_problem,
        pictures=not given.no_pictures,
    )
    sys.stdout.write(predict_files(call) + "\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
