"""In one process a shared batch norm is the ordinary one; several processes are in test_distributed.py."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from cxr.config import UserError
from stage1_classify.training.batch_norms import SharedBatchNorm2d, SharedBatchNormAct2d, synchronise_batch_norms

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(5),
        nn.BatchNorm2d(5, momentum=None, eps=0.1),
        nn.BatchNorm2d(5, affine=False),
        nn.BatchNorm2d(5, track_running_stats=False),
        BatchNormAct2d(5, momentum=0.3),
    ],
)
@pytest.mark.parametrize("shape", [(1, 5, 4, 6), (3, 5, 7, 2)])
def test_output_and_gradients_are_those_of_the_ordinary_norm(norm: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm = copy.deepcopy(norm)  # the parameter is shared between cases
    plain = nn.Sequential(norm)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    shared = copy.deepcopy(plain)
    synchronise_batch_norms(shared, CPU)
    assert shared.state_dict().keys() == plain.state_dict().keys()
    weights = torch.randn(shape)
    images = [(2 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))).requires_grad_() for _ in "ab"]
    outputs = [model(given) for model, given in zip((plain, shared), images, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-4)
    for output in outputs:
        (output * weights).sum().backward()
    torch.testing.assert_close(images[1].grad, images[0].grad, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(shared.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_running_statistics_and_evaluation_are_those_of_the_ordinary_norm() -> None:
    torch.manual_seed(0)
    images = 5 + torch.randn(4, 5, 3, 6)
    for plain in (nn.BatchNorm2d(5), nn.BatchNorm2d(5, momentum=None), BatchNormAct2d(5)):
        shared = nn.Sequential(copy.deepcopy(plain))
        synchronise_batch_norms(shared, CPU)
        assert type(shared[0]) in (SharedBatchNorm2d, SharedBatchNormAct2d)
        for batch in (images[:2], images[2:], images):
            plain(batch)
            shared(batch)
        torch.testing.assert_close(shared[0].state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(shared.eval()(images), plain.eval()(images), rtol=1e-5, atol=1e-5)


def test_a_norm_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match=r"processes: 1 is a BatchNorm3d, .* train with one process"):
        synchronise_batch_norms(nn.Sequential(nn.Conv3d(2, 5, 3), nn.BatchNorm3d(5)), CPU)
