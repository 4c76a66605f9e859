"""Each CAM method on maps that one checks by eye, and on the odd cases: constant, zero, one cell, one class."""

import pytest
import torch

from cxr.config import UserError
from stage1_classify.model.heads import POOLINGS, Head
from stage1_classify.settings.classifier import HeadSettings
from stage2_pseudolabel.cam import gradient
from stage2_pseudolabel.cam.ablation import ablationcam
from stage2_pseudolabel.cam.dff import dff
from stage2_pseudolabel.cam.eigen import eigencam, eigengradcam, principal_projection
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.gradient import pcam
from stage2_pseudolabel.cam.methods import CAM_METHODS, choose_methods
from stage2_pseudolabel.settings.cam import CamOptions
from tests.stage2_pseudolabel.cam.cam_models import build_classifier, build_linear_classifier, random_images

# One image, two channels, one row of three cells; one class. Values are checked by hand below.
FEATURES = torch.tensor([[[[1.0, 2.0, 3.0]], [[0.0, 4.0, -2.0]]]])
GRADIENTS = torch.tensor([[[[[1.0, -1.0, 3.0]], [[2.0, -1.0, -4.0]]]]])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # channel weights are the means 1 and -1
        (gradient.gradcam, [1.0, 0.0, 5.0]),
        # products (1, -2, 9) and (0, -4, 8)
        (gradient.hirescam, [1.0, 0.0, 17.0]),
        (gradient.gradcamelementwise, [1.0, 0.0, 17.0]),
        # positive gradients (1, 0, 3) and (2, 0, 0)
        (gradient.layercam, [1.0, 0.0, 9.0]),
        # weights 8/6 and 4/2
        (gradient.xgradcam, [8 / 6, 2 * 8 / 6 + 8, 0.0]),
        # weights 1/(2+6) + 3*9/(18+6*27) and 2*4/(8+2*8)
        (gradient.gradcamplusplus, [0.275, 2 * 0.275 + 4 / 3, 3 * 0.275 - 2 / 3]),
    ],
)
def test_gradient_method_exact_value(method, expected):
    maps = method(FEATURES, GRADIENTS)
    torch.testing.assert_close(maps, torch.tensor(expected)[None, None, None], atol=1e-5, rtol=1e-5)


def test_gradient_methods_leave_their_inputs_alone():
    features, gradients = FEATURES.clone(), GRADIENTS.clone()
    for row in CAM_METHODS.values():
        if row.uses_gradients:
            row.function(features, gradients)
    assert torch.equal(features, FEATURES)
    assert torch.equal(gradients, GRADIENTS)


def test_zero_denominators_stay_finite():
    # Sums of -1e-7 and -2 (with gradient 1) make XGradCAM's and GradCAM++'s denominators vanish.
    features = torch.tensor([[[[-1e-7, 0.0]], [[-1.0, -1.000001]]]])
    gradients = torch.ones(1, 1, 2, 1, 2)
    for method in (gradient.xgradcam, gradient.gradcamplusplus):
        assert method(features, gradients).isfinite().all()


def test_principal_projection_exact_value_and_sign():
    # Two channels that move together: centred rows (-1, -1), (0, 0), (1, 1), so u sigma = -+sqrt(2).
    stack = torch.tensor([[[1.0, 2.0, 3.0]], [[5.0, 6.0, 7.0]]])
    expected = torch.tensor([[-(2**0.5), 0.0, 2**0.5]])
    torch.testing.assert_close(principal_projection(stack), expected)
    torch.testing.assert_close(principal_projection(-stack), -expected)  # the channel sum points the other way


@pytest.mark.parametrize("shape", [(3, 7, 2, 3), (2, 4, 5, 3, 4)])
def test_principal_projection_is_that_of_the_svd(shape):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    matrix = stack.flatten(-2).mT
    matrix = matrix - matrix.mean(-2, keepdim=True)
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    expected = left[..., 0] * singular[..., :1] * right[..., 0, :].sum(-1, keepdim=True).sign()
    torch.testing.assert_close(principal_projection(stack).flatten(-2), expected, atol=1e-5, rtol=1e-4)


def test_eigengradcam_counts_class_evidence_as_positive():
    maps = eigengradcam(FEATURES, GRADIENTS)
    assert maps.argmax() == gradient.hirescam(FEATURES, GRADIENTS).argmax()


def test_eigencam_is_the_same_for_all_classes():
    maps = eigencam(FEATURES, num_classes=4)
    assert maps.shape == (1, 4, 1, 3)
    assert torch.equal(maps[:, 0], maps[:, 3])


def average_head(weights: list[list[float]], bias: float) -> Head:
    head = Head(len(weights[0]), len(weights), settings=HeadSettings(kind="average"))
    head.classifier.weight.data = torch.tensor(weights)[:, :, None, None]
    head.classifier.bias.data.fill_(bias)
    return head


def test_ablationcam_exact_value():
    # Means are 2 and 2/3, so z = 1*2 + 3*(2/3) - 2 = 2; without the channels 0 and 0: weights 1 and 1.
    head = average_head([[1.0, 3.0]], bias=-2.0)
    maps = ablationcam(FEATURES, head)
    torch.testing.assert_close(maps, torch.tensor([[[[1.0, 6.0, 1.0]]]]))


