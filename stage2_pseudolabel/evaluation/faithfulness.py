"""Faithfulness of maps: does the classifier's probability depend on the pixels that a map marks?

Boxes of radiologists are not used beyond choosing images with a finding: a map can be faithful to a classifier that
looks at the wrong place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cxr.arrays import Float32s, Floats
from cxr.progress import track
from eval.detection.measures import positive_pairs
from eval.leaderboard.leaderboard import Leaderboard
from eval.stats.bootstrap import Counts
from eval.stats.measures import Bootstrapped, bootstrap, share_measure
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.cam_maps.teacher import Teacher
from stage2_pseudolabel.evaluation.gallery import map_over
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.perturbation import blurred, imputed, most_relevant
from stage2_pseudolabel.evaluation.split_data import SplitData

MEASURES = ("deletion", "insertion", "road")
NUM_STEPS = 10
"""Equal steps of the deletion and the insertion curve."""
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the pixels that ROAD removes."""


@dataclass(frozen=True, eq=False)
class Case:
    """An image with a finding.

    row, column: its place in the test split. inputs: one (1, c, H, W) per network. output: the classifier's own column.
    """

    row: int
    column: int
    inputs: list[Tensor]
    output: int


def faithfulness(
    teacher: Teacher, test: SplitData, methods: Sequence[str], *, num_pairs: int
) -> dict[str, dict[str, Bootstrapped]]:
    """Method -> `MEASURES` -> values of each finding, on at most `num_pairs` pairs of a test image and its finding.

    Pairs are spread evenly over the test split. Intervals resample its patients.
    """
    pairs = positive_pairs(test.truth)
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(num_pairs, len(pairs))).round().astype(int))
    cases = [_case(teacher, test, *pairs[place]) for place in chosen.tolist()]
    scored: dict[str, dict[str, Bootstrapped]] = {}
    for method in track(methods, "faithfulness of maps"):
        maps = test.maps.of(method)
        values = [scores(teacher, case, relevance(maps[case.row, case.column], test.frame)) for case in cases]
        scored[method] = _measured(cases, values, test, counts=test.counts)
    return scored


def _case(teacher: Teacher, test: SplitData, row: int, column: int) -> Case:
    device = next(teacher.trained.members[0].model.parameters()).device
    inputs = [images.to(device) for images in teacher.inputs(test.pictures, [row])]
    return Case(row, column, inputs, teacher.findings.index(test.truth.findings[column]))


def _measured(
    cases: Sequence[Case], values: Sequence[Floats], test: SplitData, *, counts: Counts
) -> dict[str, Bootstrapped]:
    """`MEASURES` from their values (3,) of each case."""
    shape = (len(test.truth.images), len(test.truth.findings))
    sums, number = np.zeros((len(MEASURES), *shape)), np.zeros(shape)
    for case, own in zip(cases, values, strict=True):
        sums[:, case.row, case.column] += own
        number[case.row, case.column] += 1
    pairs = zip(MEASURES, sums, strict=True)
    return {name: bootstrap(share_measure(name, test.truth.findings, own, number), counts) for name, own in pairs}


def relevance(cam: Float32s, frame: Frame) -> Tensor:
    """(H, W) the value of a map (h, w) at each pixel of the network's input; 0 where it is not finite."""
    own = Frame(frame.net_hw, keep_aspect=False, shift_hw=frame.shift_hw)
    finite = np.nan_to_num(cam, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.from_numpy(map_over(finite, own, frame.net_hw, frame.net_hw))


def scores(teacher: Teacher, case: Case, values: Tensor) -> Floats:
    """(3,) deletion, insertion and ROAD of a map, from its value at each pixel (H, W).

    - Deletion: area under the probability while the most relevant pixels are replaced by the image's mean, from none to
      all in `NUM_STEPS` steps; low is good. Insertion: the same while they are inserted into the blurred image; high is
      good. Petsiuk, Das and Saenko, RISE, BMVC 2018.
    - ROAD: probability without the least relevant pixels minus that without the most relevant ones, divided by two,
      mean over `ROAD_SHARES`; high is good. Removed pixels are imputed (see `imputed`).
    """
    curve = most_relevant(values, torch.linspace(0, 1, NUM_STEPS + 1))
    shares = torch.tensor(ROAD_SHARES)
    removed = torch.cat([~most_relevant(values, 1 - shares), most_relevant(values, shares)])
    changed = [_changed(images, curve.to(images.device), removed.to(images.device)) for images in case.inputs]
    probabilities = torch.sigmoid(teacher.logits(changed).mean(0)[:, case.output]).double().numpy()
    parts = np.cumsum([len(curve), len(curve), len(shares)])
    deletion, insertion, without_least, without_most = np.split(probabilities, parts)
    areas = [float((one[1:] + one[:-1]).mean() / 2) for one in (deletion, insertion)]
    return np.array([*areas, float((without_least - without_most).mean() / 2)])


def _changed(images: Tensor, curve: Tensor, removed: Tensor) -> Tensor:
    """An image (1, c, H, W) along the deletion and the insertion curve, and without what ROAD removes."""
    deleted = torch.where(curve[:, None], images.mean((2, 3), keepdim=True), images)
    inserted = torch.where(curve[:, None], images, blurred(images))
    return torch.cat([deleted, inserted, imputed(images.expand(len(removed), -1, -1, -1), removed)])


def with_faithfulness(
    board: Leaderboard[CamEntry], scored: dict[str, dict[str, Bootstrapped]]
) -> Leaderboard[CamEntry]:
    """The leaderboard with the measures of `faithfulness` in its entries."""
    entries = tuple(
        replace(entry, measures={**entry.measures, **scored.get(entry.name, {})}) for entry in board.entries
    )
    main = next(entry for entry in entries if entry.name == board.main.name)
    return replace(board, entries=entries, main=main)
