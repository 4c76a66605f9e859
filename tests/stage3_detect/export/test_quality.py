"""Differences between an exported network and the trained one."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from stage3_detect.export.quality import Agreement, compare_networks, require_agreement
from stage3_detect.model.metadata import ExportMetadata, read_metadata
from tests.stage3_detect.stage3_builders import FINDINGS

PICTURE = np.random.default_rng(0).random((32, 128), dtype=np.float32)  # twice as wide as the network


class Shows:
    """A network that gives `output` of any picture."""

    findings, channels, image_px = FINDINGS, 1, 64

    def __init__(self, output: list[list[float]]) -> None:
        self.output = np.array(output, dtype=np.float32)

    def __call__(self, net_image: np.ndarray) -> np.ndarray:
        return self.output


def anchors(*rows: tuple[float, ...]) -> Shows:
    return Shows(np.array(rows, dtype=np.float32).reshape(-1, 6).T.tolist())


def difference(first: Shows, second: Shows, min_score: float = 0.01) -> Agreement:
    return compare_networks([PICTURE], first, second, min_score=min_score)


def test_nothing_shown_agrees():
    one = anchors((5, 5, 2, 2, 0.5, 0.1))
    assert compare_networks([], one, anchors((9, 9, 2, 2, 0, 0)), min_score=0.01) == Agreement(0.0, 0.0)


def test_corners_are_compared_in_pixels_of_the_picture():
    """The centre moves by 0.5, the width grows by 1: a corner moves by 1 network pixel, 2 of the picture's."""
    found = difference(anchors((10, 10, 4, 4, 0.5, 0.1)), anchors((10.5, 10, 5, 4, 0.5, 0.1)))
    assert found.box_px == pytest.approx(2.0)
    assert found.score == 0


def test_scores_are_compared_of_all_classes_and_anchors():
    first = anchors((10, 10, 4, 4, 0.5, 0.1), (20, 20, 4, 4, 0.001, 0.001))
    second = anchors((10, 10, 4, 4, 0.5, 0.1), (50, 20, 4, 4, 0.001, 0.004))
    found = difference(first, second)
    assert found.score == pytest.approx(0.003)
    assert found.box_px == 0  # the second anchor can become no box


def test_rows_without_nms_may_change_places():
    first = Shows([[0, 0, 8, 8, 0.5, 0], [20, 20, 30, 30, 0.5, 1], [0, 0, 1, 1, 0.0, 0]])
    second = Shows([[20, 20, 30, 30.5, 0.5, 1], [0, 0, 8, 8, 0.498, 0], [0, 0, 1, 1, 0.0, 0]])
    found = difference(first, second)
    assert found.box_px == pytest.approx(1.0)
    assert found.score == pytest.approx(0.002, abs=1e-6)


def test_a_row_that_is_gone_is_no_agreement():
    first, second = Shows([[0, 0, 8, 8, 0.5, 0], [0, 0, 1, 1, 0.0, 0]]), Shows([[0, 0, 8, 8, 0.5, 1]])
    assert difference(first, second).box_px == float("inf")


@pytest.mark.parametrize(("box_px", "score", "holds"), [(1.0, 1e-3, True), (1.1, 0, False), (0, 1.1e-3, False)])
def test_what_is_allowed(box_px: float, score: float, holds: bool):
    agreement = Agreement(box_px, score)
    assert agreement.holds is holds
    if holds:
        require_agreement(agreement, "onnx")
    else:
        with pytest.raises(RuntimeError, match=r"the openvino_fp32 file differs"):
            require_agreement(agreement, "openvino_fp32")


def test_metadata_come_as_text_or_values():
    text = {"names": "{1: 'B', 0: 'A'}", "imgsz": "[96, 96]", "channels": "3"}
    values = {"names": {0: "A", 1: "B"}, "imgsz": (96, 96), "channels": 3}
    for entries in (text, values):
        assert read_metadata(entries, Path("x.onnx")) == ExportMetadata(("A", "B"), 3, 96)


@pytest.mark.parametrize("entries", [{}, {"names": "{0: ", "imgsz": "[96]", "channels": "1"}])
def test_foreign_file_is_the_users_mistake(entries: dict[str, str]):
    with pytest.raises(UserError, match=r"x\.onnx.*give a file that stage 3 exported"):
        read_metadata(entries, Path("x.onnx"))
