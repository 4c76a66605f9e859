"""Kill the DICOM service under load, again and again: each accepted image must have exactly one result.

    python tests/benchmarks/dicom_kills.py BUNDLE [--kills 30] [--seed 0]

Images are sent all the time; one that was not acknowledged is sent again, as modalities do. Each kill comes a moment
after 0 to 3 images were accepted, so that a busy machine has as much to do as an idle one. After the last kill the
service runs on. Then the newest report on each study must name each accepted image once and follow on the report before
it, and each image must have one presentation state and one secondary capture. Prints one line of JSON.
"""

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from tests.paths import ROOT
from tests.stage3_detect.dicom_results.dicom_builders import IMAGE, STUDY, dicom_bytes
from tests.stage3_detect.dicom_results.viewer_rules import evidence
from tests.stage3_detect.serving.dicom.nodes import Peer, store

IMAGES_OF_A_STUDY = 3
_WAIT_S = 180


@dataclass
class Load:
    """Sends images until `stop`. accepted: SOP instance UID -> study, of acknowledged images."""

    port: int
    accepted: dict[str, str] = field(default_factory=dict)
    stop: bool = False
    number: int = 0

    def run(self) -> None:
        while not self.stop:
            study = f"{STUDY}.{self.number // IMAGES_OF_A_STUDY}"
            uid = f"{IMAGE}.{self.number}"
            try:
                statuses = store(self.port, dicom_bytes(SOPInstanceUID=uid, StudyInstanceUID=study))
            except (OSError, RuntimeError, ValueError):
                statuses = []
            if statuses == [0]:
                self.accepted[uid] = study
                self.number += 1
            else:
                time.sleep(0.05)

    def wait_for(self, number: int) -> None:
        """Until so many images are accepted."""
        end = time.monotonic() + _WAIT_S
        while len(self.accepted) < number and time.monotonic() < end:
            time.sleep(0.02)


def kill_again_and_again(command: Callable[[int, str], Sequence[str]], *, kills: int, seed: int) -> dict[str, object]:
    """Run, kill and check; returns counts. command: from the port and the destination to the command line.

    Raises:
        AssertionError: an image was lost or has two results.
    """
    rng = random.Random(seed)
    pacs, load = Peer(), Load(free_port())
    sender = threading.Thread(target=load.run, daemon=True)
    sender.start()
    try:
        for _ in range(kills):
            process = subprocess.Popen(command(load.port, pacs.name), cwd=ROOT, stdout=subprocess.DEVNULL)
            wait_for_port(load.port)
            load.wait_for(len(load.accepted) + rng.randrange(4))
            time.sleep(rng.uniform(0.05, 1.5))
            process.kill()
            process.wait()
        process = subprocess.Popen(command(load.port, pacs.name), cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_for_port(load.port)
        time.sleep(1)
        load.stop = True
        sender.join()
        pacs.wait(lambda files: is_complete(files, load.accepted), seconds=_WAIT_S)
        process.terminate()
        process.wait(timeout=60)
    finally:
        pacs.close()
    check(pacs.files, load.accepted)
    kinds = pacs.kinds()
    return {"kills": kills, "accepted": len(load.accepted), **{kind: kinds.count(kind) for kind in ("SR", "PR", "OT")}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the service did not start")


def newest(files: Sequence[Dataset]) -> dict[str, Dataset]:
    """Study -> its newest report."""
    found: dict[str, Dataset] = {}
    for file in files:
        study = str(file.StudyInstanceUID)
        if file.Modality == "SR" and (study not in found or file.InstanceNumber >= found[study].InstanceNumber):
            found[study] = file
    return found


def is_complete(files: Sequence[Dataset], accepted: dict[str, str]) -> bool:
    reports = newest(files)
    drawn = {kind: pictured(files, kind) for kind in ("PR", "OT")}
    return all(
        study in reports and uid in evidence(reports[study]) and all(uid in drawn[kind] for kind in drawn)
        for uid, study in accepted.items()
    )


def pictured(files: Sequence[Dataset], kind: str) -> dict[str, set[str]]:
    """Image -> UIDs of its results of a kind."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if file.Modality == kind == "PR":
            image = file.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
            found[str(image.ReferencedSOPInstanceUID)].add(str(file.SOPInstanceUID))
        elif file.Modality == kind:
            found[str(file.SourceImageSequence[0].ReferencedSOPInstanceUID)].add(str(file.SOPInstanceUID))
    return found


def check(files: Sequence[Dataset], accepted: dict[str, str]) -> None:
    """Nothing lost, nothing doubled."""
    images: dict[str, set[str]] = defaultdict(set)
    for uid, study in accepted.items():
        images[study].add(uid)
    reports = newest(files)
    for study, uids in images.items():
        assert evidence(reports[study]) >= uids, f"{study}: an accepted image is not in the newest report"
    for kind in ("PR", "OT"):
        found = pictured(files, kind)
        assert set(accepted) <= set(found), f"an image has no {kind}"
        assert all(len(uids) == 1 for uids in found.values()), f"an image has two {kind}"
    for study in images:
        chain = {str(f.SOPInstanceUID): f for f in files if f.Modality == "SR" and f.StudyInstanceUID == study}
        numbers = sorted(int(report.InstanceNumber) for report in chain.values())
        assert numbers == list(range(1, len(chain) + 1)), f"{study}: reports {numbers} are no chain"


def main(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def command(port: int, peer: str) -> list[str]:
            where = ["--dicom-port", str(port), "--send-to", peer, "--dicom-queue", folder, "--quiet-s", "0.3"]
            return [sys.executable, "stage3_detect/serve.py", str(given.bundle), "--port", "0", *where]

        sys.stdout.write(json.dumps(kill_again_and_again(command, kills=given.kills, seed=given.seed)) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=lambda text: Path(text).absolute(), metavar="BUNDLE")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
