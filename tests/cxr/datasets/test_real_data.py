"""Counts on real data, by hand: ``RAYBOX_REAL_DATA=FOLDER pytest tests/cxr/datasets/test_real_data.py``.

FOLDER holds tbx11k/, kermany/ and nih64/ (1,000 images of NIH ChestX-ray14 at 64 px). None of them may be
redistributed, so these tests are skipped wherever the folder is not given.
"""

import os
from pathlib import Path

import pytest

from cxr.datasets import KermanyData, NihData, Tbx11kData
from cxr.splits import SplitSettings

FOLDER = Path(os.environ.get("RAYBOX_REAL_DATA", ""))

pytestmark = pytest.mark.skipif(
    "RAYBOX_REAL_DATA" not in os.environ, reason="real data are not redistributed: set RAYBOX_REAL_DATA to its folder"
)


def test_tbx11k() -> None:
    released = Tbx11kData(root=FOLDER / "tbx11k").read()
    assert (len(released.images), len(released.boxes)) == (600, 902)
    halves = Tbx11kData(root=FOLDER / "tbx11k", layout="hemithorax").read()
    assert len(halves.images) == 1198
    assert [item.what for item in halves.excluded] == ["tb1199"]


def test_kermany() -> None:
    data = KermanyData(root=FOLDER / "kermany").read()
    assert len(data.images) == 5856
    assert data.images["patient_id"].nunique() == 4097
    splits = SplitSettings(kind="patients", fractions={"train": 0.7, "val": 0.1, "test": 0.2}).make(data)
    assert sum(map(len, splits.values())) == 5856
    unique = KermanyData(root=FOLDER / "kermany", duplicates="exclude").read()
    assert len(unique.excluded) == 32


def test_nih64() -> None:
    data = NihData(root=FOLDER / "nih64").read()
    assert (len(data.images), len(data.boxes)) == (1000, 9)
    assert data.boxes[["x2", "y2"]].to_numpy().max() <= 64
