"""Copies of an image have nearly the same hash, other images have not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr.imaging.content_hash import MAX_DISTANCE, content_hash, nearest, pairs_within
from cxr.imaging.image_decoder import ImageDecoder
from cxr.imaging.network_input import NetImage
from cxr.imaging.pictures import Pictures
from cxr.imaging.settings import InputSettings
from tests.cxr.imaging.test_cache import images_of

NONE, ONE_BIT, ALL = "0" * 64, "8" + "0" * 63, "f" * 64


def scene(seed: int, size_hw: tuple[int, int] = (200, 260)) -> NetImage:
    """Smooth blobs: structure of all sizes, as in a radiograph."""
    coarse = np.random.default_rng(seed).random((12, 16), dtype=np.float32)
    smooth = cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(255 * smooth, 0, 255).astype(np.uint8)


def distance(one: str, other: str) -> int:
    return int(nearest([one], [other])[0][0])


def test_nothing_to_compare() -> None:
    distances, places = nearest([], [ALL])
    assert (distances.tolist(), places.tolist()) == ([], [])
    distances, places = nearest([ALL], [])
    assert (distances.tolist(), places.tolist()) == ([256], [-1])


def test_the_nearest_is_found_and_the_first_on_ties() -> None:
    distances, places = nearest([NONE, ALL, ONE_BIT], [ALL, ONE_BIT, NONE, ONE_BIT])
    assert distances.tolist() == [0, 0, 0]
    assert places.tolist() == [2, 0, 1]
    assert nearest([NONE], [ALL, ONE_BIT])[0].tolist() == [1]


def test_pairs_within_a_distance_the_most_similar_first() -> None:
    assert [found.shape for found in pairs_within([])] == [(0, 2), (0,)]
    assert [found.shape for found in pairs_within([ALL])] == [(0, 2), (0,)]
    two_bits = "c" + "0" * 63
    places, bits = pairs_within([NONE, ALL, two_bits, ONE_BIT, NONE], max_distance=1)
    assert (places.tolist(), bits.tolist()) == ([[0, 4], [0, 3], [2, 3], [3, 4]], [0, 1, 1, 1])


def test_copies_are_recognised_and_others_are_not() -> None:
    original = scene(0)
    own = content_hash(original)
    half = cv2.resize(original, (130, 100), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", half, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE)
    window = np.clip((original.astype(np.float32) - 20) * 1.25, 0, 255).astype(np.uint8)
    assert max(distance(own, content_hash(copy)) for copy in (original, half, jpeg, window)) <= MAX_DISTANCE
    others = [content_hash(scene(seed)) for seed in range(1, 50)]
    assert min(distance(own, other) for other in others) > MAX_DISTANCE


@pytest.mark.parametrize(("share", "has_hash"), [(0.55, False), (0.45, True)])
def test_a_picture_of_mostly_one_level_has_no_hash(share: float, has_hash: bool) -> None:
    picture = scene(3)
    picture[: round(share * len(picture))] = 0
    assert bool(content_hash(picture)) is has_hash


@pytest.mark.parametrize("cached", [True, False])
def test_input_settings_and_format_do_not_matter(tmp_path: Path, cached: bool) -> None:
    """Letterbox bars and equalisation are left out; the cache keeps the hash."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), scene(0))
    data, expected = images_of(tmp_path / "images"), content_hash(scene(0))
    for change in ({}, {"keep_aspect": True}, {"clahe_clip": 2.0}, {"channels": "clahe3"}):
        cache_dir = tmp_path / "cache" if cached else None
        settings = InputSettings.model_validate({"size_hw": (96, 150), "cache_dir": cache_dir, **change})
        for _ in range(2):
            (found,) = Pictures(data, settings).content_hashes()
            assert distance(found, expected) <= 4
        picture, looks = ImageDecoder(data, settings).with_hash(0)
        assert looks == found
        np.testing.assert_array_equal(picture, Pictures(data, settings)[0])
