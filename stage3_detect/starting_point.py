"""What a training starts from: an architecture that ultralytics knows, or the user's weights file."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

from cxr.config import UserError
from stage3_detect.config import DetectSettings


def model_input(settings: DetectSettings) -> dict[str, Path]:
    """The weights file that the settings name, as an input of the run; none for an architecture.

    Raises:
        UserError: there is no such file or architecture. Nothing is ever downloaded.
    """
    path = Path(settings.model)
    if settings.from_weights and not path.is_file():
        raise UserError(
            f"model: no weights file {path}; nothing is downloaded, so give the path of a .pt file, or an "
            f"architecture such as yolo26n.yaml to train from scratch"
        )
    if settings.from_weights:
        return {"weights": path}
    try:
        yaml_model_load(settings.model)
    except FileNotFoundError:
        raise UserError(
            f"model: ultralytics knows no architecture {path}; try yolo26n.yaml or yolo11n.yaml"
        ) from None
    return {}


def input_channels(settings: DetectSettings) -> int:
    """Channels of the network's input: one grey channel from scratch, otherwise what the weights were trained with.

    Raises:
        UserError: the file cannot be loaded as an ultralytics detection model.
    """
    if not settings.from_weights:
        return 1
    try:
        model: Any = YOLO(settings.model).model
        return int(model.yaml.get("channels", 3))
    except (AttributeError, KeyError, TypeError, RuntimeError, OSError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model: {settings.model} is no ultralytics detection model: {reason}") from None
