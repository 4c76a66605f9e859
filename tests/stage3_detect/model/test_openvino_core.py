"""Signals still reach a process after another thread has dropped the last network, and no file stays in use."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13

from stage3_detect.model.openvino_core import openvino_core
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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the mapped files of a process are listed on Linux")
def test_weights_are_read_and_not_mapped(tmp_path: Path) -> None:
    given = opset13.parameter([1, 4096], np.float32)
    weights = np.random.default_rng(0).random((4096, 8), dtype=np.float32)
    product = opset13.matmul(given, opset13.constant(weights), transpose_a=False, transpose_b=False)
    openvino.save_model(openvino.Model([product], [given]), tmp_path / "a.xml", compress_to_fp16=False)
    graph = openvino_core().read_model(tmp_path / "a.xml")
    request = openvino_core().compile_model(graph, "CPU", {}).create_infer_request()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    (tmp_path / "a.bin").write_bytes(b"")
    values = np.ones((1, 4096), np.float32)
    np.testing.assert_allclose(request.infer([values])[0], values @ weights, rtol=1e-4)
