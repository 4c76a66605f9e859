"""Memory: it runs out and the engine goes on in smaller pieces; hundreds of calls hold on to nothing."""

import gc
import logging
import tracemalloc
from collections.abc import Iterator

import psutil
import pytest
import torch
from torch import Tensor, nn

from cxr.config import UserError
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.memory import is_out_of_memory, smaller
from stage2_pseudolabel.cam.methods import CAM_METHODS
from stage2_pseudolabel.settings.cam import CamOptions
from tests.stage2_pseudolabel.cam.cam_models import TinyClassifier, build_classifier, num_hooks, random_images

SIZE_HW = (64, 96)
LINUX = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12")
WINDOWS = RuntimeError("alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9")
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")


class SmallMemory(nn.Module):
    """A backbone for which memory runs out above some images a forward. sizes: images of each forward."""

    def __init__(self, inner: nn.Module, max_images: int, error: Exception = LINUX) -> None:
        super().__init__()
        self.network = inner
        self.max_images, self.error = max_images, error
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(images) > self.max_images:
            raise self.error
        return self.network(images)


def with_small_memory(max_images: int, error: Exception = LINUX) -> tuple[TinyClassifier, SmallMemory]:
    model = build_classifier()
    model.backbone = SmallMemory(model.backbone, max_images, error)
    return model, model.backbone


@pytest.mark.parametrize("error", [LINUX, WINDOWS, GPU, MemoryError()])
def test_errors_that_mean_memory_are_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), IndexError("not enough memory"), ValueError()])
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_images_are_halved_first_then_blocks_and_masked_images():
    options: CamOptions | None = CamOptions(batch_size=4, memory_mib=8, scorecam_batch_size=2)
    seen = []
    while options is not None:
        seen.append((options.batch_size, options.memory_mib, options.scorecam_batch_size))
        options = smaller(options)
    assert seen == [(4, 8, 2), (2, 8, 2), (1, 8, 2), (1, 4, 1), (1, 2, 1), (1, 1, 1)]


@pytest.mark.parametrize("error", [LINUX, GPU])
def test_images_go_in_halves_until_they_fit_and_this_is_said_once(error, caplog):
    model, backbone = with_small_memory(3, error)
    images = random_images(7, size_hw=SIZE_HW)
    names = ["gradcam", "eigengradcam", "pcam", "ablationcam"]
    with caplog.at_level(logging.WARNING, "raybox"):
        fitted = compute_maps(model, images, names, options=CamOptions(batch_size=7))
    assert backbone.sizes == [7, 3, 3, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "cam: memory ran out with batch_size 7, memory_mib 256, scorecam_batch_size 32; "
        "continued with batch_size 3, memory_mib 256, scorecam_batch_size 32"
    ]
    assert fitted.options.batch_size == 3
    chunked = compute_maps(build_classifier(), images, names, options=CamOptions(batch_size=3))
    assert torch.equal(fitted.logits, chunked.logits)
    for name in names:
        assert torch.equal(fitted.maps[name], chunked.maps[name]), name


def test_masked_images_are_halved_where_one_image_does_not_help():
    model, backbone = with_small_memory(5)
    images = random_images(2, size_hw=SIZE_HW)
    fitted = compute_maps(model, images, ["scorecam"], options=CamOptions(batch_size=2, scorecam_batch_size=12))
    assert fitted.options == CamOptions(batch_size=1, memory_mib=64, scorecam_batch_size=3)
    assert max(backbone.sizes) == 12
    whole = compute_maps(build_classifier(), images, ["scorecam"])
    torch.testing.assert_close(fitted.maps["scorecam"], whole.maps["scorecam"], atol=1e-5, rtol=1e-4)


def test_what_fitted_is_not_computed_again():
    model, backbone = with_small_memory(4)
    compute_maps(model, random_images(6, size_hw=SIZE_HW), ["pcam"], options=CamOptions(batch_size=4))
    assert backbone.sizes == [4, 2]


@pytest.mark.parametrize("error", [LINUX, GPU])
def test_a_single_image_that_does_not_fit_is_the_user_s_to_know(error):
    model, backbone = with_small_memory(0, error)
    with pytest.raises(UserError, match=r"not even one image of \(1, 64, 96\) fits into the memory of cpu"):
        compute_maps(model.train(), random_images(3, size_hw=SIZE_HW), ["pcam"])
    assert backbone.sizes[-1] == 1
    assert model.training


CHEAP = [name for name, row in CAM_METHODS.items() if row.group in ("one_pass", "head")]
DEAR = [name for name in CAM_METHODS if name not in CHEAP]
LEAK_HW = (32, 64)


class Held:
    """What the process holds: live objects, bytes of Python's, MiB in all."""

    def __init__(self) -> None:
        gc.collect()
        self.objects = len(gc.get_objects())
        self.bytes = tracemalloc.get_traced_memory()[0]
        self.mib = psutil.Process().memory_info().rss / 2**20


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


def check_untouched(model: TinyClassifier, images: Tensor) -> None:
    assert num_hooks(model) == 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert images.grad is None


def test_hundreds_of_calls_do_not_grow_memory(traced):
    model = build_classifier(num_classes=2, feature_stage=2, input_hw=LEAK_HW)
    images = random_images(1, size_hw=LEAK_HW)

    def calls(count: int) -> None:
        for index in range(count):
            names = [CHEAP[index % len(CHEAP)], CHEAP[(index + 3) % len(CHEAP)]]
            compute_maps(model, images, names)

    calls(100)  # the first ones fill caches
    before = Held()
    calls(300)
    after = Held()
    assert after.objects - before.objects < 150, "more than one object every other call"
    assert after.bytes - before.bytes < 300 * 100, "more than 100 bytes a call"
    # A map has 256 bytes, the features 2 KiB: less than one image's intermediate results a call.
    assert after.mib - before.mib < 4
    check_untouched(model, images)


@pytest.mark.parametrize("name", DEAR)
def test_calls_of_expensive_methods_do_not_grow_memory(name):
    model = build_classifier(num_classes=2, feature_stage=2, input_hw=LEAK_HW)
    images = random_images(2, size_hw=LEAK_HW)
    options = CamOptions(scorecam_budget=4)
    for _ in range(3):
        compute_maps(model, images, [name], options=options)
    before = Held()
    for _ in range(10):
        compute_maps(model, images, [name], options=options)
    after = Held()
    assert after.objects - before.objects < 10
    assert after.mib - before.mib < 4
    check_untouched(model, images)
