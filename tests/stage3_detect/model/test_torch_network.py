"""PyTorch's names of devices."""

import pytest

from stage3_detect.model.torch_network import first_device


@pytest.mark.parametrize(("given", "name"), [("cpu", "cpu"), ("mps", "mps"), ("0", "cuda:0"), ("2,0", "cuda:2")])
def test_of_several_gpus_the_first_is_meant(given: str, name: str) -> None:
    assert str(first_device(given)) == name