def test_ablationcam_of_a_negative_logit_turns_round_unless_magnitude():
    head = average_head([[1.0, 3.0]], bias=-6.0)  # z = -2
    assert ablationcam(FEATURES, head).max() == 0
    maps = ablationcam(FEATURES, head, ablation_denominator="magnitude")
    torch.testing.assert_close(maps, torch.tensor([[[[1.0, 6.0, 1.0]]]]))


@pytest.mark.parametrize("kind", POOLINGS)
@torch.no_grad()
def test_ablationcam_is_the_head_without_each_channel(kind):
    model = build_classifier(kind=kind)
    features = model.backbone(random_images())
    logits = model.head(features).logits
    weights = []
    for channel in range(features.shape[1]):
        without = features.clone()
        without[:, channel] = 0
        weights.append((logits - model.head(without).logits) / logits)
    expected = torch.einsum("cbk,bchw->bkhw", torch.stack(weights), features).relu()
    torch.testing.assert_close(ablationcam(features, model.head), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["pcam", "attention"])
def test_ablationcam_chunked_parity(kind):
    features = torch.randn(2, 300, 40, 30, generator=torch.Generator().manual_seed(0))
    head = Head(300, 4, settings=HeadSettings(kind=kind, attention_features=16))
    whole, chunked = (ablationcam(features, head, memory_mib=size) for size in (4096, 1))
    torch.testing.assert_close(whole, chunked, atol=1e-4, rtol=1e-4)


def test_pcam_is_the_probability_of_each_cell():
    head = average_head([[1.0, 0.0], [0.0, -1.0]], bias=0.5)
    torch.testing.assert_close(pcam(FEATURES, head)[0, 1], torch.sigmoid(0.5 - FEATURES[0, 1]))


def test_dff_maps_show_the_concept_that_the_class_likes():
    # Two concepts in different cells; class 0 likes the first channel, class 1 the second.
    features = torch.tensor([[[[4.0, 0.0, 0.0]], [[0.0, 0.0, 2.0]]]])
    head = average_head([[3.0, -3.0], [-3.0, 3.0]], bias=0.0)
    maps = dff(features, head, dff_components=2)
    assert maps.shape == (1, 2, 1, 3)
    assert maps[0, 0].argmax() == 0
    assert maps[0, 1].argmax() == 2
    expected = torch.sigmoid(torch.tensor(12.0))
    torch.testing.assert_close(maps[0, 0, 0, 0], expected, atol=1e-2, rtol=0)


def test_dff_does_not_depend_on_the_batch():
    features = torch.rand(3, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    head = Head(6, 2, settings=HeadSettings())
    assert torch.equal(dff(features, head)[1:2], dff(features[1:2], head))


ODD_FEATURES = {
    "constant": torch.full((2, 5, 3, 4), 0.7),
    "zero": torch.zeros(2, 5, 3, 4),
    "one_cell": torch.tensor([0.0, 1.0, -2.0, 3.0, 0.5]).reshape(1, 5, 1, 1),
    "all_negative": -torch.rand(1, 5, 3, 4, generator=torch.Generator().manual_seed(3)) * 100,
    "huge": torch.rand(1, 5, 3, 4, generator=torch.Generator().manual_seed(4)) * 1e4,
    "one_channel": torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(5)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("case", ODD_FEATURES)
def test_odd_features_give_finite_maps(case, kind, num_classes):
    features = ODD_FEATURES[case]
    model = build_linear_classifier(features, kind=kind, num_classes=num_classes)
    images = random_images(len(features), size_hw=(12, 16))
    result = compute_maps(model, images, list(CAM_METHODS), options=CamOptions(fullgrad_size="features"))
    for name, maps in result.maps.items():
        assert maps.shape == (len(features), num_classes, *features.shape[-2:]), name
        assert maps.dtype == torch.float32, name
        assert maps.isfinite().all(), name
        assert maps.min() >= 0, name


@pytest.mark.parametrize("kind", POOLINGS)
def test_zero_gradients_and_very_negative_logits_give_finite_maps(kind):
    model = build_classifier(kind=kind)
    model.head.classifier.weight.data.zero_()
    model.head.classifier.bias.data.fill_(-1e4)
    maps = compute_maps(model, random_images(1, size_hw=(64, 96)), list(CAM_METHODS)).maps
    assert all(value.isfinite().all() for value in maps.values())
    assert maps["gradcam"].max() == 0
    assert maps["pcam"].max() == 0


def test_constant_features_hold_no_component():
    model = build_linear_classifier(ODD_FEATURES["constant"])
    maps = compute_maps(model, random_images(2, size_hw=(6, 8)), ["eigencam", "eigengradcam", "dff"]).maps
    assert all(value.abs().max() < 1e-6 for value in maps.values())


def test_registry_has_every_method_of_the_specification_and_ours():
    names = (
        "gradcam hirescam gradcamelementwise gradcamplusplus xgradcam ablationcam scorecam eigencam "
        "eigengradcam layercam fullgrad dff pcam layercamfusion scorecambudget"
    )
    assert set(CAM_METHODS) == set(names.split())
    for name, row in CAM_METHODS.items():
        assert row.name == name
        assert row.paper.startswith("https://")
        assert row.function.__doc__, name


def test_unknown_methods_are_told_all_at_once_with_the_nearest_name():
    with pytest.raises(UserError) as caught:
        choose_methods(["gradcam", "gradcam++", "polycam", "scorcam"])
    assert len(caught.value.problems) == 3
    assert "'scorecam'" in caught.value.problems[2]
