"""The share of variance that is explained, the learning rate, and that the student learns."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from cxr.config import UserError
from cxr.tracking import read_log
from stage1_classify.model.loading import first_member
from stage3_detect.distillation.learning import (
    Distillation,
    DistillationData,
    Moments,
    explained,
    learn,
    learning_rate_factor,
    shares_text,
)
from stage3_detect.distillation.pictures import frame_of, open_pictures
from stage3_detect.distillation.student import Student, find_taps
from stage3_detect.distillation.teacher import Teacher
from tests.stage3_detect.serving.chain_builders import make_classifier_run
from tests.stage3_detect.stage3_builders import make_coco, tiny_settings

CPU = torch.device("cpu")
STILL = {"flip_probability": 0, "rotate_deg": 0, "translate_share": 0, "scale_share": 0, "contrast_probability": 0}


def learning_of(root: Path, *, train: list[int], held_out: list[int], **distillation: float) -> Distillation:
    """Six pictures of 64 x 64 for images of 90 x 130, and untrained networks."""
    images = make_coco(root, "train", num_images=6, seed=1)
    frame_hw = frame_of(images, 64)
    pictures, _ = open_pictures(root / "cache", images, frame_hw, on_problem="error")
    rows = (np.array(part, dtype=np.int64) for part in (train, held_out))
    data = DistillationData(pictures, *rows, CPU, 4)
    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", ch=1, nc=2, verbose=False)
    taps = find_taps(model, "backbone")
    teacher = Teacher(first_member(make_classifier_run(root / "stage1")), frame_hw, [8, 16, 32], CPU)
    student = Student(model, taps, teacher.standardise_by(data.batches(data.train)))
    settings = tiny_settings(data={"image_px": 64}, augment=STILL, distillation=distillation)
    return Distillation(student, teacher, data, settings, "fp32")


def test_nothing_and_constant_targets_have_no_share() -> None:
    moments = Moments()
    assert moments.share_explained() is None
    moments.add(torch.ones(2, 3, 4, 5), torch.full((2, 3, 4, 5), 2.0))
    assert moments.share_explained() is None


def test_share_is_one_minus_errors_over_variance() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(5, 3, 4, 6)) + np.array([0, 5, -2])[:, None, None]
    found = wanted + rng.normal(scale=0.5, size=wanted.shape)
    moments = Moments()
    for part in (slice(0, 2), slice(2, 5)):
        moments.add(torch.from_numpy(found[part]), torch.from_numpy(wanted[part]))
    mean = wanted.mean((0, 2, 3), keepdims=True)
    expected = 1 - ((found - wanted) ** 2).sum() / ((wanted - mean) ** 2).sum()
    assert moments.share_explained() == pytest.approx(expected, abs=1e-9)
    perfect, constant = Moments(), Moments()
    perfect.add(torch.from_numpy(wanted), torch.from_numpy(wanted))
    constant.add(torch.from_numpy(np.broadcast_to(mean, wanted.shape).copy()), torch.from_numpy(wanted))
    assert perfect.share_explained() == pytest.approx(1)
    assert constant.share_explained() == pytest.approx(0, abs=1e-9)


def test_learning_rate_rises_in_a_twentieth_and_falls_as_a_cosine() -> None:
    assert [learning_rate_factor(share) for share in (0.0125, 0.05)] == pytest.approx([0.25, 1])
    assert learning_rate_factor(0.05 + 0.95 / 3) == pytest.approx(0.75)
    assert learning_rate_factor(1) == pytest.approx(0, abs=1e-12)


def test_shares_as_text() -> None:
    assert shares_text({}) == ""
    assert shares_text({"backbone_8": 0.3124, "neck_16": None}) == "backbone_8 0.312, neck_16 unknown"


def test_batches_have_about_one_size_and_keep_their_order(tmp_path: Path) -> None:
    data = learning_of(tmp_path, train=[4, 0, 5, 1, 2], held_out=[]).data
    assert list(data.batches(data.held_out)) == []
    batches = list(data.batches(data.train))
    assert [len(one) for one in batches] == [3, 2] and data.num_batches(data.train) == 2
    expected = np.stack([data.pictures[row] for row in (4, 0, 5, 1, 2)])[:, None] / 255
    assert torch.cat(batches).numpy() == pytest.approx(expected, abs=1e-6)


def test_the_student_learns_the_features_of_pictures_it_sees(tmp_path: Path) -> None:
    job = learning_of(tmp_path, train=[0, 1, 3, 4], held_out=[0, 1, 3, 4], num_epochs=12, learning_rate=0.01)
    before = explained(job)
    shares = learn(job, tmp_path)
    assert before.keys() == shares.keys()
    assert all(share is not None and share < 0.005 for share in before.values()), before
    assert all(share is not None and share > 0.01 for share in shares.values()), shares
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 13)) and lines[-1]["loss"] < lines[0]["loss"] / 2
    assert {name: lines[-1][name] for name in shares} == shares


def test_a_loss_that_is_no_number_is_explained(tmp_path: Path) -> None:
    job = learning_of(tmp_path, train=[0, 1], held_out=[], num_epochs=1)
    with torch.no_grad():
        job.student.projections[0].weight.fill_(math.nan)
    with pytest.raises(UserError, match=r"distillation.learning_rate \(0.002\)"):
        learn(job, tmp_path)


def test_a_diverged_distillation_stops_and_stops_again(tmp_path: Path) -> None:
    job = learning_of(tmp_path, train=[0, 1, 3, 4], held_out=[], num_epochs=4, learning_rate=1e4)
    for _ in range(2):  # the second one resumes
        with pytest.raises(UserError) as caught:
            learn(job, tmp_path)
        (line,) = caught.value.problems
        assert line.startswith("distillation: ") and " in epoch 2 (" in line and " times in epoch 1)" in line
        assert line.endswith("a lower distillation.learning_rate than 10000")
        assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
