"""Where a training starts from: an architecture of ultralytics, or a weights file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - before ultralytics, see stage3_detect/__init__.py
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from cxr.config import UserError
from stage3_detect.labels.yolo_folder import CHANNELS
from stage3_detect.model.checkpoint import read_network
from stage3_detect.settings.detector import Stage3Settings

_ADVICE = "give a .pt file of a YOLO detection network that was trained with ultralytics"


def weights_input(settings: Stage3Settings) -> dict[str, Path]:
    """The weights file of `settings.model` as an input of the run; empty for an architecture.

    The network always has one grey input channel. When ultralytics loads a file for colours it sums the filters of the
    first convolution, which gives the same output for a grey picture. Classes with other names start untrained.

    Raises:
        UserError: the file or architecture does not exist, is no trainable detection network, or lacks the head that
            predict.nms_free needs. Nothing is ever downloaded.
    """
    path = Path(settings.model)
    if settings.from_weights and not path.is_file():
        raise UserError(
            f"model: no weights file {path}; nothing is downloaded, so give the path of a .pt file, or an "
            f"architecture such as yolo26n.yaml to train from scratch"
        )
    has_pair = _check_weights(path) if settings.from_weights else _check_architecture(settings.model)
    if settings.predict.nms_free and not has_pair:
        raise UserError(
            f"predict.nms_free: {settings.model} has no one-to-one head; set it to false, or use a model that has "
            "one, such as yolo26n.yaml"
        )
    return {"weights": path} if settings.from_weights else {}


def make_network(settings: Stage3Settings, findings: Sequence[str]) -> DetectionModel:
    """The network of `settings.model` with one grey input channel, as ultralytics' trainer makes it: new, or with the
    weights of the file, where what does not fit, such as the outputs of other classes, is new."""
    loaded = _read_weights(Path(settings.model)) if settings.from_weights else None
    layout = settings.model if loaded is None else loaded.yaml
    network = DetectionModel(layout, ch=CHANNELS, nc=len(findings), verbose=False)
    network.names = dict(enumerate(findings))  # before loading, because outputs of classes are found by their names
    if loaded is not None:
        network.load(loaded, verbose=False)
    return network


def _check_architecture(name: str) -> bool:
    """Whether it has a one-to-one head in addition to the one-to-many head."""
    advice = "try yolo26n.yaml or yolo11n.yaml"
    try:
        network = yaml_model_load(name)
        head = network["head"][-1][2]
    except FileNotFoundError:
        raise UserError(f"model: ultralytics has no architecture {name}; {advice}") from None
    except (KeyError, IndexError, TypeError):
        raise UserError(f"model: {name} does not describe an ultralytics network; {advice}") from None
    if head != Detect.__name__:
        raise UserError(f"model: {name} ends in {head} and is no detection network; {advice}")
    return bool(network.get("end2end"))


def _check_weights(path: Path) -> bool:
    """Whether its network has a one-to-one head in addition to the one-to-many head."""
    model = _read_weights(path)
    layers: Any = model.model if isinstance(model, DetectionModel) else [model]
    head = layers[-1]
    if type(head) is not Detect:
        raise UserError(f"model: {path} holds a {type(head).__name__}, not a detection network; {_ADVICE}")
    if model.is_fused():
        raise UserError(f"model: {path} holds a network that was fused for inference; give the unfused file")
    return getattr(head, "one2one_cv2", None) is not None


def _read_weights(path: Path) -> Any:
    """The network in a weights file. UserError as `read_network`."""
    return read_network(path, what="model", advice=_ADVICE)[0]
