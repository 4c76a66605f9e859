"""A bundle in memory: the detector on its fastest engine, and the classifier's heat maps."""

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from cxr.config import UserError
from cxr.imaging.files import Pixels
from cxr.imaging.network_input import NetImage
from cxr.runs.run_folder import FinishedRun, open_input, open_run
from eval.detection.points import read_points
from stage3_detect.model.engines import open_exported
from stage3_detect.model.network import Network, RawOutput
from stage3_detect.model.predictor import BoxPredictor, FoundBox, PredictorFacts
from stage3_detect.prediction.points import open_point
from stage3_detect.serving.bundle import Bundle, open_bundle
from stage3_detect.serving.interface import DecodedImage, FindingMap, ModelFacts

_PACKAGES = {"onnx": "onnxruntime", "tensorrt_fp16": "tensorrt"}
"""Format -> the package that it needs; the others need OpenVINO."""

log = logging.getLogger("raybox")


class MapMaker(Protocol):
    """Makes heat maps. findings, method: what it makes them of, and how."""

    findings: tuple[str, ...]
    method: str

    def maps(self, image: Pixels) -> list[FindingMap]:
        """A map for each finding of an image (H, W)."""
        ...


class BundleModel:
    """A `ServedModel` made from a bundle. One image at a time is in the network; several may be prepared meanwhile."""

    def __init__(self, bundle: Bundle, *, maps: bool = False, num_threads: int = 0) -> None:
        """Load the detector and, with `maps`, the classifier, and run both once.

        Raises:
            UserError: the bundle has no engine that runs here, or no classifier for the maps.
        """
        manifest = bundle.manifest
        format, network = open_engine(bundle, num_threads=num_threads)
        self._predictor = BoxPredictor(LockedNetwork(network), PredictorFacts.of_manifest(manifest))
        self._points = read_points(manifest.get("operating_points", {}))
        self._default = open_point(manifest, None)
        self._points.setdefault(self._default.name, self._default)
        self._map_lock = Lock()
        self._maps = open_maps(bundle, self._predictor, num_threads=num_threads) if maps else None
        self.facts = _facts(bundle, format, self._points, self._default.name, self._maps)
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

    def maps(self, image: DecodedImage) -> list[FindingMap]:
        """A map for each finding of the classifier; empty where no maps are served."""
        if self._maps is None:
            return []
        with self._map_lock:
            return self._maps.maps(image.pixels)

    def _warm_up(self) -> None:
        """The first passes through a network select its kernels."""
        blank = DecodedImage("", "", np.tile(np.arange(64, dtype=np.uint8), (80, 1)))
        for _ in range(2):
            self.detect(blank)
            self.maps(blank)


class LockedNetwork:
    """A network that several threads may call; one at a time runs it."""

    def __init__(self, network: Network) -> None:
        self._network, self._lock = network, Lock()
        self.findings, self.channels, self.image_px = network.findings, network.channels, network.image_px

    def __call__(self, net_image: NetImage) -> RawOutput:
        with self._lock:
            return self._network(net_image)


def open_model(path: Path, *, maps: bool = False, num_threads: int = 0) -> BundleModel:
    """The model of a bundle, or of a stage 3 run.

    Args:
        maps: also load the classifier for heat maps. num_threads: of each engine; 0 uses all cores.

    Raises:
        UserError: as `open_bundle` and `BundleModel`.
    """
    return BundleModel(open_bundle(path), maps=maps, num_threads=num_threads)


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
            return name, open_exported(name, bundle.file(engine["file"]), num_threads=num_threads)
        except UserError as error:
            reasons += error.problems
            log.warning("%s", "; ".join(error.problems))
    raise UserError(f"bundle {bundle.dir}: no engine runs on this machine: {'; '.join(reasons) or 'it has none'}")


def open_maps(bundle: Bundle, predictor: BoxPredictor, *, num_threads: int) -> MapMaker:
    """The maps of the run's chosen CAM method where PyTorch and the run chain are at hand, else those of the head.

    Raises:
        UserError: the bundle has no classifier.
    """
    chain = _run_chain(bundle) if find_spec("torch") is not None else None
    if chain is not None:
        from stage3_detect.serving.cam_maps import CamMaps

        try:
            return CamMaps(*chain, regions=predictor.regions)
        except UserError as error:
            log.warning("heat maps are those of the head: %s", "; ".join(error.problems))
    from stage3_detect.serving.classifier import OnnxClassifier

    entry = bundle.manifest["classifier"]
    if entry is None:
        raise UserError(
            f"--maps: the bundle {bundle.dir} has no classifier; write it again where the stage 1 run is at hand "
            "(python stage3_detect/bundle.py RUN --from STAGE1_RUN), or leave out --maps"
        )
    return OnnxClassifier(bundle.file(entry["file"]), entry, regions=predictor.regions, num_threads=num_threads)


def _run_chain(bundle: Bundle) -> tuple[FinishedRun, Path] | None:
    """The stage 2 run and the stage 1 folder behind a bundle that lies in its run; None where one is not at hand."""
    try:
        stage2 = open_input(open_run(bundle.dir.resolve().parents[1], stage="stage3"), "stage2")
    except UserError:
        return None
    stage1 = None if stage2 is None else open_input(stage2, "stage1")
    return None if stage2 is None or stage1 is None else (stage2, stage1.dir)


def _facts(bundle: Bundle, format: str, points: Any, default_point: str, maps: MapMaker | None) -> ModelFacts:
    manifest = bundle.manifest
    parents: dict[str, Sequence[str]] = {name: tuple(above) for name, above in manifest["parents"].items()}
    return ModelFacts(
        id=str(manifest["id"]),
        name=str(manifest["name"]),
        findings=tuple(manifest["findings"]),
        parents=parents,
        manifest_sha256=bundle.sha256,
        format=format,
        licence=str(manifest["licence"]),
        card=bundle.file("MODEL_CARD.md").read_text(encoding="utf-8"),
        points=points,
        default_point=default_point,
        map_method="" if maps is None else maps.method,
        synthetic=bool(manifest.get("synthetic")),
    )
