"""Serve a detector over HTTP: images in, boxes out, with a reading page.

    python stage3_detect/serve.py runs/demo/stage3 --maps
    python stage3_detect/serve.py runs/demo/stage3 --host 0.0.0.0 --api-keys keys.txt
    python stage3_detect/serve.py --new-key keys.txt WARD3

For research only, not for diagnosis.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="finished stage 3 run, or its bundle")
    parser.add_argument("--maps", action="store_true", help="serve heat maps too")
    host = "address to listen on (default: 127.0.0.1); others, except ::1 and localhost, need --api-keys"
    parser.add_argument("--host", default="127.0.0.1", help=host)
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (default: 8000)")
    parser.add_argument("--api-keys", type=Path, metavar="FILE", help="accept only requests with a key of this file")
    new_key = "add a key to FILE, print it and end; FILE keeps only its hash"
    parser.add_argument("--new-key", nargs=2, metavar=("FILE", "NAME"), help=new_key)
    points = "show boxes from this operating point of the run, or score (default: half_fp, else f1, else 0.25)"
    parser.add_argument("--points", metavar="NAME|SCORE", help=points)
    parser.add_argument("--corrections", type=Path, metavar="DIR", help="accept corrections and save them in DIR")
    parser.add_argument("--keep-images", action="store_true", help="save corrected images too")
    parser.add_argument("--examples", type=Path, metavar="DIR", help="images that the page offers as examples")
    parser.add_argument("--truth", type=Path, metavar="COCO", help="true boxes that the page draws, by file name")
    parser.add_argument("--audit", type=Path, metavar="FILE", help="record in FILE who sent which image, by hash")
    gate = "unsuitable images: abstain (show no box), warn, or off (default: abstain)"
    parser.add_argument("--quality-gate", choices=("abstain", "warn", "off"), default="abstain", help=gate)
    records = "append a line for each image to FILE: quality, statistics, scores; for eval/run.py drift"
    parser.add_argument("--records", type=Path, metavar="FILE", help=records)
    _add_dicom(parser)
    workers = "images processed at the same time (default: 2)"
    parser.add_argument("--workers", dest="num_workers", type=int, default=2, metavar="N", help=workers)
    threads = "threads of the engine for one image (default: the engine decides)"
    parser.add_argument("--threads", type=int, default=0, metavar="N", help=threads)
    limits = "change limits, for instance max_files=4; see docs/serving.md"
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=limits)
    given = parser.parse_args(argv)
    if given.run is None and given.new_key is None:
        parser.error("give RUN, or --new-key FILE NAME")
    return given


def _add_dicom(parser: argparse.ArgumentParser) -> None:
    """Options of the DICOM network."""
    group = parser.add_argument_group("DICOM", "radiographs in by C-STORE, results out; see docs/dicom.md")
    group.add_argument("--dicom-port", type=int, metavar="PORT", help="take DICOM images on this port")
    group.add_argument("--ae", metavar="TITLE", help="own AE title (default: RAYBOX)")
    send_to = "where results go: HOST:PORT:AE, or the URL of a DICOMweb service; several are possible"
    group.add_argument("--send-to", nargs="+", action="extend", metavar="PEER", help=send_to)
    group.add_argument(
        "--dicom-host", metavar="HOST", help="address to listen on; any but loopback needs --dicom-peers"
    )
    group.add_argument("--dicom-peers", nargs="+", metavar="TITLE", help="AE titles that may send (default: all)")
    quiet = "seconds without a further image after which a study is complete (default: 5)"
    group.add_argument("--quiet-s", type=float, metavar="SECONDS", help=quiet)
    folder = "folder of the queue (default: dicom_queue)"
    group.add_argument("--dicom-queue", dest="dicom_folder", type=Path, metavar="DIR", help=folder)
    sr_class = "SOP class of reports (default: comprehensive)"
    group.add_argument("--sr-class", choices=("comprehensive", "comprehensive_3d"), help=sr_class)


def main(given: argparse.Namespace) -> None:
    """Serve until a signal, or add a key."""
    if given.new_key:
        from stage3_detect.serving.http.keys import add_key

        file, name = given.new_key
        sys.stdout.write(f"{add_key(Path(file), name)}\n")
        return
    from stage3_detect.serving.http.port import listen
    from stage3_detect.serving.settings import settings_of

    results = {"sr_class": given.sr_class} if given.sr_class else None
    settings = settings_of(vars(given) | {"results": results})
    opened = listen(settings.host, settings.port)
    from stage3_detect.serving.start import ModelOptions, start  # takes more than a second

    options = ModelOptions(given.run, given.maps, given.points, given.threads, given.quality_gate)
    start(options, settings, opened)


def run() -> int:
    """The command `raybox-serve`, which the installed package has; returns the exit code."""
    given = parse()
    return exit_code(lambda: main(given))


if __name__ == "__main__":
    sys.exit(run())
