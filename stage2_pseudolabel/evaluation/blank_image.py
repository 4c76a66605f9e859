"""A bias check: the maps of a blank image, which show what a map marks whatever the image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cxr.arrays import Float32s, Floats
from cxr.labels import slug
from eval.detection.average_precision import main_ap_measure
from eval.leaderboard.names import display_name, single_methods
from eval.report.blocks import Block, Figure, Table
from eval.report.format import Cell, estimate_text
from eval.report.pictures import as_rgb, grid, overlay_map, save_jpeg
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.cam_maps.teacher import Scales, Teacher
from stage2_pseudolabel.evaluation.faithfulness import relevance
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.split_data import SplitData

PICTURE = "pictures/blank_image.jpg"
_TILE_PX = 240


@dataclass(frozen=True, eq=False)
class BlankImage:
    """What the chosen method shows where there is nothing to see.

    methods: (K,) of the K findings. maps: K maps (h, w). typical: (K,) mean maximum of the test images' maps.
    probability: (K,) of the blank image. correlation: (K,) between the map and the mean map of the test images; NaN
    where one of them is constant. ap40: AP40 of the test images if all of them had the blank image's map.
    """

    methods: tuple[str, ...]
    maps: tuple[Float32s, ...]
    typical: Floats
    probability: Floats
    correlation: Floats
    ap40: Bootstrapped

    @property
    def figures(self) -> dict[str, float]:
        """``blank_ap40`` with its interval, ``blank_probability/<finding>`` and ``blank_correlation/<finding>``."""
        figures = bootstrap_figures("blank_ap40", self.ap40)
        for k, finding in enumerate(self.ap40.findings):
            figures[f"blank_probability/{slug(finding)}"] = float(self.probability[k])
            figures[f"blank_correlation/{slug(finding)}"] = float(self.correlation[k])
        return figures


def blank_image(teacher: Teacher, test: SplitData, best: CamEntry, *, scales: Scales | None = None) -> BlankImage:
    """The maps of an image whose pixels all have the mean of the normalisation, so that the network sees zeros.

    scales: those of the maps of `test`, see `Teacher.maps`.
    """
    assert best.tuned is not None, "a prior has no map"
    own = [torch.zeros(1, member.num_channels, *member.input.size_hw) for member in teacher.trained.members]
    found = teacher.maps(own, single_methods(best.methods), scales=scales)
    columns = [teacher.findings.index(finding) for finding in test.truth.findings]
    maps = {name: np.asarray(stack.numpy()[:, columns], dtype=np.float32) for name, stack in found.maps.items()}
    blank = SplitMaps(maps, teacher.trained.probabilities_of([one.numpy() for one in found.logits])[:, columns])
    shown = [blank.of(method)[0, k] for k, method in enumerate(best.methods)]
    of_images = [test.maps.of(method)[:, k] for k, method in enumerate(best.methods)]
    return BlankImage(
        best.methods,
        tuple(shown),
        np.array([float(stack.max(axis=(1, 2)).mean()) for stack in of_images]),
        blank.probabilities[0],
        np.array([_correlation(one, stack) for one, stack in zip(shown, of_images, strict=True)]),
        _ap40(test, best, maps),
    )


def _correlation(blank: Float32s, of_images: Float32s) -> float:
    first, second = blank.ravel(), of_images.mean(axis=0, dtype=np.float64).ravel()
    return float(np.corrcoef(first, second)[0, 1]) if first.std() > 0 < second.std() else float("nan")


def _ap40(test: SplitData, best: CamEntry, blank: dict[str, Float32s]) -> Bootstrapped:
    """AP40 of the chosen rules if every test image had the map of the blank image; probabilities stay."""
    assert best.tuned is not None, "a prior has no rules"
    num_images = len(test.truth.images)
    maps = {name: np.broadcast_to(stack, (num_images, *stack.shape[1:])) for name, stack in blank.items()}
    alike = replace(test, maps=replace(test.maps, maps=maps))
    return bootstrap(main_ap_measure(test.truth, alike.detect(best.tuned.rules, best.methods)), test.counts)


def blank_image_blocks(run_dir: Path, blank: BlankImage, test: SplitData) -> Sequence[Block]:
    """A picture of the maps, which is written, and a table."""
    height, width = test.frame.net_hw
    tiles, findings = [], blank.ap40.findings
    for cam, typical in zip(blank.maps, blank.typical, strict=True):
        heat = relevance(cam, test.frame).numpy()
        tiles.append(overlay_map(np.full((height, width), 0.5), heat, vmax=max(float(typical), 0.0)))
    save_jpeg(run_dir / PICTURE, grid(tiles or [as_rgb([[1.0]])], findings, columns=4, tile_px=_TILE_PX))
    picture = Figure(
        "Heat maps of a blank image",
        PICTURE,
        "A map that is strong here does not come from the image. Colours end at the mean maximum of the test images' "
        "maps of the same finding.",
    )
    rows: list[list[Cell]] = [
        [
            finding,
            display_name(blank.methods[k]),
            float(blank.probability[k]),
            float(blank.correlation[k]),
            estimate_text(blank.ap40.estimate(finding)),
        ]
        for k, finding in enumerate(findings)
    ]
    columns = ["finding", "method", "probability", "correlation with the mean map", "AP40 with this map [95 %]"]
    note = (
        "AP40 with this map: all test images have the blank image's map, with their own probabilities. If it is as "
        "high as that of the method, the boxes do not depend on what the maps show."
    )
    return [picture, Table("A blank image", columns, rows, note)]
