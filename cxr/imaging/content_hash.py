"""A hash of what an image shows, which copies in another size, format or window share."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cxr.arrays import Ints
from cxr.imaging.network_input import NetImage

MAX_DISTANCE = 24
"""Images whose hashes differ in at most this number of bits show the same; docs/data.md shows how well this works."""

_SIDE_PX, _BLOCK = 64, 16
_BITS = _BLOCK * _BLOCK


def content_hash(picture: NetImage) -> str:
    """64 hexadecimal digits for a grey picture (H, W) without letterbox bars.

    The 256 bits are the signs of the lowest frequencies, 16 in each direction, of the cosine transform of the picture
    at 64 x 64 pixels (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010). The usual 8 in
    each direction do not tell chest radiographs apart (docs/data.md).

    Returns "" for a picture in which more than half of the pixels have one grey level: it shows too little.
    """
    small = cv2.resize(picture, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    if 2 * np.bincount(small.ravel()).max() > small.size:
        return ""
    block = cv2.dct(small.astype(np.float32))[:_BLOCK, :_BLOCK]
    return np.packbits(block > 0).tobytes().hex()


def nearest(hashes: Sequence[str], others: Sequence[str]) -> tuple[Ints, npt.NDArray[np.intp]]:
    """The most similar of `others` for each hash; the first on ties.

    Returns (N,) number of bits that differ, and (N,) index; all bits and -1 where there are no others.
    """
    if not others:
        return np.full(len(hashes), _BITS, dtype=np.int64), np.full(len(hashes), -1, dtype=np.intp)
    theirs = _words(others)
    distances = np.empty(len(hashes), dtype=np.int64)
    places = np.empty(len(hashes), dtype=np.intp)
    for row, own in enumerate(_words(hashes)):
        differing = np.bitwise_count(theirs ^ own).sum(axis=1, dtype=np.int64)
        places[row] = differing.argmin()
        distances[row] = differing[places[row]]
    return distances, places


def pairs_within(hashes: Sequence[str], *, max_distance: int = MAX_DISTANCE) -> tuple[npt.NDArray[np.intp], Ints]:
    """All pairs of hashes that differ in at most `max_distance` bits, the most similar first.

    The time grows with the square of N.

    Returns (M, 2) indices, the smaller one first, and (M,) number of bits that differ.
    """
    words = np.ascontiguousarray(_words(hashes).T)  # word by word, over which the processor is several times as fast
    places: list[tuple[int, int]] = []
    bits: list[int] = []
    for row in range(len(hashes)):
        counts = [np.bitwise_count(word[row + 1 :] ^ word[row]) for word in words]
        differing = np.add(counts[0] + counts[1], counts[2] + counts[3], dtype=np.uint16)  # 256 is too large for uint8
        found = np.flatnonzero(differing <= max_distance)
        places += [(row, row + 1 + int(other)) for other in found]
        bits += differing[found].tolist()
    order = np.argsort(np.array(bits, dtype=np.int64), kind="stable")
    return np.array(places, dtype=np.intp).reshape(-1, 2)[order], np.array(bits, dtype=np.int64)[order]


def _words(hashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    """(N, 4) the hashes as numbers."""
    data = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64)
    return data.reshape(len(hashes), _BITS // 64)
