"""The bundle that tests share; it is made once in each process."""

from pathlib import Path

import pytest

from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.model.bundle_model import open_model
from tests.stage3_detect.serving.chain_builders import make_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with detector and classifier (`make_bundle`); do not change its files."""
    return make_bundle(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="session")
def model(bundle: Path) -> ServedModel:
    """The bundle's model with maps, in memory."""
    return open_model(bundle, maps=True, num_threads=1)
