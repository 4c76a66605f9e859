"""Whatever in ultralytics, ONNX Runtime and OpenVINO could reach the network or the home, off before their import."""

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
    "YOLO_VERBOSE": "false",  # its own log lines and bars; ours are drawn from callbacks
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    # ONNX Runtime's wheels send usage events and keep a device number in the home; the name of the
    # switch differs between versions
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
}
_KEYS_OF_SERVICES = ("ULTRALYTICS_API_KEY",)
"""Variables whose mere presence makes ultralytics stream a training to its platform."""

_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
_FONTS = ("Arial.ttf", "Arial.Unicode.ttf")
_SETTINGS_VERSION = "0.0.8"
_SENDERS = ("openvino_telemetry",)
"""Packages that only send usage events. OpenVINO and NNCF go without where this one cannot be imported; their own
switch (`opt_in_out --opt_out`) first sends an event, and writes into the home."""


def go_offline() -> Path:
    """Set the switches and give ultralytics a settings folder of its own; returns that folder.

    The folder is temporary and goes when the process ends. In a process that inherited the switches (a worker of a
    training on several GPUs) the parent's folder is used.
    """
    os.environ.update(_SWITCHES)
    for name in _KEYS_OF_SERVICES:
        os.environ.pop(name, None)
    for name in _SENDERS:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it now fails
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
    """Write ultralytics' settings file and the fonts it would download into `folder`/Ultralytics."""
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
    for name in _FONTS:
        shutil.copyfile(_free_font(), inner / name)


def _free_font() -> Path:
    """DejaVu Sans, which matplotlib brings along, stands in for the Arial that ultralytics fetches."""
    matplotlib = find_spec(
        "matplotlib"
    )  # found, not imported: that takes time and makes a folder in the home
    assert matplotlib is not None and matplotlib.origin is not None, "ultralytics depends on matplotlib"
    return Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def _remove_own(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # forked data-loader workers run this too
        shutil.rmtree(folder, ignore_errors=True)
