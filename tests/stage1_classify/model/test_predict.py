"""Logits over pictures: empty input, batches, and what the network sees under each flip."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.imaging.pictures import Pictures
from stage1_classify.model import predict
from stage1_classify.model.classifier import Classifier
from stage1_classify.model.predict import flipped, predict_logits
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings


@pytest.fixture
def classifier(tmp_path: Path) -> tuple[Classifier, Pictures]:
    """An untrained network (its logits differ from picture to picture all the same) and seven lopsided pictures."""
    settings = stage1_settings(patch_folder(tmp_path, num_images=7))
    torch.manual_seed(0)
    model = Classifier(settings)
    torch.nn.init.normal_(model.head.classifier.weight)
    return model, Pictures(settings.data.read(), settings.input)


def test_no_pictures_give_no_rows(tmp_path: Path, classifier: tuple[Classifier, Pictures]) -> None:
    settings = stage1_settings(tmp_path)
    nothing = Pictures(settings.data.read().select([]), settings.input)
    logits = predict_logits(classifier[0], nothing, num_channels=1, flips=("none", "horizontal"))
    assert logits.shape == (0, 2)
    assert logits.dtype == np.float32


def test_batches_do_not_matter(classifier: tuple[Classifier, Pictures], monkeypatch: pytest.MonkeyPatch) -> None:
    model, pictures = classifier
    whole = predict_logits(model.train(), pictures, num_channels=1)
    assert not model.training
    monkeypatch.setattr(predict, "_BATCH", 3)
    np.testing.assert_allclose(predict_logits(model, pictures, num_channels=1), whole, rtol=1e-5, atol=1e-6)
    assert whole.shape == (7, 2)
    assert len(np.unique(whole[:, 0])) > 1


def test_flips_average_the_logits_of_the_picture_and_its_mirror_image(classifier: tuple[Classifier, Pictures]) -> None:
    model, pictures = classifier
    images = pictures.batch(range(7), 1)
    with torch.inference_mode():
        plain, mirrored = model.eval()(images).numpy(), model(images.flip(3)).numpy()
    assert np.abs(plain - mirrored).max() > 1e-3, "the flip must matter, or this test says nothing"
    for flips, expected in (
        (("none",), plain),
        (("horizontal",), mirrored),
        (("none", "horizontal"), (plain + mirrored) / 2),
    ):
        logits = predict_logits(model, pictures, num_channels=1, flips=flips)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_flipped_exact_value() -> None:
    images = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])
    assert flipped(images, "none").tolist() == images.tolist()
    assert flipped(images, "horizontal").tolist() == [[[[3, 2, 1], [6, 5, 4]]]]
    assert flipped(flipped(images, "horizontal"), "horizontal").tolist() == images.tolist()
