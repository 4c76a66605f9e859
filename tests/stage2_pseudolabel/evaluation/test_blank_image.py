"""The maps of a blank image, on tiny networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.report.blocks import Figure, Table
from stage2_pseudolabel.cam import compute_maps
from stage2_pseudolabel.evaluation.blank_image import blank_image, blank_image_blocks
from stage2_pseudolabel.evaluation.leaderboard import CamEntry
from stage2_pseudolabel.evaluation.split_data import SplitData
from tests.stage2_pseudolabel.cam_maps.teacher_builders import member, teacher
from tests.stage2_pseudolabel.evaluation.leaderboard_builders import NET_HW, lit_maps, plain_entry, split_data
from tests.stage2_pseudolabel.stage2_builders import FINDINGS

BLANK = torch.zeros(1, 1, *NET_HW)


def made(root: Path, *methods: str) -> tuple[CamEntry, SplitData]:
    """A split whose maps by each method are lit where the lesions are, and an entry of the methods of both findings."""
    test = split_data(root, dict.fromkeys(("gradcam", "pcam", "layercam"), lit_maps()))
    return replace(plain_entry(methods[0], 0.5, tune=0.5), methods=methods), test


def test_maps_and_probabilities_are_those_of_an_image_of_zeros(tmp_path: Path) -> None:
    own = teacher(tmp_path, member(tmp_path, seed=0))
    entry, test = made(tmp_path, "gradcam", "pcam")
    found = blank_image(own, test, entry)
    expected = compute_maps(own.trained.members[0].model, BLANK, ["gradcam", "pcam"])
    columns = [own.findings.index(finding) for finding in FINDINGS]
    for place, method in enumerate(("gradcam", "pcam")):
        np.testing.assert_allclose(found.maps[place], expected.maps[method][0, columns[place]].numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.probability, torch.sigmoid(expected.logits[0, columns]).numpy(), atol=1e-5)
    assert found.typical.tolist() == [1, 0]
    assert set(found.figures) == {
        *("blank_ap40", "blank_ap40/low", "blank_ap40/high"),
        *(f"blank_ap40/{name}{end}" for name in ("lung_lesion", "pleural_effusion") for end in ("", "/low", "/high")),
        *(
            f"blank_{what}/{name}"
            for what in ("probability", "correlation")
            for name in ("lung_lesion", "pleural_effusion")
        ),
    }


def test_a_map_that_is_alike_in_all_images_correlates_fully_and_gives_the_same_boxes(tmp_path: Path) -> None:
    """All test images have the blank image's own map, so AP40 with it is that of the method."""
    own = teacher(tmp_path, member(tmp_path, seed=0))
    with torch.no_grad():  # without biases, the maps of zeros are constant
        for values in own.trained.members[0].model.parameters():
            values.add_(0.1 * torch.randn_like(values))
    entry, test = made(tmp_path, "pcam", "pcam")
    first = blank_image(own, test, entry)
    alike = {"pcam": np.repeat(np.stack(first.maps)[None], 2, axis=0)}
    same = replace(test, maps=replace(test.maps, maps=alike))
    found = blank_image(own, same, entry)
    assert found.correlation == pytest.approx([1, 1])
    assert entry.tuned is not None
    detections = same.detect(entry.tuned.rules, entry.methods)
    assert found.ap40.values[0] == pytest.approx(first.ap40.values[0])
    assert len(detections.boxes) > 0
    assert np.isnan(found.ap40.values[1])


def test_constant_maps_have_no_correlation(tmp_path: Path) -> None:
    own = teacher(tmp_path, member(tmp_path, seed=0))
    entry, test = made(tmp_path, "gradcam", "gradcam")
    assert np.isnan(blank_image(own, test, entry).correlation[1])  # no image has a map of the second finding


def test_several_methods_as_one_and_the_picture(tmp_path: Path) -> None:
    own = teacher(tmp_path, member(tmp_path, seed=0), member(tmp_path, seed=1))
    entry, test = made(tmp_path, "maps_gradcam+layercam", "maps_gradcam+layercam")
    scales = {"gradcam": [1.0, 2.0], "layercam": [1.0, 2.0]}
    found = blank_image(own, test, entry, scales=scales)
    figure, table = blank_image_blocks(tmp_path, found, test)
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    assert [row[:2] for row in table.rows] == [[finding, "mean map of GradCAM + LayerCAM"] for finding in FINDINGS]
    assert Image.open(tmp_path / figure.path).width == 2 * 252
