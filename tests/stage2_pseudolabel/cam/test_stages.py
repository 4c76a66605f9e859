"""LayerCAM of several stages: which stages there are, exact fused values, nothing left behind."""

import pytest
import torch
from torch import Tensor, nn

from cxr.config import UserError
from stage1_classify.model.heads import Head
from stage1_classify.settings.classifier import HeadSettings
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.fusion import fuse, layercamfusion
from stage2_pseudolabel.cam.stages import choose_stages, run_stages
from stage2_pseudolabel.settings.cam import CamOptions
from tests.stage2_pseudolabel.cam.cam_models import build_classifier, build_linear_classifier, num_hooks, random_images

SIZE_HW = (64, 96)


def fused_maps(model: nn.Module, images: Tensor, **options: object) -> Tensor:
    return compute_maps(model, images, ["layercamfusion"], options=CamOptions(**options)).maps["layercamfusion"]


def test_a_backbone_without_stages_has_the_head_s_features_alone():
    features = torch.rand(1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    model, images = build_linear_classifier(features), random_images(1, size_hw=(12, 20))
    assert choose_stages(model.backbone, None) == (-1,)
    maps = compute_maps(model, images, ["layercam", "layercamfusion"]).maps
    torch.testing.assert_close(maps["layercamfusion"], maps["layercam"])


@pytest.mark.parametrize("places", [[], [-3], [0], [-1, 2]])
def test_stages_that_are_not_there_are_named(places):
    model = build_classifier("narrow_vit", feature_stage=1, input_hw=SIZE_HW)  # blocks.0 and the features
    with pytest.raises(UserError, match=r"expected stages from -2 \(blocks.0\) to -1"):
        fused_maps(model, random_images(size_hw=SIZE_HW), layercam_stages=places)


def test_fused_exact_value():
    deepest = torch.tensor([[[[4.0, 1.0]]]])
    shallow = torch.tensor([[[[0.0, 1.0], [8.0, 2.0]]]])
    # Scaled: 4 * tanh(2 * M / 8), tanh(.25), tanh(2), tanh(.5).
    expected = torch.tensor([[[[4.0, 1.0], [4.0, 4 * 0.46211716]]]])
    torch.testing.assert_close(fuse([shallow, deepest], gamma=2.0), expected)
    lifted = fuse([torch.tensor([[[[0.0, 8.0]]]]), deepest], gamma=2.0)
    torch.testing.assert_close(lifted, torch.tensor([[[[4.0, 4 * 0.96402758]]]]))


def test_fused_maps_are_zero_where_the_last_stage_sees_nothing_or_the_first_is_zero():
    zero, one = torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2, 3)
    assert fuse([one, zero], gamma=2.0).max() == 0
    assert torch.equal(fuse([zero, one], gamma=2.0), one)


