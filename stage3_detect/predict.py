"""Find boxes on radiographs: PNG, JPEG or DICOM files or folders in, COCO JSON and pictures with the boxes out.

    python stage3_detect/predict.py runs/phantom/stage3 scans/ one.dcm --out found

For research only, not for diagnosis.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code
from cxr.imaging.shards import Split, add_shard_options


class _Renamed(argparse.Action):
    """Refuses an option that has a new name."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.error(f"{self.option_strings[0]} is now called --format")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="finished stage 3 run")
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGES", help="files, or folders (searched recursively)"
    )
    where = "new folder for the results (default: predictions/<name of the first of IMAGES> next to RUN)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)
    formats = "pytorch, or an exported format: onnx, openvino_fp32, openvino_fp16, openvino_int8, tensorrt_fp16"
    default = " (default: on a CPU the fastest exported one that passed its checks, as in the service, else pytorch)"
    parser.add_argument("--format", help=formats + default)
    parser.add_argument("--form", action=_Renamed, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    devices = "auto, cpu, mps or a CUDA number, for pytorch and tensorrt_fp16; other formats run on the CPU (auto)"
    parser.add_argument("--device", default="auto", help=devices)
    points = (
        "threshold for shown boxes: an operating point of the run or a score (default: half_fp, else f1, else 0.25)"
    )
    parser.add_argument("--points", metavar="NAME|SCORE", help=points)
    problem = "if files cannot be read: continue, then exit with 2 (error, the default) or with 0 (exclude)"
    parser.add_argument("--on-problem", choices=("error", "exclude"), default="error", help=problem)
    dicom = "write DICOM results of DICOM files to DIR: structured report, presentation state, secondary capture"
    parser.add_argument("--dicom", type=Path, metavar="DIR", help=dicom)
    sr_class = "SOP class of the report; comprehensive_3d is what IHE AIR asks for (default: comprehensive)"
    parser.add_argument(
        "--sr-class", choices=("comprehensive", "comprehensive_3d"), default="comprehensive", help=sr_class
    )
    capture = "pixels of the secondary capture: 8 bits in colour, or size and bits of the image (default: colour)"
    parser.add_argument("--capture", choices=("colour", "grey"), default="colour", help=capture)
    gate = "unsuitable images: show no box (abstain, the default), warn, or off"
    parser.add_argument("--quality-gate", choices=("abstain", "warn", "off"), default="abstain", help=gate)
    add_shard_options(parser)
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="write predictions.json only")
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Find the boxes and print one line about the result."""
    from stage3_detect.prediction.call import Call  # torch takes seconds, --help needs none
    from stage3_detect.prediction.files import predict_files
    from stage3_detect.prediction.shards import predict_in_shards

    split = Split.of(given)
    call = Call(**vars(given) | {"images": tuple(given.images), "shard": split.shard})
    summary = predict_files(call) if split.count is None else predict_in_shards(call, split.count, split.cluster)
    sys.stdout.write(summary + "\n")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
