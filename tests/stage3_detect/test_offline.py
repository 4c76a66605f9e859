"""Export and quantisation reach no network and leave nothing in the home."""

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

SCRIPT = """
import socket, sys
from pathlib import Path

class NoSocket(socket.socket):
    def connect(self, address): raise SystemExit(f"tried to reach {address}")
    connect_ex = sendto = connect

def refuse(*names, **_):
    raise SystemExit(f"tried to look up {names[:2]}")

socket.socket, socket.getaddrinfo, socket.gethostbyname = NoSocket, refuse, refuse
import threading
tried = []
threading.excepthook = lambda failure: tried.append(failure)

from tests.stage3_detect.model.detector_builders import settings_of, untrained_weights
from tests.stage3_detect.stage3_builders import make_coco
import stage3_detect
from stage3_detect.export.formats import export_formats
from stage3_detect.model.engines import open_exported
from stage3_detect.export.quality import ExportReference
from stage3_detect.model.predict import predict_images

root = Path(sys.argv[1])
images = make_coco(root, "test", num_images=3, seed=0)
none = images.with_boxes(images.boxes.head(0))
settings = settings_of(formats=("openvino_int8",), num_check_images=1, num_calibration_images=2)
exports = export_formats(
    root / "out",
    untrained_weights(root / "best.pt"),
    settings,
    reference=ExportReference(images, none, settings),
    calibration=images,
)
network = open_exported("openvino_int8", exports.files["openvino_int8"], num_threads=1)
predict_images(images, network, settings.predict)
import nncf, openvino.tools.ovc
import nncf.telemetry.wrapper as wrapper
from openvino.tools.ovc import telemetry_utils
print(type(wrapper.telemetry).__module__, telemetry_utils.tm.__name__, "openvino_telemetry.main" in sys.modules, tried)
"""


def test_int8_export_sends_nothing_and_writes_nothing_into_the_home(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "work")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # NNCF's own stand-in is a mock, OpenVINO's an empty class
    assert done.stdout.strip() == "unittest.mock openvino.tools.ovc.telemetry_stub False []"
    assert list(home.rglob("*")) == []