class TwoStages(nn.Module):
    """Doubles channel 0 and drops channel 1 of its stage; the next layer works in place, as ReLUs do."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = [{"module": "first", "num_chs": 2}, {"module": "last", "num_chs": 1}]
        self.first = nn.Conv2d(1, 2, 1, bias=False)
        self.last = nn.Conv2d(2, 1, 1, bias=False)
        self.first.weight.data = torch.tensor([1.0, -1.0])[:, None, None, None]
        self.last.weight.data = torch.tensor([2.0, 1.0])[None, :, None, None]

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images)
        hidden.relu_()
        return nn.functional.avg_pool2d(self.last(hidden), (1, 2))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = TwoStages()
        self.head = Head(1, 1, settings=HeadSettings(kind="average"))
        self.head.classifier.weight.data.fill_(1.0)


def test_layercamfusion_exact_value_of_a_network_that_works_in_place():
    images = torch.tensor([[[[1.0, 3.0, -1.0, 0.0]]]])
    # Stage 1: (1, 3, -1, 0) and its negative. Features: means of pairs of 2 relu(x) + relu(-x): 4 and 1/2. The logit is
    # their mean, so its gradient is 1/2 each; back at the stage 1/2 for channel 0 where x > 0, 1/4 for -x where x < 0.
    model = Model().eval()
    first = layercamfusion(images, model, layercam_stages=[-2])
    torch.testing.assert_close(first, torch.tensor([[[[0.5, 1.5, 0.25, 0.0]]]]))
    last = layercamfusion(images, model, layercam_stages=[-1])
    torch.testing.assert_close(last, torch.tensor([[[[2.0, 0.25]]]]))
    fused = layercamfusion(images, model)
    tanh = 2 * torch.tanh(2 * first / 1.5)
    wide = torch.tensor([[[[2.0, 2.0 * 0.75 + 0.25 * 0.25, 2.0 * 0.25 + 0.25 * 0.75, 0.25]]]])
    torch.testing.assert_close(fused, torch.maximum(wide, tanh))


@pytest.mark.parametrize("kind", ["pcam", "attention"])
@pytest.mark.parametrize("backbone", ["narrow_resnet", "narrow_vit", "narrow_swin"])
def test_the_last_stage_alone_is_layercam(backbone, kind):
    model = build_classifier(backbone, kind=kind)
    images = random_images(3)
    layercam = compute_maps(model, images, ["layercam"]).maps["layercam"]
    torch.testing.assert_close(fused_maps(model, images, layercam_stages=[-1]), layercam, atol=1e-6, rtol=1e-4)


def test_fusion_takes_the_last_two_stages_and_their_order_does_not_matter():
    model, images = build_classifier("narrow_densenet"), random_images()
    fused = fused_maps(model, images)
    assert fused.shape == (2, 3, 6, 10)
    assert torch.equal(fused_maps(model, images, layercam_stages=[-1, -2, -1]), fused)
    stages = [fused_maps(model, images, layercam_stages=[place]) for place in (-2, -1)]
    torch.testing.assert_close(fused, fuse(stages, gamma=2.0))
    assert (fused <= stages[1].amax((-2, -1), keepdim=True)).all()


@pytest.mark.parametrize(
    ("backbone", "stage", "shape"),
    [("narrow_resnet", 2, (16, 24, 40)), ("narrow_densenet", 3, (32, 12, 20)), ("narrow_vit", 1, (24, 6, 10))],
)
def test_truncated_backbones_count_from_where_they_end(backbone, stage, shape):
    model, images = build_classifier(backbone, feature_stage=stage), random_images()
    stages = run_stages(model.backbone, images, choose_stages(model.backbone, None))
    earlier, features = stages.maps()
    torch.testing.assert_close(features, model.backbone(images))
    shape = (8, 24, 40) if backbone == "narrow_resnet" else shape
    assert earlier.shape[1:] == shape
    assert fused_maps(model, images).shape == (2, 3, *shape[1:])


def test_blocks_of_images_change_nothing_and_keep_to_the_budget():
    model, images = build_classifier("narrow_densenet"), random_images(7)
    counts = []
    handle = model.backbone.register_forward_hook(lambda _module, given, _output: counts.append(len(given[0])))
    whole = layercamfusion(images, model)
    assert counts == [1, 6]
    counts.clear()
    single = layercamfusion(images, model, layercam_stages=[-4, -1], memory_mib=1)
    handle.remove()
    assert counts[0] == 1
    assert max(counts) < 6
    again = layercamfusion(images, model, layercam_stages=[-4, -1])
    torch.testing.assert_close(single, again, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(whole, layercamfusion(images, model, memory_mib=4096), atol=1e-5, rtol=1e-3)


def test_half_precision_models_are_explained_in_float32():
    model, images = build_classifier(), random_images(size_hw=SIZE_HW)
    exact, half = fused_maps(model, images), fused_maps(model.bfloat16(), images)
    assert half.dtype == torch.float32
    assert float((half - exact).abs().max() / exact.max()) < 0.1


def test_an_error_behind_a_stage_leaves_no_hook_and_no_gradient():
    model, images = build_classifier(), random_images(size_hw=SIZE_HW)

    def fail(*_given: object) -> None:
        raise IndexError("mine")

    handle = model.backbone.network.layer4.register_forward_pre_hook(fail)
    with pytest.raises(IndexError, match="mine"):
        fused_maps(model, images)
    handle.remove()
    assert num_hooks(model) == 0
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
