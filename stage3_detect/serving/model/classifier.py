"""The bundle's classifier: probabilities and heat maps of one image, without PyTorch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from cxr.arrays import Floats
from cxr.config import UserError
from cxr.imaging.equalise import picture_of, resize_of
from cxr.imaging.files import Pixels, Region, cut_region
from cxr.imaging.settings import InputSettings
from eval.classification.calibration import Calibration
from stage3_detect.model.openvino_core import openvino_core
from stage3_detect.serving.interface import FindingMap
from stage3_detect.serving.model.map_grid import Maps, cut_map, to_bytes

_COMBINERS: Mapping[str, Callable[..., Floats]] = {"mean": np.mean, "minimum": np.min, "maximum": np.max}


class OnnxClassifier:
    """The ONNX file of `stage3_detect/export/classifier_file.py` on OpenVINO. Not thread-safe."""

    def __init__(self, path: Path, facts: Mapping[str, Any], *, regions: tuple[Region, ...], num_threads: int) -> None:
        """Load the file. facts: the bundle's entry of the classifier.

        Raises:
            UserError: the file or the entry is damaged.
        """
        try:
            self.findings: tuple[str, ...] = tuple(facts["findings"])
            self.method = str(facts["method"])
            self._settings = InputSettings(**facts["input"], cache_dir=None)
            self._combine = _COMBINERS[facts["combine"]]
            self._members = [Calibration.from_dict(entry) for entry in facts["members"]]
            self._calibration = Calibration.from_dict(facts["calibration"])
        except (KeyError, TypeError, ValueError) as error:
            reason = " ".join(repr(error).split())
            raise UserError(f"bundle {path.parent}: classifier: damaged ({reason}); write the bundle again") from None
        graph = _read_graph(path)
        self._require_fit(graph, path)
        self._regions = regions
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if num_threads:
            options["INFERENCE_NUM_THREADS"] = num_threads
        try:
            self._request = openvino_core().compile_model(graph, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise _unusable(path, error) from None

    def maps(self, image: Pixels) -> list[FindingMap]:
        """A map for each finding of an image (H, W)."""
        parts = [self._of_region(cut_region(image, region), region) for region in self._regions]
        probabilities = np.max([part[0] for part in parts], axis=0)
        maps = np.concatenate([part[1] for part in parts], axis=2)
        return [
            FindingMap(name, float(probabilities[k]), to_bytes(maps[k], (image.shape[0], image.shape[1])))
            for k, name in enumerate(self.findings)
        ]

    def _require_fit(self, graph: openvino.Model, path: Path) -> None:
        """Refuse (UserError) a file whose findings, input or output are not what bundle.json says."""
        num_findings, settings = len(self.findings), self._settings
        num_planes = 3 if settings.channels == "clahe3" else 1
        shapes = [list(port.partial_shape.get_max_shape()) for port in (*graph.inputs, *graph.outputs)]
        expected = [[1, num_planes, *settings.size_hw], [len(self._members), num_findings]]
        counts = {num_findings, *(len(own.curves) for own in (*self._members, self._calibration))}
        fits = shapes[:2] == expected and [shape[:1] for shape in shapes[2:]] == [[num_findings]]
        if not fits or counts != {num_findings} or _findings_of(graph) != self.findings:
            raise UserError(
                f"bundle {path.parent}: {path.name} and the classifier in bundle.json have other findings, sizes or "
                "calibrations; write the bundle again"
            )

    def _of_region(self, image: Pixels, region: Region) -> tuple[Floats, Maps]:
        """Calibrated probabilities (K,), and maps (K, h, w) that cover the region as it lies in the image."""
        picture = picture_of(image, self._settings)
        planes = picture[None, None] if picture.ndim == 2 else picture.transpose(2, 0, 1)[None]
        results = self._request.infer([np.ascontiguousarray(planes)])
        raw, maps = (np.array(results[place]) for place in (0, 1))
        each = [own.apply(row[None])[0] for own, row in zip(self._members, raw.astype(np.float64), strict=True)]
        probabilities = self._calibration.apply(self._combine(each, axis=0)[None])[0]
        image_hw = (image.shape[0], image.shape[1])
        net_hw = self._settings.size_hw
        covered = resize_of(self._settings, image_hw).boxes_to_net([[0, 0, image_hw[1], image_hw[0]]])
        cut = np.stack([cut_map(one, covered[0] / np.tile(net_hw[::-1], 2), image_hw) for one in maps])
        return probabilities, cut[:, :, ::-1] if region == "right_mirrored" else cut


def _read_graph(path: Path) -> openvino.Model:
    try:
        return openvino_core().read_model(path)
    except RuntimeError as error:
        raise _unusable(path, error) from None


def _findings_of(graph: openvino.Model) -> tuple[str, ...]:
    """The findings that `export_classifier` wrote into the file; empty where it has none."""
    info: Any = graph.get_rt_info()
    facts = dict(info["framework"]) if "framework" in info else {}
    return tuple(str(facts["findings"].value).split("|")) if "findings" in facts else ()


def _unusable(path: Path, error: RuntimeError) -> UserError:
    reason = str(error).strip().splitlines()[-1]
    return UserError(f"bundle {path.parent}: OpenVINO cannot load {path.name}: {reason}")
