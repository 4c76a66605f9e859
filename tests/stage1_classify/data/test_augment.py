"""What augmentation does to a picture, and that it does what the library's three-channel form would do."""

import random
from functools import cache

import albumentations as A
import cv2
import numpy as np
import pytest
from albumentations.augmentations.geometric.functional import generate_displacement_fields
from scipy.stats import ks_2samp, levene

from cxr.config import UserError
from stage1_classify.data.augment import Augmentation, augmentation_steps, displacements
from stage1_classify.settings.input import AugmentSettings

HOLES = {"num_holes_range": (1, 3), "hole_height_range": (0.05, 0.2), "hole_width_range": (0.05, 0.2)}
PARTS = ("affine", "contrast", "flip", "grid", "elastic", "erase")
OFF = {f"{part}_probability": 0.0 for part in PARTS}
SOURCE = {
    **OFF,
    **{"affine_probability": 1.0, "translate_share": 0.1, "rotate_deg": 15.0},
    **{"scale_share": 0.1, "shear_deg": 5.0},
    **{"contrast_probability": 1.0, "contrast_limit": 0.1, "flip_probability": 0.5},
    **{"grid_probability": 1.0, "grid_steps": 5, "grid_limit": 0.2},
    **{"elastic_probability": 1.0, "elastic_alpha": 0.1, "elastic_sigma": 20.0},
}
"""The source's augmentation, which names no range for scale and shear."""


def settings(**values: float) -> AugmentSettings:
    return AugmentSettings.model_validate({**OFF, **values})


def blurred_noise(size_hw: tuple[int, int] = (120, 168)) -> np.ndarray:
    """A soft grey picture that ends in black: neighbouring pixels differ by 11 levels at most."""
    coarse = np.random.default_rng(0).integers(30, 220, (size_hw[0] // 24, size_hw[1] // 24), dtype=np.uint8)
    coarse[[0, -1]], coarse[:, [0, -1]] = 0, 0
    return cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def library(given: AugmentSettings, *, in_the_sources_order: bool = False) -> A.Compose:
    """The library's own transforms for three equal channels."""
    limit = given.contrast_limit
    parts = [
        A.HorizontalFlip(p=given.flip_probability),
        A.Affine(
            scale=(1 - given.scale_share, 1 + given.scale_share),
            translate_percent=(-given.translate_share, given.translate_share),
            rotate=(-given.rotate_deg, given.rotate_deg),
            shear=(-given.shear_deg, given.shear_deg),
            p=given.affine_probability,
        ),
        A.GridDistortion(given.grid_steps, given.grid_limit, p=given.grid_probability),
        A.ElasticTransform(given.elastic_alpha, given.elastic_sigma, p=given.elastic_probability),
        A.ColorJitter(limit, limit, limit, limit / 2, p=given.contrast_probability),
        A.CoarseDropout(**HOLES, p=given.erase_probability),
    ]
    if in_the_sources_order:
        flip, affine, grid, elastic, jitter, erase = parts
        parts = [affine, jitter, flip, grid, elastic, erase]
    return A.Compose(parts)


def library_picture(compose: A.Compose, picture: np.ndarray, seed: int) -> np.ndarray:
    compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return compose(image=np.repeat(picture[:, :, None], 3, axis=2))["image"]


def differences(ours: AugmentSettings, theirs: AugmentSettings, *, seeds: range = range(12)) -> np.ndarray:
    """(seeds, H, W, 3) grey levels between our picture and each of the library's channels."""
    augmentation, compose, picture = Augmentation(ours), library(theirs), blurred_noise()
    found = [
        augmentation(picture, seed=seed)[:, :, None].astype(int) - library_picture(compose, picture, seed)
        for seed in seeds
    ]
    return np.abs(found)


def test_repeats_with_its_seed_and_off_is_the_identity() -> None:
    picture = blurred_noise()
    augmentation = Augmentation(AugmentSettings.model_validate(SOURCE))
    first = augmentation(picture, seed=5)
    assert (augmentation(picture, seed=6) != first).any()
    np.testing.assert_array_equal(augmentation(picture, seed=5), first)
    np.testing.assert_array_equal(Augmentation(settings())(picture, seed=5), picture)


def test_a_random_crop_is_a_part_of_the_picture_elsewhere_for_each_seed() -> None:
    picture = np.arange(30, dtype=np.uint8).reshape(5, 6)
    crop = Augmentation(settings(), crop_hw=(2, 3))
    corners = set()
    for seed in range(200):
        found = crop(picture, seed=seed)
        top, left = divmod(int(found[0, 0]), 6)
        np.testing.assert_array_equal(found, picture[top : top + 2, left : left + 3])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(4) for left in range(4)}
    assert [name for name, _ in augmentation_steps(picture, settings(), seed=1, crop_hw=(2, 3))] == ["decoded", "crop"]


@pytest.mark.parametrize("shape", [(1, 32, 48), (3, 32, 48), (32, 48, 1), (2, 32, 48, 3)])
def test_only_height_width_and_three_channels_behind_are_taken(shape: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError, match=r"expected a picture \(H, W\) or \(H, W, 3\), got \("):
        Augmentation(settings())(np.zeros(shape, dtype=np.uint8), seed=0)


def test_floats_are_refused() -> None:
    with pytest.raises(AssertionError, match="expected uint8, got float32"):
        Augmentation(settings())(np.zeros((32, 48), dtype=np.float32), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"rotate_deg": 20}, "affine"),
        ({"translate_share": 0.2}, "affine"),
        ({"scale_share": 0.3}, "affine"),
        ({"shear_deg": 20}, "affine"),
        ({"contrast_limit": 0.4}, "contrast"),
        ({"grid_steps": 3}, "grid"),
        ({"grid_limit": 0.4}, "grid"),
        ({"elastic_alpha": 90}, "elastic"),
        ({"elastic_sigma": 3}, "elastic"),
    ],
)
def test_every_strength_matters(changes: dict[str, float], part: str) -> None:
    picture = blurred_noise()
    weaker, stronger = (Augmentation(settings(**{f"{part}_probability": 1.0}, **more)) for more in ({}, changes))
    assert (weaker(picture, seed=1) != picture).any()
    assert (stronger(picture, seed=1) != weaker(picture, seed=1)).any()


