"""With PyTorch and the run chain at hand, heat maps are those of the chosen CAM method."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.runs.run_folder import open_run
from stage1_classify.model.loading import load_trained
from stage2_pseudolabel.cam import compute_maps
from stage2_pseudolabel.cam_maps.mean_of_methods import mean_of_methods
from stage2_pseudolabel.image_maps import ImageMaps
from stage3_detect.export.bundle import BundleSource, write_bundle
from stage3_detect.serving.interface import DecodedImage
from stage3_detect.serving.model.bundle import open_bundle
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.model.cam_maps import CamMaps
from stage3_detect.serving.model.images import decode_image
from stage3_detect.serving.model.maps import open_maps
from tests.builders import write_picture
from tests.stage3_detect.serving.chain_builders import CLASSIFIED, make_chain, make_classifier_run, make_stage2_run


@pytest.fixture
def image(tmp_path: Path) -> DecodedImage:
    """A picture of the network's own shape, so that the map covers it exactly."""
    write_picture(tmp_path / "a.png", (64, 96), bright_xyxy=(10, 10, 40, 30))
    return decode_image((tmp_path / "a.png").read_bytes(), "a.png", max_pixels=10**6)


def test_maps_are_the_methods_own(bundle: Path, image: DecodedImage) -> None:
    model = open_model(bundle, maps=True)
    assert model.facts.map_method == "layercam"
    found = model.maps(image)
    assert [one.finding for one in found] == list(CLASSIFIED)
    trained = load_trained(bundle.parents[2] / "stage1")
    network = trained.members[0].model
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(image.pixels)[None, None].float(), 2).round() / 255
    low, high = small.min(), small.max()
    result = compute_maps(network, ((small - low) / (high - low) - 0.5) / 0.25, ["layercam"])
    expected = trained.probabilities_of([result.logits.numpy()])[0]
    np.testing.assert_allclose([one.probability for one in found], expected, atol=0.01)
    own = result.maps["layercam"][0]
    for one, values in zip(found, own, strict=True):
        peak = np.unravel_index(int(values.argmax()), values.shape)
        cell = one.values.shape[0] / values.shape[0]
        assert one.values[int((peak[0] + 0.5) * cell), int((peak[1] + 0.5) * cell)] > 230


def test_several_methods_as_one_have_their_mean_map(tmp_path: Path, image: DecodedImage) -> None:
    """Maps of the findings differ in size; those of the service are on one grid."""
    stage1 = make_classifier_run(tmp_path / "stage1")
    kinds = {"fused": ("boxes_layercam+hirescam", "layercamfusion")} | {
        one: (one, one) for one in ("layercam", "hirescam")
    }
    runs = {}
    for name, methods in kinds.items():
        make_stage2_run(tmp_path / name, stage1, methods=methods)
        runs[name] = open_run(tmp_path / name)
    (_, found), (_, first), (_, second) = (ImageMaps(run, stage1)(image.pixels) for run in runs.values())
    np.testing.assert_allclose(found[0], mean_of_methods([first[0], second[0]]), rtol=1e-5)
    assert found[2].shape[1] == 2 * found[0].shape[1]
    service = CamMaps(runs["fused"], stage1, regions=("full",))
    assert service.method == "boxes_layercam+hirescam, layercamfusion"
    assert len({one.values.shape for one in service.maps(image.pixels)}) == 1


def test_a_bundle_alone_has_the_maps_of_the_head(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    assert open_model(tmp_path / "bundle", maps=True).facts.map_method == "pcam"


def test_a_slow_method_gives_way_to_the_head(tmp_path: Path) -> None:
    stage3 = make_chain(tmp_path, stage2_metrics={"ms_per_image/layercam": 60_000.0})
    write_bundle(stage3 / "export" / "bundle", BundleSource.of_run(open_run(stage3)))
    assert open_model(stage3, maps=True).facts.map_method == "pcam"


def test_a_damaged_classifier_gives_way_to_the_head(
    tmp_path: Path, image: DecodedImage, caplog: pytest.LogCaptureFixture
) -> None:
    stage3 = make_chain(tmp_path)
    write_bundle(stage3 / "export" / "bundle", BundleSource.of_run(open_run(stage3)))
    (tmp_path / "stage1" / "calibration.json").unlink()
    maps = open_maps(open_bundle(stage3), regions=("full",), num_threads=1)
    assert maps.method == "layercam"
    assert [one.finding for one in maps.maps(image.pixels)] == list(CLASSIFIED)
    assert maps.method == "pcam"
    assert "calibration.json" in caplog.text
