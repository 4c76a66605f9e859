"""The gate passes what it was fitted on, and names simulated faults, examples, and what is neither."""

import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from stage3_detect.image_quality.description import describe, thumbnail_of
from stage3_detect.image_quality.faults import FAULTS
from stage3_detect.image_quality.fit import MIN_IMAGES, GoodImages, describe_good, fit_gate
from stage3_detect.image_quality.gate import NUM_FEATURES, Gate, Reference, open_gate, reference_bytes
from tests.stage3_detect.image_quality.gate_builders import HEIGHT, WIDTH, chest

NUM_GOOD = 100
NEW = range(1000, 1020)
NO_FAULTS = np.array(["sideways"] * 7)


@pytest.fixture(scope="module")
def good() -> GoodImages:
    return describe_good(chest(seed) for seed in range(NUM_GOOD))


@pytest.fixture(scope="module")
def reference(good: GoodImages) -> Reference:
    side_views = [describe(thumbnail_of(np.roll(chest(seed), 90, axis=1))) for seed in range(20)]
    return fit_gate(good, {"lateral": side_views})


def codes(gate: Gate, images: list[np.ndarray]) -> list[tuple[str, ...]]:
    return [gate.check(pixels).codes for pixels in images]


def test_too_few_images_make_no_gate(good: GoodImages) -> None:
    with pytest.raises(UserError, match=str(MIN_IMAGES)):
        fit_gate(describe_good([]))
    with pytest.raises(UserError, match="1 different"):
        fit_gate(describe_good([chest(0)[::9, ::9]] * MIN_IMAGES))
    with pytest.raises(UserError, match="lateral"):
        fit_gate(good, {"lateral": good.descriptions[:2]})


def test_new_good_images_pass_at_any_depth(reference: Reference) -> None:
    gate = Gate(reference)
    assert codes(gate, [chest(seed) for seed in NEW]) == [()] * len(NEW)
    assert codes(gate, [chest(seed).astype(np.uint16) * 16 + 100 for seed in NEW]) == [()] * len(NEW)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_simulated_fault_is_named(reference: Reference, fault: str) -> None:
    rng = np.random.default_rng(0)
    found = codes(Gate(reference), [FAULTS[fault](chest(seed), rng) for seed in NEW])
    assert all(found)
    assert sum(fault in one for one in found) >= 0.8 * len(NEW)


def test_examples_are_named_and_other_pictures_are_no_chest(reference: Reference) -> None:
    gate = Gate(reference)
    side_views = codes(gate, [np.roll(chest(seed), 90, axis=1) for seed in NEW])
    assert sum(one == ("lateral",) for one in side_views) >= 0.8 * len(NEW)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
    assert gate.check(noise).codes == ("not_chest",)


def test_the_numbers_for_drift_name_what_they_are(reference: Reference) -> None:
    record = Gate(reference, identity="abc").check(chest(7)).record()
    assert (record["gate"], record["reasons"], len(record["features"])) == ("abc", [], NUM_FEATURES)
    assert (record["statistics"]["width_px"], record["statistics"]["height_px"]) == (WIDTH, HEIGHT)
    assert record["statistics"]["unlikeness"] < float(reference.limit)


def test_a_file_gives_the_same_gate_and_the_same_bytes(reference: Reference, tmp_path: Path) -> None:
    data = reference_bytes(reference)
    assert data == reference_bytes(reference)
    path = tmp_path / "gate.npz"
    path.write_bytes(data)
    opened = open_gate(path, mode="warn")
    assert opened.reference is not None
    assert reference_bytes(opened.reference) == data
    turned = [chest(seed)[::-1, ::-1] for seed in NEW]
    assert codes(opened, turned) == codes(Gate(reference), turned)


def test_rules_that_good_images_break_are_not_used() -> None:
    """Images of 90 x 70 pixels, wide black edges: neither is a fault where all training images have it."""
    images = [np.pad(chest(seed)[::5, ::5], ((0, 0), (60, 60))) for seed in range(MIN_IMAGES)]
    gate = Gate(fit_gate(describe_good(images)))
    assert gate.check(images[0]).codes == ()
    assert gate.check(images[0][:20, :16]).codes[0] == "small"


@pytest.mark.parametrize("content", ["bomb", "no array"])
def test_a_hostile_archive_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "gate.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("limit.npy", bytes(2**27) if content == "bomb" else b"")
    with pytest.raises(UserError, match=r"damaged .*write the bundle again"):
        open_gate(path)


@pytest.mark.parametrize("damage", ["cut", "pickle", "shape", "nan", "fault", "text", "zero"])
def test_a_damaged_file_is_refused(reference: Reference, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "gate.npz"
    if damage == "cut":
        path.write_bytes(reference_bytes(reference)[:3000])
    elif damage == "pickle":
        values = {part.name: getattr(reference, part.name) for part in fields(reference)}
        np.savez(path, **values | {"faults": np.array([{}], dtype=object)})
    else:
        wrong = {"shape": ("scales", np.ones(3)), "nan": ("limit", np.array(np.nan)), "fault": ("faults", NO_FAULTS)}
        wrong |= {"text": ("limit", np.array("1")), "zero": ("spread", reference.spread * 0)}
        name, value = wrong[damage]
        path.write_bytes(reference_bytes(replace(reference, **{name: value})))
    with pytest.raises(UserError, match=r"damaged .*write the bundle again"):
        open_gate(path)
