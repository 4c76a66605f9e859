"""A bundle is opened only if every file is as it was written."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from cxr.config import UserError
from stage3_detect.serving.model.bundle import open_bundle
from tests.stage3_detect.prediction.run_builders import make_stage3_run


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_what_is_no_bundle_is_named(tmp_path: Path, bundle: Path) -> None:
    for folder, reason in ((tmp_path / "gone", "not a run folder"), (bundle.parents[2] / "stage2", "expected stage3")):
        with pytest.raises(UserError, match=reason):
            open_bundle(folder)


def test_a_run_without_a_bundle_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stage3_detect/bundle\.py"):
        open_bundle(make_stage3_run(tmp_path / "stage3"))


def test_a_run_and_its_bundle_open_as_the_same(bundle: Path) -> None:
    opened, of_run = open_bundle(bundle), open_bundle(bundle.parents[1])
    assert of_run == opened
    assert opened.sha256 == hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    assert set(opened.manifest["files"]) == {path.name for path in bundle.iterdir()} - {"bundle.json"}


@pytest.mark.parametrize("name", ["detector.onnx", "classifier.onnx", "MODEL_CARD.md"])
def test_a_changed_and_a_missing_file_are_named(own: Path, name: str) -> None:
    path = own / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=rf"{name} is not the file"):
        open_bundle(own)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        open_bundle(own)


@pytest.mark.parametrize(("content", "problem"), [("", "damaged"), ("[]", "damaged"), ('{"format": 1}', "damaged")])
def test_damaged_facts_are_refused(own: Path, content: str, problem: str) -> None:
    (own / "bundle.json").write_text(content)
    with pytest.raises(UserError, match=problem):
        open_bundle(own)


def test_another_format_and_files_elsewhere_are_refused(own: Path) -> None:
    manifest = json.loads((own / "bundle.json").read_text())
    (own / "bundle.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(UserError, match="format 99, expected 1"):
        open_bundle(own)
    (own / "bundle.json").write_text(json.dumps(manifest | {"files": {"../best.pt": "0" * 64}}))
    with pytest.raises(UserError, match="outside its folder"):
        open_bundle(own)
