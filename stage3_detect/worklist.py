"""Do the workitems of a DICOMweb worklist (UPS-RS): read their images, store the results, complete them.

    python stage3_detect/worklist.py runs/demo/stage3 http://pacs:8042/dicom-web --label CHEST-AI

For research only, not for diagnosis.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cxr.cli import exit_code
from cxr.config import parse_settings

NETWORK_TIMEOUT_S = 30.0
"""How long a server may be silent."""

log = logging.getLogger("raybox.serving")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="finished stage 3 run, or its bundle")
    parser.add_argument("worklist", metavar="URL", help="DICOMweb service with the worklist and the images")
    parser.add_argument("--label", metavar="TEXT", help="only workitems with this worklist label (default: all)")
    parser.add_argument("--send-to", metavar="PEER", help="where results go: HOST:PORT:AE or a URL (default: URL)")
    folder = "folder of the claimed workitems (default: worklist_claims)"
    parser.add_argument("--claims", type=Path, default=Path("worklist_claims"), metavar="DIR", help=folder)
    parser.add_argument(
        "--pause-s",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="pause between two searches of the worklist (default: 5)",
    )
    parser.add_argument("--once", action="store_true", help="end when no workitem is left")
    points = "show boxes from this operating point of the run, or score (default: half_fp, else f1, else 0.25)"
    parser.add_argument("--points", metavar="NAME|SCORE", help=points)
    gate = "unsuitable images: abstain (show no box), warn, or off (default: abstain)"
    parser.add_argument("--quality-gate", choices=("abstain", "warn", "off"), default="abstain", help=gate)
    return parser.parse_args(argv)


def main(given: argparse.Namespace) -> None:
    """Work until a signal, or with --once until nothing is left."""
    from stage3_detect.serving.dicom.settings import DicomSettings, require_packages

    require_packages("worklist.py")
    # slow, not needed by --help
    from stage3_detect.dicom_results.settings import ResultSettings
    from stage3_detect.serving.dicom.examination import Examiner
    from stage3_detect.serving.dicom.sender import NotSentError, open_sender
    from stage3_detect.serving.dicom.worklist import Worker
    from stage3_detect.serving.dicom.worklist_client import Worklist, WorklistError
    from stage3_detect.serving.model.bundle_model import open_model
    from stage3_detect.serving.settings import Limits

    limits = Limits()
    timeout_s = NETWORK_TIMEOUT_S
    worklist = Worklist(given.worklist, timeout_s=timeout_s, max_file_bytes=limits.max_file_bytes)
    send_to = given.send_to or given.worklist
    network = parse_settings(DicomSettings, {"port": 0, "send_to": [send_to]}, source="--send-to")
    model = open_model(given.run, points=given.points, quality_gate=given.quality_gate)
    sender = open_sender(send_to, own_ae=network.ae, timeout_s=timeout_s)
    examiner = Examiner(model, ResultSettings())
    worker = Worker(worklist, examiner, sender, given.claims, limits.max_pixels, given.label)
    while True:
        try:
            if done := worker.step():
                log.info("%d workitems completed", done)
            if given.once:
                return
        except (WorklistError, NotSentError) as error:
            log.warning("worklist %s: %s; trying again", given.worklist, error)
        sender.close_if_idle()
        time.sleep(given.pause_s)


if __name__ == "__main__":
    arguments = parse()
    sys.exit(exit_code(lambda: main(arguments)))
