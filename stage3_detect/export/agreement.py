"""How far an exported network is from the trained one, on real pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxr.imaging.files import Pixels
from stage3_detect.model.network import Network, RawOutput
from stage3_detect.model.preprocess import to_net, to_tensor_input

MAX_BOX_DIFFERENCE_PX = 1.0
MAX_SCORE_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """Largest differences between exported and trained network: box corners in original pixels, and scores."""

    box_px: float
    score: float

    @property
    def holds(self) -> bool:
        """Within 1 px and 1e-3."""
        return self.box_px <= MAX_BOX_DIFFERENCE_PX and self.score <= MAX_SCORE_DIFFERENCE


def compare_networks(
    images: Sequence[Pixels], reference: Network, exported: Network, *, min_score: float
) -> Agreement:
    """Compare raw outputs, before NMS, over every anchor that could become a box.

    Args:
        images: pictures (H, W).
    """
    box_px, score = 0.0, 0.0
    for image in images:
        net_image, resize = to_net(image, reference.image_px)
        net_input = to_tensor_input(net_image, reference.channels)
        wanted, got = reference(net_input), exported(net_input)
        compare = _compare_rows if wanted.shape[1] == 6 else _compare_anchors
        net_px, difference = compare(wanted, got, min_score)
        scale = max(resize.image_hw[0] / resize.content_hw[0], resize.image_hw[1] / resize.content_hw[1])
        box_px, score = max(box_px, scale * net_px), max(score, difference)
    return Agreement(box_px, score)


def require_agreement(agreement: Agreement, form: str) -> None:
    """Stop the run when the exported file is not the trained network: a bug, not the user's mistake."""
    if not agreement.holds:
        raise RuntimeError(
            f"the {form} file differs from the PyTorch model by {agreement.box_px:.3g} px and {agreement.score:.3g} in "
            f"score; allowed are {MAX_BOX_DIFFERENCE_PX} px and {MAX_SCORE_DIFFERENCE}"
        )


def _compare_anchors(wanted: RawOutput, got: RawOutput, min_score: float) -> tuple[float, float]:
    """(4 + K, anchors) each: largest difference of corners in network pixels, and of scores."""
    counts = wanted[4:].max(axis=0) >= min_score
    centres, sizes = (wanted[part] - got[part] for part in (slice(0, 2), slice(2, 4)))
    corners = np.abs(centres[:, counts]) + np.abs(sizes[:, counts]) / 2
    return _largest(corners), _largest(wanted[4:] - got[4:])


def _compare_rows(wanted: RawOutput, got: RawOutput, min_score: float) -> tuple[float, float]:
    """(M, 6) each: rows of nearly equal score may swap places, so each is compared with its nearest of its class."""
    # near the lowest score either output may have cut off what the other keeps
    floor = max(min_score, float(wanted[:, 4].min(initial=1.0)) + MAX_SCORE_DIFFERENCE)
    rows = wanted[wanted[:, 4] >= floor]
    corners = np.abs(rows[:, None, :4] - got[None, :, :4]).max(axis=2)
    corners[rows[:, None, 5] != got[None, :, 5]] = np.inf
    nearest = corners.argmin(axis=1) if len(got) else np.zeros(0, dtype=int)
    return _largest(corners.min(axis=1, initial=np.inf)), _largest(rows[:, 4] - got[nearest, 4])


def _largest(difference: RawOutput) -> float:
    return float(np.abs(difference).max()) if difference.size else 0.0
