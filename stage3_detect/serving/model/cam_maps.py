"""Heat maps by the CAM method that the run chain chose. Needs PyTorch; `classifier.py` is what serves without it."""

from pathlib import Path

import numpy as np

from cxr.imaging.files import Pixels, Region, cut_region
from cxr.runs.run_folder import FinishedRun
from stage2_pseudolabel.image_maps import ImageMaps
from stage3_detect.serving.interface import FindingMap
from stage3_detect.serving.model.map_grid import cut_map, to_bytes


class CamMaps:
    """Maps of one image after the other. Not thread-safe."""

    def __init__(self, stage2: FinishedRun, stage1: Path, *, regions: tuple[Region, ...]) -> None:
        """Load the classifier.

        Raises:
            UserError: a run is damaged.
        """
        self._maps = ImageMaps(stage2, stage1)
        self._regions = regions
        self.method = ", ".join(dict.fromkeys(self._maps.methods))

    def maps(self, image: Pixels) -> list[FindingMap]:
        """A map for each finding of an image (H, W)."""
        parts = [self._of_region(cut_region(image, region), region) for region in self._regions]
        probabilities = np.max([part[0] for part in parts], axis=0)
        maps = np.concatenate([part[1] for part in parts], axis=2)
        image_hw = (image.shape[0], image.shape[1])
        return [
            FindingMap(name, float(probabilities[k]), to_bytes(maps[k], image_hw))
            for k, name in enumerate(self._maps.findings)
        ]

    def _of_region(self, image: Pixels, region: Region) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (K,), and maps (K, h, w) that cover the region as it lies in the image."""
        probabilities, maps = self._maps(np.ascontiguousarray(image))
        image_hw = (image.shape[0], image.shape[1])
        area = self._maps.frame.from_image(np.array([[0, 0, image_hw[1], image_hw[0]]], dtype=np.float64), image_hw)
        cut = np.stack([cut_map(one, area[0], image_hw) for one in maps])
        return probabilities, cut[:, :, ::-1] if region == "right_mirrored" else cut
