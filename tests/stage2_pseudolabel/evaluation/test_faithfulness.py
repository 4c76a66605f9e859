"""Deletion, insertion and ROAD of maps, on tiny networks; pytorch-grad-cam's ROAD is the reference."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics import road

from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.cam_maps.teacher import Teacher
from stage2_pseudolabel.evaluation.faithfulness import (
    MEASURES,
    NUM_STEPS,
    ROAD_SHARES,
    Case,
    faithfulness,
    relevance,
    scores,
    with_faithfulness,
)
from stage2_pseudolabel.evaluation.leaderboard import make_leaderboard, score_entry
from stage2_pseudolabel.evaluation.perturbation import blurred
from stage2_pseudolabel.evaluation.report_tables import faithfulness_table
from tests.stage2_pseudolabel.cam_maps.teacher_builders import member, teacher
from tests.stage2_pseudolabel.evaluation.leaderboard_builders import (
    HALF,
    NET_HW,
    lit_maps,
    plain_entry,
    split_data,
    tuned,
)
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, truth_of


class WithoutNoise(road.NoisyLinearImputer):
    def __init__(self) -> None:
        super().__init__(noise=0.0)


def taught(root: Path, *, num_members: int = 1) -> Teacher:
    return teacher(root, *(member(root, seed=seed) for seed in range(num_members)))


def case_of(own: Teacher, *, seed: int = 0) -> tuple[Case, torch.Tensor]:
    """A random picture, and a random relevance without ties."""
    torch.manual_seed(seed)
    coarse = torch.nn.functional.interpolate(torch.randn(2, 1, 4, 6), NET_HW, mode="bicubic")
    picture, values = coarse + 0.01 * torch.randn(2, 1, *NET_HW)
    return Case(0, 0, [picture[None]] * len(own.trained.members), 1), values[0]


def probability(own: Teacher, images: torch.Tensor) -> float:
    logits = own.logits([images] * len(own.trained.members))
    return float(torch.sigmoid(logits.mean(0)[0, 1]))


def test_a_network_that_sees_nothing_has_flat_curves(tmp_path: Path) -> None:
    own = taught(tmp_path)
    head = own.trained.members[0].model.head
    with torch.no_grad():
        head.classifier.weight.zero_()
        head.classifier.bias.fill_(-1.0)
    expected = 1 / (1 + np.e)
    assert scores(own, *case_of(own)).tolist() == pytest.approx([expected, expected, 0], abs=1e-6)


@pytest.mark.parametrize("num_members", [1, 2])
def test_curves_are_those_of_single_steps(tmp_path: Path, num_members: int) -> None:
    own = taught(tmp_path, num_members=num_members)
    case, values = case_of(own)
    image, order = case.inputs[0], values.flatten().argsort(descending=True)
    curves: list[list[float]] = [[], []]
    for step in range(NUM_STEPS + 1):
        chosen = torch.zeros(values.numel(), dtype=torch.bool)
        chosen[order[: round(step / NUM_STEPS * values.numel())]] = True
        chosen = chosen.reshape(values.shape)
        curves[0].append(probability(own, torch.where(chosen, image.mean(), image)))
        curves[1].append(probability(own, torch.where(chosen, image, blurred(image))))
    expected = [np.mean([(a + b) / 2 for a, b in pairwise(curve)]) for curve in curves]
    assert scores(own, case, values)[:2].tolist() == pytest.approx(expected, abs=1e-5)
    assert curves[0][0] == curves[1][-1] == pytest.approx(probability(own, image))


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # pytorch-grad-cam gives tensors to numpy
@pytest.mark.parametrize("seed", range(2))
def test_road_is_that_of_pytorch_grad_cam(tmp_path: Path, seed: int) -> None:
    own = taught(tmp_path)
    case, values = case_of(own, seed=seed)
    network = own.trained.members[0].model
    percentiles = [100 * (1 - share) for share in ROAD_SHARES]
    stretched = ((values - values.min()) / (values.max() - values.min())).numpy()[None]
    with mock.patch.object(road, "NoisyLinearImputer", WithoutNoise):
        expected = road.ROADCombined(percentiles)(
            case.inputs[0], stretched, [lambda logits: torch.sigmoid(logits[1])], network
        )
    assert abs(float(expected[0])) > 0.005
    assert scores(own, case, values)[2] == pytest.approx(float(expected[0]), abs=2e-3)


def test_what_a_map_marks_lies_where_its_boxes_do() -> None:
    """A shift of four pixels right and two down is taken back; values that are not finite count as nothing."""
    cam = np.zeros((4, 6), dtype=np.float32)
    cam[1, 2], cam[3, 5] = 1, np.nan
    plain = relevance(cam, Frame(NET_HW, keep_aspect=True))
    assert plain.shape == NET_HW
    assert np.argwhere(plain.numpy() > 0.8).mean(axis=0) == pytest.approx([11.5, 19.5])
    shifted = relevance(cam, Frame(NET_HW, keep_aspect=False, shift_hw=(2.0, 4.0)))
    assert np.argwhere(shifted.numpy() > 0.8).mean(axis=0) == pytest.approx([9.5, 15.5])
    assert plain[-1, -1] == 0


def test_methods_are_measured_on_images_with_the_finding(tmp_path: Path) -> None:
    own = taught(tmp_path)
    test = split_data(tmp_path, {"pcam": lit_maps(), "gradcam": -lit_maps()})
    found = faithfulness(own, test, ["pcam", "gradcam"], num_pairs=8)
    assert [list(one) for one in found.values()] == [list(MEASURES)] * 2
    values = []
    for row in (0, 1):
        case = Case(row, 0, own.inputs(test.pictures, [row]), own.findings.index(FINDINGS[0]))
        values.append(scores(own, case, relevance(lit_maps()[row, 0], test.frame)))
    for name, own_values in zip(MEASURES, np.transpose(values), strict=True):
        measured = found["pcam"][name]
        assert measured.values[0] == pytest.approx(own_values.mean(), abs=1e-5)
        assert np.isnan(measured.values[1])
        np.testing.assert_allclose(measured.samples[:, 0], [own_values.mean(), *own_values], atol=1e-5)
    assert found["gradcam"]["road"].mean != found["pcam"]["road"].mean


def test_few_pairs_are_spread_and_no_finding_has_no_value(tmp_path: Path) -> None:
    own = taught(tmp_path)
    test = split_data(tmp_path, {"pcam": lit_maps()})
    first = faithfulness(own, test, ["pcam"], num_pairs=1)["pcam"]["deletion"]
    assert np.isnan(first.samples[2, 0])  # the second image alone was not measured
    nothing = faithfulness(own, replace(test, truth=truth_of()), ["pcam"], num_pairs=3)
    assert np.isnan(nothing["pcam"]["road"].values).all()


def test_the_leaderboard_shows_them(tmp_path: Path) -> None:
    own = taught(tmp_path)
    test = split_data(tmp_path, {"pcam": lit_maps()})
    entry = score_entry(
        "pcam", test, test.detect((HALF, HALF), ("pcam",) * 2), tuned=tuned(0.5, 0.5), methods=("pcam",) * 2
    )
    board = make_leaderboard([entry, plain_entry("prior_mean_box", 0.1, prior=True)], test, how="one")
    assert faithfulness_table(board) is None
    found = faithfulness(own, test, ["pcam"], num_pairs=2)
    both = with_faithfulness(board, found)
    assert both.main is both.entries[0]
    assert both.metrics["road/pcam"] == found["pcam"]["road"].mean
    assert {f"deletion/pcam/{end}" for end in ("low", "high")} <= both.metrics.keys()
    table = faithfulness_table(both)
    assert table is not None
    assert table.columns[1:] == ["deletion (low is good)", "insertion", "ROAD"]
    assert table.rows[1][1:] == ["–"] * 3
