"""Where the repository's files are, for tests that run its scripts or read its settings."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SAMPLES = ROOT.parent / "shared" / "data" / "annotation_samples"
"""Excerpts of real annotation tables, beside the repository. They are not redistributed."""

needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no excerpts of annotation tables in {SAMPLES}")
