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
            raise UserError(f"bundle {path.parent}: classifier: damaged ({error!r}); write the bundle again") from None
        self._regions = regions
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if num_threads:
            options["INFERENCE_NUM_THREADS"] = num_threads
        try:
            self._request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"bundle {path.parent}: OpenVINO cannot load {path.name}: {reason}") from None

    def maps(self, image: Pixels) -> list[FindingMap]:
        """A map for each finding of an image (H, W)."""
        parts = [self._of_region(cut_region(image, region), region) for region in self._regions]
        probabilities = np.max([part[0] for part in parts], axis=0)
        maps = np.concatenate([part[1] for part in parts], axis=2)
        return [
            FindingMap(name, float(probabilities[k]), to_bytes(maps[k], (image.shape[0], image.shape[1])))
            for k, name in enumerate(self.findings)
        ]

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
