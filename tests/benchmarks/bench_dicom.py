"""Milliseconds from a DICOM image in to its structured report out, both by C-STORE.

    python tests/benchmarks/bench_dicom.py BUNDLE [--images 40]

The service runs in a process of its own with a quiet time of 0. The clock starts with the C-STORE request, in an open
association, and stops when the peer has the report. The image is a chest radiograph of 1955 x 1841 pixels, 16 bits,
from pydicom-data, each time as a new study. Prints a line of JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import data_store
import pydicom
from pynetdicom import AE

from tests.benchmarks.dicom_kills import free_port, wait_for_port
from tests.paths import ROOT
from tests.stage3_detect.serving.dicom.nodes import Peer

WARM_UP = 5


def main(given: argparse.Namespace) -> None:
    image = pydicom.dcmread(Path(data_store.__file__).parent / "data" / "RG1_UNCR.dcm")
    pacs, port = Peer(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        where = ["--dicom-port", str(port), "--send-to", pacs.name, "--dicom-queue", folder, "--quiet-s", "0"]
        command = [sys.executable, "stage3_detect/serve.py", str(given.bundle), "--port", "0", *where]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            wait_for_port(port)
            seconds = measure(image, pacs, port, given.images + WARM_UP)[WARM_UP:]
        finally:
            process.terminate()
            process.wait(timeout=60)
            pacs.close()
    tenths = statistics.quantiles(seconds, n=20)
    result = {
        "images": len(seconds),
        "median_ms": round(1000 * statistics.median(seconds), 1),
        "p95_ms": round(1000 * tenths[-1], 1),
        "max_ms": round(1000 * max(seconds), 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def measure(image: pydicom.Dataset, pacs: Peer, port: int, count: int) -> list[float]:
    application = AE(ae_title="MODALITY")
    application.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    association = application.associate("127.0.0.1", port, ae_title="RAYBOX")
    seconds = []
    for number in range(count):
        image.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.7.{number}"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.8.{number}"
        begin = time.perf_counter()
        answer = association.send_c_store(image)
        assert answer.Status == 0
        pacs.wait(lambda files, done=number + 1: sum(file.Modality == "SR" for file in files) == done)
        seconds.append(time.perf_counter() - begin)
        pacs.wait_for(3 * (number + 1))  # the pictures of one image must not slow down the next
    association.release()
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=lambda text: Path(text).absolute(), metavar="BUNDLE")
    parser.add_argument("--images", type=int, default=40)
    main(parser.parse_args())
