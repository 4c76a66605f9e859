"""Size, exposure and thumbnails of images; broken files are named, and a second audit decodes nothing."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from eval.audit.image_facts import COLUMNS, ImageFacts, measure_images
from tests.eval.audit.audit_builders import data_set, write_texture


def measured(root: Path, num: int, **columns: list[object]) -> ImageFacts:
    return measure_images(data_set(root, labels={"Edema": [0] * num}, **columns), root / "cache")


def test_no_images(tmp_path: Path) -> None:
    facts = measured(tmp_path, 0)
    assert list(facts.table.columns) == list(COLUMNS)
    assert (len(facts.table), facts.thumbnails.shape, dict(facts.problems)) == (0, (0, 64, 64), {})


def test_exposure_is_that_of_the_stretched_image(tmp_path: Path) -> None:
    """Left half 50, right half 101 of 255: black and white once it is stretched."""
    picture = np.full((256, 512), 50, dtype=np.uint8)
    picture[:, 256:] = 101
    assert cv2.imwrite(str(tmp_path / "a.png"), picture)
    facts = measured(tmp_path, 1)
    assert facts.table.drop(columns="hash").loc["a"].to_dict() == {
        "height": 256, "width": 512, "range": 0.2, "mean": 0.5, "contrast": 0.5, "black": 0.5, "white": 0.5,
    }  # fmt: skip
    assert facts.thumbnails[0, 3].tolist() == [0] * 32 + [255] * 32


def test_halves_have_the_size_of_halves(tmp_path: Path) -> None:
    write_texture(tmp_path / "x.png", 0, (120, 161))
    facts = measured(tmp_path, 2, path=["x.png", "x.png"], region=["left", "right_mirrored"])
    assert facts.table[["height", "width"]].to_numpy().tolist() == [[120, 80], [120, 80]]


def test_broken_files_are_named_and_the_others_measured(tmp_path: Path) -> None:
    for number, name in enumerate("abcd"):
        write_texture(tmp_path / f"{name}.png", number)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.png").write_bytes(b"")
    assert cv2.imwrite(str(tmp_path / "c.png"), np.full((30, 40), 7, dtype=np.uint8))  # one grey level
    facts = measured(tmp_path, 5)  # e is missing
    assert list(facts.problems) == ["a.png", "b.png", "c.png", "e.png"]
    assert facts.table.index.tolist() == ["d"]
    assert len(facts.thumbnails) == 1


def test_an_audit_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line of the index is what a killed process leaves."""
    for number, name in enumerate("abc"):
        write_texture(tmp_path / f"{name}.png", number)
    first = measured(tmp_path, 2)
    index = next((tmp_path / "cache").rglob("index.txt"))
    with index.open("ab") as file:
        file.write(b'12345678 ["half a li')
    decoded: list[str] = []
    original = cv2.imdecode
    monkeypatch.setattr("cv2.imdecode", lambda *args: (decoded.append(""), original(*args))[1])
    again = measured(tmp_path, 3)
    assert len(decoded) == 1
    pd.testing.assert_frame_equal(again.table.iloc[:2], first.table)
    np.testing.assert_array_equal(again.thumbnails[:2], first.thumbnails)
