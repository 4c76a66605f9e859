"""What the service needs of a model: boxes, quality and maps of one decoded image. Imports neither torch nor pandas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cxr.imaging.files import Pixels
from cxr.labels.codes import OwnCodes
from eval.detection.points import OperatingPoint
from stage3_detect.image_quality.verdict import GateMode, Quality
from stage3_detect.model.predictor import FoundBox


@dataclass(frozen=True)
class DecodedImage:
    """One uploaded image. name: as the client calls it. data: the file's bytes. pixels: (H, W), bone bright."""

    name: str
    data: bytes
    pixels: Pixels

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes, in hex. Computed when somebody asks: a large file takes as long as its decoding."""
        return sha256(self.data).hexdigest()


@dataclass(frozen=True)
class FindingMap:
    """The heat map of a finding over the whole image.

    probability: that the image shows the finding, calibrated, in [0, 1]. values: (h, w) uint8, 0 to 255 of the map's
    own range; the grid covers the image from edge to edge.
    """

    finding: str
    probability: float
    values: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ModelFacts:
    """What the service says of its model.

    parents: finding -> its ancestors, nearest first. codes: of findings whose code is that of a label file.
    manifest_sha256: identity of the bundle. format: of the detector's file, for example openvino_fp16. card: the model
    card in Markdown. map_method: "" where no maps are served. points: a threshold of infinity means that the point
    never shows the finding. point_confidences: point -> the confidence from which it shows boxes, for points with the
    same one for all findings. synthetic: trained on computer-generated images. quality_gate:
    what it does with an unsuitable image.
    """

    id: str
    name: str
    findings: tuple[str, ...]
    parents: Mapping[str, Sequence[str]]
    codes: OwnCodes
    manifest_sha256: str
    format: str
    licence: str
    card: str
    points: Mapping[str, OperatingPoint]
    point_confidences: Mapping[str, float]
    default_point: str
    map_method: str
    synthetic: bool
    quality_gate: GateMode = "off"


class MapsError(Exception):
    """The service cannot make heat maps, whatever the image. The message is a sentence for the client."""


class ServedModel(Protocol):
    """A model in memory. `detect` and `maps` may be called from several threads."""

    facts: ModelFacts

    def detect(self, image: DecodedImage, point: str | None = None) -> list[FoundBox]:
        """All boxes, highest score first. point: the operating point that decides `shown`; None is the default one."""
        ...

    def quality(self, image: DecodedImage) -> Quality:
        """Whether an image is suited to the detector, and if not, why."""
        ...

    def maps(self, image: DecodedImage) -> list[FindingMap]:
        """A map for each finding of the classifier; empty where no maps are served.

        Raises:
            MapsError: the maps could not be loaded.
        """
        ...
