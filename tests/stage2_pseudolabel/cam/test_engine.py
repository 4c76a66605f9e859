"""The engine: chunks change nothing, the model is left as it was, errors pass through."""

import pytest
import torch
from torch import nn

from cxr.config import UserError
from stage2_pseudolabel.cam.engine import compute_maps, logit_gradients
from stage2_pseudolabel.cam.methods import CAM_METHODS
from stage2_pseudolabel.settings.cam import CamOptions
from tests.stage2_pseudolabel.cam.cam_models import build_classifier, build_linear_classifier, num_hooks, random_images

ALL = list(CAM_METHODS)
SIZE_HW = (64, 96)


def test_no_images_give_empty_maps():
    result = compute_maps(build_classifier(), torch.empty(0, 1, *SIZE_HW), ["gradcam", "pcam"])
    assert result.maps["pcam"].shape == (0, 3, 0, 0)
    assert result.logits.shape == (0, 3)


def test_no_methods_give_logits_only():
    model, images = build_classifier(), random_images(3, size_hw=SIZE_HW)
    result = compute_maps(model, images, [])
    assert result.maps == {}
    torch.testing.assert_close(result.logits, model(images).detach())


def test_all_methods_at_once_are_the_methods_alone():
    model, images = build_classifier(), random_images(size_hw=SIZE_HW)
    together = compute_maps(model, images, ALL)
    assert list(together.maps) == ALL
    for name in ALL:
        alone = compute_maps(model, images, [name]).maps[name]
        torch.testing.assert_close(alone, together.maps[name], msg=name)
        assert together.seconds[name] > 0


def test_small_chunks_chunked_parity():
    model, images = build_classifier(num_classes=5), random_images(5, size_hw=SIZE_HW)
    small = CamOptions(batch_size=2, memory_mib=1, scorecam_batch_size=7)
    names = [name for name in ALL if name not in ("fullgrad", "dff")]
    whole, chunked = compute_maps(model, images, names), compute_maps(model, images, names, options=small)
    torch.testing.assert_close(chunked.logits, whole.logits, atol=1e-5, rtol=1e-5)
    for name in names:
        torch.testing.assert_close(chunked.maps[name], whole.maps[name], atol=1e-4, rtol=1e-3, msg=name)


def test_a_block_may_be_a_single_class_of_a_single_image():
    features = torch.rand(2, 40, 30, 40, generator=torch.Generator().manual_seed(0))
    model = build_linear_classifier(features, num_classes=3)
    images = random_images(2, size_hw=SIZE_HW)
    names = ["gradcam", "layercam"]
    whole = compute_maps(model, images, names)
    single = compute_maps(model, images, names, options=CamOptions(memory_mib=1))
    for name in names:
        torch.testing.assert_close(single.maps[name], whole.maps[name])


def test_logit_gradients_of_average_pooling_are_the_weights():
    model = build_linear_classifier(torch.rand(2, 4, 3, 5), num_classes=2)
    model.head.classifier.weight.data = torch.arange(8.0).reshape(2, 4, 1, 1)
    gradients = logit_gradients(model.head, torch.rand(2, 4, 3, 5))
    expected = (torch.arange(8.0).reshape(2, 4, 1, 1) / 15).expand(2, 2, 4, 3, 5)
    torch.testing.assert_close(gradients, expected)


def test_the_model_is_left_as_it_was():
    model, images = build_classifier(), random_images(size_hw=SIZE_HW)
    model.train()
    model.backbone.eval()
    model.head.classifier.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    compute_maps(model, images, ALL)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert num_hooks(model) == 0
    assert images.grad is None


class Failing(nn.Module):
    """Works for `good_calls` forwards, then raises."""

    def __init__(self, inner: nn.Module, error: Exception, good_calls: int) -> None:
        super().__init__()
        self.inner, self.error, self.good_calls = inner, error, good_calls

    def forward(self, images):
        self.good_calls -= 1
        if self.good_calls < 0:
            raise self.error
        return self.inner(images)


@pytest.mark.parametrize(
    ("name", "good_calls"), [("gradcam", 0), ("scorecam", 1), ("layercamfusion", 1), ("fullgrad", 1)]
)
@pytest.mark.parametrize("error", [IndexError("mine"), RuntimeError("mine")])
def test_errors_inside_the_model_pass_through_and_leave_no_hooks(name, good_calls, error):
    model = build_classifier().train()
    model.backbone = Failing(model.backbone, error, good_calls)
    with pytest.raises(type(error), match="mine") as caught:
        compute_maps(model, random_images(size_hw=SIZE_HW), [name])
    assert caught.value is error
    assert num_hooks(model) == 0
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_half_precision_model_gives_float32_maps():
    model = build_classifier()
    exact = compute_maps(model, random_images(size_hw=SIZE_HW), ALL)
    half = compute_maps(model.bfloat16(), random_images(size_hw=SIZE_HW), ALL)
    for name in ALL:
        assert half.maps[name].dtype == torch.float32
        assert half.maps[name].isfinite().all()
    assert half.logits.dtype == torch.float32
    assert next(model.parameters()).dtype == torch.bfloat16
    torch.testing.assert_close(half.maps["pcam"], exact.maps["pcam"], atol=0.1, rtol=0.1)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_the_caller_s_grad_mode_does_not_matter(context):
    model, images = build_classifier(), random_images(size_hw=SIZE_HW)
    with context():
        maps = compute_maps(model, images.clone(), ALL).maps
    for name in ALL:
        maps[name] += 0  # in place: fails on tensors that were made in inference mode
        assert not maps[name].requires_grad


def test_features_that_are_not_finite_name_their_images():
    model, images = build_classifier(), random_images(5, size_hw=SIZE_HW)
    images[3, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"images \[3\]"):
        compute_maps(model, images, ["gradcam"], options=CamOptions(batch_size=2))


def test_fullgrad_comes_at_the_size_of_the_image_when_asked():
    model, images = build_classifier(), random_images(size_hw=SIZE_HW)
    full = compute_maps(model, images, ["fullgrad"], options=CamOptions(fullgrad_size="image")).maps["fullgrad"]
    small = compute_maps(model, images, ["fullgrad"]).maps["fullgrad"]
    assert full.shape == (2, 3, *SIZE_HW)
    torch.testing.assert_close(nn.functional.adaptive_avg_pool2d(full, (2, 3)), small)
