"""What only an NVIDIA GPU can show, of all stages: results of a CPU, mixed precision, memory, the manifest."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.runs.hardware import describe_hardware
from cxr.runs.run_folder import open_run, start_run
from stage1_classify.model.classifier import blank_classifier
from stage1_classify.training.computation import time_steps, ways_to_compute
from stage2_pseudolabel.cam.agreement import rank_correlation
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.methods import CAM_METHODS
from stage2_pseudolabel.settings.cam import CamOptions
from stage3_detect.model.torch_network import TorchNetwork, pick_device
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings
from tests.stage1_classify.training.train_builders import fitted, logged
from tests.stage2_pseudolabel.cam.cam_models import build_classifier, random_images
from tests.stage3_detect.model.detector_builders import IMAGE_PX, untrained_weights
from tests.stage3_detect.stage3_builders import Stage2Settings

pytestmark = pytest.mark.cuda

ONE_PASS = [name for name, row in CAM_METHODS.items() if row.group == "one_pass"]


@pytest.fixture(autouse=True)
def _exact_float32() -> Iterator[None]:
    """Convolutions and products in float32 keep all its bits, which they do not on a GPU by default."""
    settings = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = settings


def test_the_manifest_names_the_gpu_and_its_peak_memory(tmp_path: Path) -> None:
    torch.zeros(1, device="cuda")
    run = start_run(tmp_path / "run", stage="stage2", settings=Stage2Settings(), inputs={})
    with run.phase("64 MiB"):
        held = torch.zeros(64, 2**20, dtype=torch.uint8, device="cuda")
    before = torch.cuda.memory_allocated() - held.numel()
    del held
    with run.phase("nothing"):
        pass
    run.finish({}, {})
    manifest = open_run(run.dir).manifest
    assert manifest["hardware"]["gpus"][0]["name"] == torch.cuda.get_device_name(0)
    assert manifest["hardware"]["cuda"] == torch.version.cuda
    assert describe_hardware() == manifest["hardware"]
    assert manifest["phases"]["64 MiB"]["peak_gpu_mib"] == pytest.approx(64 + before / 2**20, abs=0.1)
    assert manifest["phases"]["nothing"]["peak_gpu_mib"] == pytest.approx(before / 2**20, abs=0.1)


@pytest.mark.parametrize("name", ["narrow_resnet", "narrow_convnext", "narrow_vit"])
def test_maps_are_those_of_the_cpu(name: str) -> None:
    model, images = build_classifier(name), random_images()
    expected = compute_maps(model, images, ONE_PASS)
    found = compute_maps(model.cuda(), images, ONE_PASS)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    for method, maps in expected.maps.items():
        assert found.maps[method].device.type == "cpu"
        scale = float(maps.abs().max())
        torch.testing.assert_close(found.maps[method] / scale, maps / scale, rtol=0, atol=1e-3, msg=method)


def test_scorecam_is_that_of_the_cpu() -> None:
    model, images = build_classifier(), random_images(1)
    expected = compute_maps(model, images, ["scorecam"]).maps["scorecam"]
    found = compute_maps(model.cuda(), images, ["scorecam"]).maps["scorecam"]
    assert rank_correlation(found, expected) > 0.999


def test_bf16_maps_are_float32_and_rank_places_alike() -> None:
    model, images = build_classifier("narrow_convnext").cuda(), random_images()
    expected = compute_maps(model, images, ["gradcam"]).maps["gradcam"]
    with torch.autocast("cuda", torch.bfloat16):
        found = compute_maps(model, images, ["gradcam"]).maps["gradcam"]
    assert found.dtype == torch.float32
    assert rank_correlation(found, expected) > 0.9


def test_a_batch_that_does_not_fit_into_the_card_goes_in_pieces() -> None:
    model, images = build_classifier().cuda(), random_images(256, size_hw=(192, 320))
    expected = compute_maps(model, images, ["gradcam"], options=CamOptions(batch_size=8))
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 128 * 2**20) / total)
    try:
        found = compute_maps(model, images, ["gradcam"], options=CamOptions(batch_size=256))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.options.batch_size < 256
    torch.testing.assert_close(found.maps["gradcam"], expected.maps["gradcam"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_training_learns_in_every_precision(precision: str, tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path / "data"), train={"precision": precision, "num_epochs": 4})
    epochs = logged(fitted(settings, tmp_path / "run"))
    losses = [epoch["train/loss"] for epoch in epochs]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", map_location="cpu", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in checkpoint["model"].values())


def test_every_way_to_compute_is_timed(tmp_path: Path) -> None:
    train = {"precision": "auto", "memory_format": "auto"}
    settings = stage1_settings(patch_folder(tmp_path / "data", num_images=8), train=train)
    options = ways_to_compute(settings.train, "cuda")
    images = torch.randn(4, 1, 32, 48, device="cuda")
    seconds = time_steps(blank_classifier(settings).cuda().train(), images, options)
    assert list(seconds) == options
    assert np.isfinite(list(seconds.values())).all()


def test_the_detector_answers_as_on_the_cpu(tmp_path: Path) -> None:
    weights = untrained_weights(tmp_path / "best.pt")
    net_image = np.random.default_rng(0).integers(0, 256, (IMAGE_PX, IMAGE_PX), dtype=np.uint8)
    expected = TorchNetwork(weights)(net_image)
    assert pick_device("auto") == "0"
    for half, limit in ((False, 1e-3), (True, 2e-2)):
        found = TorchNetwork(weights, device="0", half=half)(net_image)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found[4:], expected[4:], rtol=0, atol=limit)
