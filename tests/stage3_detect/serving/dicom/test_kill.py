"""The DICOM node is killed under load; tests/benchmarks/dicom_kills.py does the same to the whole service, 30 times."""

import sys
from pathlib import Path

from tests.benchmarks.dicom_kills import kill_again_and_again


def test_five_kills_lose_and_double_nothing(tmp_path: Path):
    def command(port: int, peer: str) -> list[str]:
        return [sys.executable, "-m", "tests.stage3_detect.serving.dicom.small_node", str(tmp_path), str(port), peer]

    counts = kill_again_and_again(command, kills=5, seed=1)
    assert isinstance(counts["accepted"], int) and counts["accepted"] > 5
