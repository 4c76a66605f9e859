"""The bundle that tests share; it is made once in each process."""

import shutil
from pathlib import Path

import pytest

from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.model.bundle_model import open_model
from tests.stage3_detect.prediction.run_builders import write_settled_weights
from tests.stage3_detect.serving.chain_builders import make_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with detector and classifier (`make_bundle`); do not change its files."""
    return make_bundle(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="session")
def bundle_alone(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle without its runs: a process that serves it needs no PyTorch, and starts in a third of the time."""
    return Path(shutil.copytree(bundle, tmp_path_factory.mktemp("alone") / "bundle"))


@pytest.fixture(scope="session")
def model(bundle: Path) -> ServedModel:
    """The bundle's model with maps, in memory."""
    return open_model(bundle, maps=True, num_threads=1)


@pytest.fixture(scope="session")
def settled_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose detector shows a few boxes of different scores."""
    return make_bundle(tmp_path_factory.mktemp("settled"), write=write_settled_weights)


@pytest.fixture(scope="session")
def settled_model(settled_bundle: Path) -> ServedModel:
    """The model of that bundle, without maps."""
    return open_model(settled_bundle, num_threads=1)