def test_flip_mirrors_sideways() -> None:
    flipped = Augmentation(settings(flip_probability=1.0))(blurred_noise(), seed=0)
    np.testing.assert_array_equal(flipped, blurred_noise()[:, ::-1])


def test_brightness_and_contrast_are_factors_within_the_limit() -> None:
    """Of two levels, 60 and 180, the distance is multiplied by both factors, the mean by the brightness alone."""
    halves = np.full((32, 48), 60, dtype=np.uint8)
    halves[:, 24:] = 180
    augmentation = Augmentation(settings(contrast_probability=1.0, contrast_limit=0.2))
    levels = np.array([augmentation(halves, seed=seed)[0, [0, -1]] for seed in range(200)], dtype=float)
    brightness = levels.mean(axis=1) / 120
    contrast = (levels[:, 1] - levels[:, 0]) / 120 / brightness
    for factors in (brightness, contrast):
        assert 0.79 < factors.min() < 0.83
        assert 1.17 < factors.max() < 1.22


def test_erased_rectangles_are_black_and_small() -> None:
    white = np.full((100, 160), 255, dtype=np.uint8)
    augmentation = Augmentation(settings(erase_probability=1.0))
    shares = [float((augmentation(white, seed=seed) == 0).mean()) for seed in range(100)]
    assert min(shares) >= 0.05 * 0.05 * 0.9
    assert max(shares) <= 3 * 0.2 * 0.2
    assert max(shares) > 0.04


def test_parts_come_independently_of_each_other() -> None:
    """A stream of random numbers for each part, all from one seed, would draw all of them or none."""
    white = np.full((32, 48), 255, dtype=np.uint8)
    white[:, :4] = 100
    augmentation = Augmentation(settings(flip_probability=0.5, erase_probability=0.5))
    pictures = [augmentation(white, seed=seed) for seed in range(400)]
    flipped = [(picture[:, -1] == 100).sum() > 16 for picture in pictures]
    erased = [(picture == 0).any() for picture in pictures]
    counts = np.histogram2d(flipped, erased, bins=2)[0]
    assert ((counts > 70) & (counts < 130)).all()  # 100 +- 3.5 standard deviations


