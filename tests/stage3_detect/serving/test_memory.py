"""The allocator of the service."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, threading
import numpy as np
from stage3_detect.serving.memory import keep_freed_memory

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def print_what_stays():
    before = resident_mb()
    np.ones((5000, 3000), np.float32)
    print(resident_mb() - before)

if sys.argv[1] == "keep":
    assert keep_freed_memory()
thread = threading.Thread(target=print_what_stays)
thread.start()
thread.join()
"""
IMAGE_MB = 60


def kept_mb(how: str) -> float:
    """Memory that a process holds after an image was freed in a thread."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other allocators")
def test_the_memory_of_an_image_stays_for_the_next() -> None:
    assert kept_mb("default") < IMAGE_MB / 2 < kept_mb("keep")
