"""A bundle in memory: the detector on its fastest engine, and the classifier's heat maps."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from cxr.labels.codes import codes_of_json
from eval.detection.points import read_points
from stage3_detect.image_quality.gate import open_gate
from stage3_detect.image_quality.verdict import DEFAULT_MODE, GateMode, Quality
from stage3_detect.model.engines import open_exported
from stage3_detect.model.network import Network, RawOutput
from stage3_detect.model.predictor import BoxPredictor, FoundBox, PredictorFacts
from stage3_detect.prediction.points import open_point, shared_confidence
from stage3_detect.serving.interface import DecodedImage, FindingMap, ModelFacts
from stage3_detect.serving.model.bundle import Bundle, open_bundle
from stage3_detect.serving.model.manifest import MODEL_CARD
from stage3_detect.serving.model.maps import BLANK, open_maps

_PACKAGES = {"onnx": "onnxruntime", "tensorrt_fp16": "tensorrt"}
"""Format -> the package that it needs; the others need OpenVINO."""

log = logging.getLogger("raybox")


class BundleModel:
    """A `ServedModel` made from a bundle. One image at a time is in the network; several may be prepared meanwhile."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        maps: bool = False,
        points: str | None = None,
        num_threads: int = 0,
        quality_gate: GateMode = DEFAULT_MODE,
    ) -> None:
        """Load the detector and, with `maps`, the classifier, and run the detector.

        Raises:
            UserError: the bundle has no engine that runs here, no such operating point, or no classifier for the maps.
        """
        manifest = bundle.manifest
        format, network = open_engine(bundle, num_threads=num_threads)
        gate = manifest.get("quality_gate")
        self._gate = open_gate(bundle.file(gate["file"]) if gate else None, mode=quality_gate)
        predictor_facts = PredictorFacts.of_manifest(manifest)
        self._predictor = BoxPredictor(LockedNetwork(network), predictor_facts)
        self._points = read_points(manifest.get("operating_points", {}))
        self._default = open_point(manifest, points)
        self._points.setdefault(self._default.name, self._default)
        regions = self._predictor.regions
        self._maps = open_maps(bundle, regions=regions, num_threads=num_threads) if maps else None
        shared = {name: shared_confidence(point, predictor_facts.confidence) for name, point in self._points.items()}
        self.facts = ModelFacts(
            **_described(bundle),
            format=format,
            points=self._points,
            point_confidences={name: value for name, value in shared.items() if value is not None},
            default_point=self._default.name,
            map_method="" if self._maps is None else self._maps.method,
            quality_gate=quality_gate,
        )
        self._warm_up()

    def detect(self, image: DecodedImage, point: str | None = None) -> list[FoundBox]:
        """All boxes, highest score first.

        Raises:
            UserError: there is no such operating point.
        """
        chosen = self._default if point is None else self._points.get(point)
        if chosen is None:
            raise UserError(f"point {point!r}: expected one of {', '.join(self._points)}")
        return self._predictor.predict(image.pixels, chosen)

    def quality(self, image: DecodedImage) -> Quality:
        """Whether an image is suited to the detector, and if not, why."""
        return self._gate.check(image.pixels)

    def maps(self, image: DecodedImage) -> list[FindingMap]:
        """A map for each finding of the classifier; empty where no maps are served.

        Raises:
            MapsError: the maps could not be loaded.
        """
        if self._maps is None:
            return []
        maps = self._maps.maps(image.pixels)
        if self._maps.method != self.facts.map_method:  # what was expected could not be loaded
            self.facts = replace(self.facts, map_method=self._maps.method)
        return maps

    def _warm_up(self) -> None:
        """The first passes through a network select its kernels."""
        for _ in range(2):
            self.detect(DecodedImage("", b"", BLANK))


class LockedNetwork:
    """A network that several threads may call; one at a time runs it."""

    def __init__(self, network: Network) -> None:
        self._network, self._lock = network, Lock()
        self.findings, self.channels, self.image_px = network.findings, network.channels, network.image_px

    def __call__(self, net_image: NetImage) -> RawOutput:
        with self._lock:
            return self._network(net_image)


def open_model(
    path: Path,
    *,
    maps: bool = False,
    points: str | None = None,
    num_threads: int = 0,
    quality_gate: GateMode = DEFAULT_MODE,
) -> BundleModel:
    """The model of a bundle, or of a stage 3 run.

    Args:
        maps: also load the classifier for heat maps.
        points: name of the operating point that shows boxes where a request names none, or a score. None: as
            `open_point`.
        num_threads: of each engine; 0 uses all cores.
        quality_gate: what happens to unsuitable images.

    Raises:
        UserError: as `open_bundle` and `BundleModel`.
    """
    bundle = open_bundle(path)
    return BundleModel(bundle, maps=maps, points=points, num_threads=num_threads, quality_gate=quality_gate)


def open_engine(bundle: Bundle, *, num_threads: int) -> tuple[str, Network]:
    """The fastest engine of the bundle that this machine can run, and its format; the reasons of others are logged.

    Raises:
        UserError: there is none.
    """
    reasons: list[str] = []
    for engine in bundle.manifest["engines"]:
        name = str(engine["format"])
        package = _PACKAGES.get(name, "openvino")
        if find_spec(package) is None:
            reasons.append(f"{name} needs the package {package}")
            continue
        try:
            network = open_exported(name, bundle.file(engine["file"]), num_threads=num_threads)
            _require_fit(network, bundle, engine["file"])
            return name, network
        except UserError as error:
            reasons += error.problems
            log.warning("%s", "; ".join(error.problems))
    raise UserError(f"bundle {bundle.dir}: no engine runs on this machine: {'; '.join(reasons) or 'it has none'}")


def _require_fit(network: Network, bundle: Bundle, file: str) -> None:
    """Refuse (UserError) a network whose classes or whose output are not what bundle.json says."""
    findings = tuple(bundle.manifest["findings"])
    if tuple(network.findings) != findings:
        raise UserError(
            f"bundle {bundle.dir}: {file} finds {', '.join(network.findings)}, but bundle.json names "
            f"{', '.join(findings)}; write the bundle again"
        )
    output = network(np.zeros((network.image_px, network.image_px), dtype=np.uint8))
    is_nms_free = bool(bundle.manifest["settings"]["predict"].get("nms_free"))
    num_values, expected = (output.shape[1], 6) if is_nms_free else (output.shape[0], 4 + len(findings))
    if num_values != expected or not np.isfinite(output).all():
        raise UserError(
            f"bundle {bundle.dir}: {file} gives {num_values} values for a box, expected {expected} finite ones; write "
            "the bundle again"
        )


def _described(bundle: Bundle) -> dict[str, Any]:
    """Fields of `ModelFacts` that do not depend on what is loaded."""
    manifest = bundle.manifest
    parents: dict[str, Sequence[str]] = {name: tuple(above) for name, above in manifest["parents"].items()}
    return {
        "id": str(manifest["id"]),
        "name": str(manifest["name"]),
        "findings": tuple(manifest["findings"]),
        "parents": parents,
        "codes": codes_of_json(manifest.get("codes", {})),
        "manifest_sha256": bundle.sha256,
        "licence": str(manifest["licence"]),
        "card": bundle.file(MODEL_CARD).read_text(encoding="utf-8", errors="replace"),
        "synthetic": bool(manifest.get("synthetic")),
    }
