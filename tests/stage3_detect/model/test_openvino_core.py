"""Signals still reach a process after another thread has dropped the last network."""

import subprocess
import sys

from tests.paths import ROOT

PROGRAM = """
import signal
import threading
import numpy as np
import openvino
from openvino import opset13
from stage3_detect.model.openvino_core import openvino_core

given = opset13.parameter([1, 8, 10], np.float32)
network = openvino.Model([opset13.relu(given)], [given])
held = [openvino_core().compile_model(network, "CPU", {}).create_infer_request()]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


def test_a_signal_after_the_last_network_is_gone() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