def test_three_channels_move_together() -> None:
    picture = blurred_noise()
    channels = np.stack([picture, 255 - picture, picture.T.copy().reshape(picture.shape)], axis=-1)
    moves = AugmentSettings.model_validate(dict.fromkeys(OFF, 1.0) | {"contrast_probability": 0.0})
    moved = Augmentation(moves)(channels, seed=4)
    for channel in range(3):
        alone = Augmentation(moves)(channels[:, :, channel].copy(), seed=4)
        np.testing.assert_allclose(moved[:, :, channel].astype(int), alone, atol=1)
    equal = np.repeat(picture[:, :, None], 3, axis=2)
    source = Augmentation(AugmentSettings.model_validate(SOURCE))
    np.testing.assert_allclose(source(equal, seed=4)[:, :, 2].astype(int), source(picture, seed=4), atol=1)


def test_more_grid_steps_than_pixels_are_refused() -> None:
    with pytest.raises(UserError, match=r"augment\.grid_steps: got 50, expected at most the 32 px"):
        Augmentation(settings(grid_probability=1.0, grid_steps=50))(np.zeros((32, 48), np.uint8), seed=0)


def test_steps_show_each_part_and_end_with_the_augmented_picture() -> None:
    picture, given = blurred_noise(), AugmentSettings.model_validate(SOURCE | {"erase_probability": 0.5})
    for seed in range(8):
        steps = augmentation_steps(picture, given, seed=seed)
        assert [name for name, _ in steps] == [
            "decoded", "flip", "affine", "grid", "elastic", "contrast", "erase"
        ]  # fmt: skip
        np.testing.assert_array_equal(steps[0][1], picture)
        np.testing.assert_array_equal(steps[-1][1], Augmentation(given)(picture, seed=seed))
        flipped = steps[1][1]
        assert (flipped == picture).all() or (flipped == picture[:, ::-1]).all()
        assert (steps[2][1] != flipped).any()
    assert augmentation_steps(picture, settings(), seed=0)[0][0] == "decoded"
    assert len(augmentation_steps(picture, settings(), seed=0)) == 1


# The same as the library's three channels. Its elastic transform with the source's strength moves nothing by more than
# a thousandth of a pixel, so pictures show it with a greater one, and the source's is looked at as a field.

STRENGTHS = {
    "affine": {"translate_share": 0.1, "rotate_deg": 15.0, "scale_share": 0.1, "shear_deg": 5.0},
    "contrast": {"contrast_limit": 0.1},
    "flip": {},
    "grid": {"grid_limit": 0.2},
    "elastic": {"elastic_alpha": 400.0, "elastic_sigma": 20.0},
    "erase": {},
}


@pytest.mark.parametrize("part", PARTS)
def test_each_part_gives_the_librarys_picture(part: str) -> None:
    ours = settings(**{f"{part}_probability": 1.0}, **STRENGTHS[part])
    assert differences(ours, ours).max() <= 1
    assert differences(settings(), ours).max() > 1, "a part that is dropped must show"
    twice = {name: 2 * value for name, value in STRENGTHS[part].items()}
    twice.pop("elastic_sigma", None)
    for name, value in twice.items():
        doubled = settings(**{f"{part}_probability": 1.0}, **STRENGTHS[part] | {name: value})
        assert differences(doubled, ours).max() > 1, f"{name} that is doubled must show"


@pytest.mark.parametrize("sigma", [5.0, 20.0])
def test_all_parts_together_give_the_librarys_picture(sigma: float) -> None:
    given = AugmentSettings.model_validate(
        SOURCE | {"erase_probability": 0.5, "elastic_alpha": 20.0 * sigma, "elastic_sigma": sigma}
    )
    # A level can become two or three by way of the jitter, and at the frame, where bright meets nothing.
    assert (differences(given, given, seeds=range(40)) > 1).mean() < 1e-3


@pytest.mark.parametrize("sigma", [2.0, 7.9, 8.0, 20.0, 45.0])
@pytest.mark.parametrize("alpha", [0.1, 30.0])
def test_displacements_are_the_librarys(sigma: float, alpha: float) -> None:
    ours = displacements((96, 128), alpha=alpha, sigma=sigma, generator=np.random.default_rng(3))
    theirs = np.stack(
        generate_displacement_fields(
            (96, 128), alpha, sigma, same_dxdy=False, kernel_size=(0, 0),
            random_generator=np.random.default_rng(3), noise_distribution="gaussian",
        )
    )  # fmt: skip
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < 0.003 * theirs.std()


