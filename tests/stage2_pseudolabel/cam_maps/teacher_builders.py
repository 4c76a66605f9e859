"""Teachers of tiny networks with random weights, over the pictures of `patch_folder` (40 x 60, seen at 32 x 48)."""

from pathlib import Path
from typing import Any

import torch

from cxr.imaging.pictures import Pictures
from cxr.tables import Dataset
from stage1_classify.data.hierarchy import Hierarchy
from stage1_classify.model.classifier import Classifier
from stage1_classify.model.loading import Member, Trained
from stage1_classify.model.probabilities import Probabilities, uncalibrated
from stage2_pseudolabel.cam_maps.teacher import Teacher
from stage2_pseudolabel.settings.cam import CamOptions
from stage2_pseudolabel.settings.pseudolabel import TeacherSettings
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

METHODS = ["gradcam", "pcam"]
PLAIN = Probabilities(Hierarchy((-1, -1)), uncalibrated(2))


def member(root: Path, *, seed: int, channels: int = 1, **backbone: Any) -> Member:
    """By default test_convnext up to stage 1."""
    settings = stage1_settings(root, backbone={"in_channels": channels, "feature_stage": 1, **backbone})
    torch.manual_seed(seed)
    model = Classifier(settings).eval()
    torch.nn.init.normal_(model.head.classifier.weight)
    return Member(model, PLAIN, settings.input, channels)


def teacher(root: Path, *members: Member, flips: tuple[str, ...] = ("none",), **settings: Any) -> Teacher:
    """Parts of 4 images; probabilities of several networks are the minimum."""
    trained = Trained(stage1_settings(root), members, "minimum", flips, uncalibrated(2))
    return Teacher(trained, CamOptions(batch_size=4), TeacherSettings(**settings))


def pictures_of(root: Path, *, num_images: int, cached: bool = True) -> tuple[Dataset, Pictures]:
    """A new folder of them."""
    cache = {} if cached else {"input": {"cache_dir": None}}
    settings = stage1_settings(patch_folder(root, num_images=num_images), **cache)
    data = settings.data.read()
    return data, Pictures(data, settings.input)
