"""Which layers of the detector learn, and that they compute what they compute inside the detector."""

import pytest
import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from stage3_detect.distillation.student import Student, find_taps, layer_outputs

BACKBONE = {"yolo26n.yaml": [4, 6, 10], "yolo11n.yaml": [4, 6, 10], "yolov8n.yaml": [4, 6, 9]}
NECK = {"yolo26n.yaml": [16, 19, 22], "yolo11n.yaml": [16, 19, 22], "yolov8n.yaml": [15, 18, 21]}


def detector(name: str = "yolo26n.yaml") -> DetectionModel:
    torch.manual_seed(0)
    return DetectionModel(name, ch=1, nc=2, verbose=False)


@pytest.mark.parametrize("name", BACKBONE)
def test_layers_that_learn(name: str) -> None:
    model = detector(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    taps = find_taps(model, "neck")
    names = [f"{part}_{stride}" for part in ("backbone", "neck") for stride in (8, 16, 32)]
    assert [tap.name for tap in taps] == names and [tap.stride for tap in taps] == [8, 16, 32] * 2
    assert [tap.layer for tap in taps] == BACKBONE[name] + NECK[name]
    assert find_taps(model, "backbone") == taps[:3]
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_outputs_are_those_of_the_whole_detector() -> None:
    model = detector().eval()
    images = torch.rand(2, 1, 64, 96)
    caught: dict[int, Tensor] = {}
    for index in (4, 10, 16, 22):
        model.model[index].register_forward_hook(lambda _, __, output, index=index: caught.update({index: output}))
    with torch.no_grad():
        found = layer_outputs(model, images, [22, 4, 16, 10])
        caught.clear()
        model(images)
    assert all(torch.equal(one, caught[index]) for one, index in zip(found, (22, 4, 16, 10), strict=True))


def test_predictions_have_the_targets_channels_and_the_head_does_not_learn() -> None:
    model = detector()
    student = Student(model, find_taps(model, "backbone"), [5, 6, 7])
    shapes = [tuple(one.shape) for one in student(torch.rand(2, 1, 64, 96))]
    assert shapes == [(2, 5, 8, 12), (2, 6, 4, 6), (2, 7, 2, 3)]
    learned = {id(parameter) for parameter in student.trained_parameters()}
    assert all(
        (id(parameter) in learned) == (index <= 10)
        for index, layer in enumerate(model.model)
        for parameter in layer.parameters()
    )
    assert all(id(parameter) in learned for parameter in student.projections.parameters())
