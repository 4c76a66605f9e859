"""Stop ultralytics, ONNX Runtime and OpenVINO from using the network, writing to the home folder or running code
of checkpoints."""

import atexit
import json
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

_SWITCHES = {
    "YOLO_OFFLINE": "true",  # no DNS probe, hence no telemetry, error reports, update checks
    "YOLO_AUTOINSTALL": "false",  # a missing package is an error, never `pip install`
    "YOLO_VERBOSE": "false",  # its own log lines and progress bars; ours come from callbacks
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "ULTRALYTICS_SAFE_LOAD": "true",  # checkpoints are pickles; code that they may hold is not run
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # ONNX Runtime's wheels send usage events and store a device id in the home folder; the variable's
    # name differs between versions
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
}
_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
_SETTINGS_VERSION = "0.0.8"


def go_offline() -> Path | None:
    """Set the environment variables and give ultralytics a temporary settings folder; returns that folder, or None
    where ultralytics is not installed.

    The folder is deleted when the process ends. A child process (a worker of a training on several GPUs) uses its
    parent's folder.
    """
    os.environ.update(_SWITCHES)
    os.environ.pop("ULTRALYTICS_API_KEY", None)  # with it, ultralytics streams the training to its platform
    # OpenVINO and NNCF work without this package, which only sends usage events; its switch (`opt_in_out --opt_out`)
    # first sends an event, and writes to the home folder
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it now fails
    if find_spec("ultralytics") is None:  # the service runs without it
        return None
    inherited = os.environ.get("RAYBOX_YOLO_CONFIG_DIR")
    if inherited and Path(inherited).is_dir():
        return Path(inherited)
    assert "ultralytics" not in sys.modules, "ultralytics was imported before stage3_detect"
    folder = Path(tempfile.mkdtemp(prefix="raybox-yolo-"))
    atexit.register(_remove_own, folder, os.getpid())
    os.environ["YOLO_CONFIG_DIR"] = os.environ["RAYBOX_YOLO_CONFIG_DIR"] = str(folder)
    write_settings(folder)
    return folder


def write_settings(folder: Path) -> None:
    """Write ultralytics' settings file, and the fonts it would download, to `folder`/Ultralytics."""
    inner = folder / "Ultralytics"
    inner.mkdir(parents=True, exist_ok=True)
    settings = {
        "settings_version": _SETTINGS_VERSION,
        "datasets_dir": str(inner / "datasets"),
        "weights_dir": str(inner / "weights"),
        "runs_dir": str(inner / "runs"),
        "uuid": "0" * 64,
        "sync": False,
        "api_key": "",
        "openai_api_key": "",
        **dict.fromkeys(_INTEGRATIONS, False),
        "vscode_msg": False,
        "openvino_msg": False,
    }
    (inner / "settings.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    # DejaVu Sans from matplotlib; importing matplotlib takes time and creates a folder in the home folder
    matplotlib = find_spec("matplotlib")
    assert matplotlib is not None and matplotlib.origin is not None, "ultralytics depends on matplotlib"
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        shutil.copyfile(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", inner / name)


def _remove_own(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # forked data-loader workers run this too
        shutil.rmtree(folder, ignore_errors=True)