# Our order of the parts against the source's, with other seeds, by what a few points of the pictures show.

RAMPS = (
    np.tile(np.arange(128, dtype=np.uint8) * 2, (96, 1)),
    np.tile((np.arange(96, dtype=np.uint8) * 2)[:, None], (1, 128)),
)
HALVES = np.full((96, 128), 60, dtype=np.uint8)
HALVES[:, 64:] = 180
NUM_SEEDS = 300


def places(pictures: list[np.ndarray]) -> np.ndarray:
    """(pictures, 5) of a ramp, whose level is where a point came from: shift, both slopes, stretch, bend."""
    middle, left, right, top, bottom = (
        np.array([picture[y, x] for picture in pictures], dtype=float)
        for y, x in [(48, 64), (48, 34), (48, 94), (28, 64), (68, 64)]
    )
    across, down = right - left, bottom - top
    return np.stack([middle, across, down, np.abs(across) + np.abs(down), left + right - 2 * middle], axis=1)


def levels(pictures: list[np.ndarray]) -> np.ndarray:
    """(pictures, 2) of a dark and a bright half: their mean and their distance."""
    sides = np.array([[picture[48, 34], picture[48, 94]] for picture in pictures], dtype=float)
    return np.stack([sides.mean(axis=1), np.abs(sides[:, 1] - sides[:, 0])], axis=1)


@cache
def in_the_sources_order(brightness_contrast: float) -> tuple[np.ndarray, ...]:
    """Columns of `places` of both ramps, or of `levels`."""
    given = AugmentSettings.model_validate(SOURCE | {"contrast_probability": brightness_contrast})
    compose = library(given, in_the_sources_order=True)

    def augmented(picture: np.ndarray) -> list[np.ndarray]:
        seeds = range(1000, 1000 + NUM_SEEDS)
        return [library_picture(compose, picture, seed)[:, :, 0] for seed in seeds]

    if brightness_contrast:
        return tuple(levels(augmented(HALVES)).T)
    return tuple(column for ramp in RAMPS for column in places(augmented(ramp)).T)


def in_our_order(given: AugmentSettings) -> tuple[np.ndarray, ...]:
    augmentation = Augmentation(given)
    if given.contrast_probability:
        return tuple(levels([augmentation(HALVES, seed=seed) for seed in range(NUM_SEEDS)]).T)
    ramps = [places([augmentation(ramp, seed=seed) for seed in range(NUM_SEEDS)]) for ramp in RAMPS]
    return tuple(column for ramp in ramps for column in ramp.T)


def smallest_p(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> float:
    """Of tests of an equal distribution (Kolmogorov, Smirnov) and of an equal spread (Levene), over all columns."""
    pairs = list(zip(ours, theirs, strict=True))
    return min(min(ks_2samp(*pair).pvalue, levene(*pair).pvalue) for pair in pairs)


@pytest.mark.parametrize("brightness_contrast", [0.0, 1.0])
def test_places_and_levels_are_distributed_as_in_the_sources_order(brightness_contrast: float) -> None:
    ours = AugmentSettings.model_validate(SOURCE | {"contrast_probability": brightness_contrast})
    assert smallest_p(in_our_order(ours), in_the_sources_order(brightness_contrast)) > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"affine_probability": 0.0},
        {"grid_probability": 0.0},
        {"flip_probability": 0.0},
        {"flip_probability": 1.0},
        {"translate_share": 0.2},
        {"rotate_deg": 30.0},
        {"scale_share": 0.2},
        {"grid_limit": 0.4},
    ],
)
def test_another_distribution_of_places_shows(change: dict[str, float]) -> None:
    ours = AugmentSettings.model_validate(SOURCE | {"contrast_probability": 0.0} | change)
    assert smallest_p(in_our_order(ours), in_the_sources_order(0.0)) < 1e-4


def test_another_distribution_of_levels_shows() -> None:
    for limit in (0.0, 0.2):
        ours = AugmentSettings.model_validate(SOURCE | {"contrast_limit": limit})
        assert smallest_p(in_our_order(ours), in_the_sources_order(1.0)) < 1e-4
