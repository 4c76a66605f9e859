"""The detector on the classifier's network: its layout, and the weights that its training starts from."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from cxr.config import UserError
from cxr.runs.torch_files import save_torch
from stage1_classify.model.loading import Member, first_member
from stage1_classify.model.pyramid import load_pyramid, stages_by_stride
from stage3_detect.labels.yolo_folder import CHANNELS
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.model.classifier_features import ClassifierFeatures
from stage3_detect.settings.detector import Stage3Settings

log = logging.getLogger("raybox")

Layout = dict[str, Any]
"""An architecture as ultralytics writes it: rows of (from, repeats, layer, arguments), and other entries."""

_STRIDES = (8, 16, 32)


def classifier_start(run_dir: Path, findings: Sequence[str], settings: Stage3Settings, *, stage1: Path) -> Path:
    """Write `run_dir`/weights/start.pt, or return it where it is finished: the neck and head of `settings.model` with
    random weights, on the network of a classifier with its weights.

    Args:
        findings: of the detector.
        stage1: run folder of the classifier. Of an ensemble, the first network is taken.

    Raises:
        UserError: the classifier has no maps at strides 8 and 16, its pictures are equalised, or `layout_on`.
    """
    weights = run_dir / "weights" / "start.pt"
    if weights.is_file():
        try:
            read_checkpoint(weights, what="start", advice="it is made again")
            return weights
        except UserError as error:
            log.warning("stage3: %s", "; ".join(error.problems))
    torch.manual_seed(settings.seed)
    network = network_on(first_member(stage1), settings.model, findings)
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_torch(weights, {"model": network.eval(), "train_args": {}, "epoch": -1})
    return weights


def network_on(member: Member, architecture: str, findings: Sequence[str]) -> Any:
    """A detector with the neck and head of an architecture on a classifier's network. UserError as
    `classifier_start`."""
    backbone, own = member.model.backbone, member.input
    if own.channels != "grey" or own.clahe_clip is not None:
        raise UserError(
            "backbone.source: classifier: the classifier's pictures are equalised (CLAHE), which a detector's are not; "
            "set backbone.source to yolo and distillation.num_epochs above 0, or train a classifier without it"
        )
    stages = _stages(backbone.settings.name, stages_by_stride(backbone.settings))
    name = backbone.settings.name.partition(".")[0]
    arguments: list[Any] = [name, member.num_channels, stages, list(own.mean), list(own.std)]
    features = ClassifierFeatures(*arguments).network
    load_pyramid(features, backbone.network.state_dict())
    row, channels = [-1, 1, ClassifierFeatures.__name__, arguments], features.feature_info.channels()
    layout = layout_on(yaml_model_load(architecture), row, channels)
    network: Any = DetectionModel(layout, ch=CHANNELS, nc=len(findings), verbose=False)
    network.names = dict(enumerate(findings))
    network.model[0].network.load_state_dict(features.state_dict())
    return network


def _stages(name: str, by_stride: dict[int, int]) -> list[int]:
    """Places of the stages with strides 8, 16 and, if the classifier has one, 32."""
    missing = [str(stride) for stride in _STRIDES[:2] if stride not in by_stride]
    if missing:
        raise UserError(
            f"backbone.source: classifier: the classifier's {name} has maps at strides "
            f"{', '.join(map(str, by_stride))}, not at {' and '.join(missing)}; set backbone.source to yolo and "
            "distillation.num_epochs above 0, or train a classifier with another backbone"
        )
    return [by_stride[stride] for stride in _STRIDES if stride in by_stride]


def layout_on(layout: Layout, features: list[Any], channels: Sequence[int]) -> Layout:
    """The layout with `features`, a row whose output is a list of maps, in place of its first layers.

    Each map goes through a 1x1 convolution to the width that the layout has at this stride. What follows the
    convolutions of stride 32 (SPPF, attention) stays, and so do these convolutions themselves without a map of
    stride 32.

    Args:
        channels: of the maps at strides 8, 16 and, if there is one, 32.

    Raises:
        UserError: the backbone has not five convolutions of stride 2 and SPPF, or the neck reads other strides.
    """
    layout = copy.deepcopy(layout)
    old = layout["backbone"]
    halvings = [place for place, (_, _, layer, given) in enumerate(old) if layer == "Conv" and given[1:] == [3, 2]]
    pooling = [place for place, row in enumerate(old) if row[2] == "SPPF"]
    if len(halvings) != 5 or len(pooling) != 1:
        raise _other_architecture()
    replaced = [halvings[3] - 1, halvings[4] - 1, pooling[0] - 1][: len(channels)]
    rows, places = [features], {-1: -1}
    for number, (place, count) in enumerate(zip(replaced, channels, strict=True)):
        rows += [[0, 1, "Index", [count, number]], [-1, 1, "Conv", [old[place][3][0], 1, 1]]]
        places[place] = len(rows) - 1
    first_kept, num_rows = replaced[-1] + 1, len(old) + len(layout["head"])
    places |= {place: place - first_kept + len(rows) for place in range(first_kept, num_rows)}
    layout["backbone"] = rows + old[first_kept:]
    try:
        layout["head"] = [
            [places[sources] if isinstance(sources, int) else [places[one] for one in sources], *row]
            for sources, *row in layout["head"]
        ]
    except KeyError:
        raise _other_architecture() from None
    return layout


def _other_architecture() -> UserError:
    return UserError(
        "backbone.source: classifier replaces a backbone of five convolutions of stride 2 and SPPF, under a neck that "
        "reads strides 8, 16 and 32, as in yolov8, yolo11 and yolo26; that of model is another: set it to yolo26n.yaml"
    )
