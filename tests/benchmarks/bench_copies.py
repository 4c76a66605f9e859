"""How well content hashes recognise copies of radiographs: false alarms and missed copies on folders of real images.

    python tests/benchmarks/bench_copies.py FOLDER... [--num-copied 300] [--size 224]

Every pair of images in a folder is compared: pairs at most `MAX_DISTANCE` bits apart count as copies. Those whose files
have the same bytes are real copies; the others are listed, to be looked at. Then copies of up to --num-copied images of
each folder are made in several ways and compared with their originals, at the size of a network's input. *ms* is CPU
time of one hash with the resizing before it, without decoding; *hashed* is the share of images that show enough to have
a hash. The last line is one JSON object.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from cxr.imaging.content_hash import MAX_DISTANCE, content_hash
from cxr.imaging.files import Pixels, read_pixels
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage, to_net_image

ENDINGS = (".png", ".jpg", ".jpeg")
SHOWN = 10


def stored_as_jpeg(image: NetImage, quality: int) -> NetImage:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def half(image: NetImage) -> NetImage:
    height, width = image.shape
    size_wh = (max(1, width // 2), max(1, height // 2))
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def windowed(image: NetImage, low: float, high: float) -> NetImage:
    """Another window: levels below `low` and above `high` are lost."""
    stretched = (image.astype(np.float32) - low) * (255 / (high - low))
    return np.clip(stretched, 0, 255).round().astype(np.uint8)


def curved(image: NetImage, exponent: float) -> NetImage:
    """Another grey curve."""
    return (255 * (image / 255) ** exponent).round().astype(np.uint8)


COPIES: dict[str, Callable[[NetImage], NetImage]] = {
    "half size": half,
    "JPEG, quality 50": lambda image: stored_as_jpeg(image, 50),
    "half size, JPEG 75": lambda image: stored_as_jpeg(half(image), 75),
    "window 20 to 220": lambda image: windowed(image, 20, 220),
    "gamma 0.7": lambda image: curved(image, 0.7),
    "CLAHE, clip 2": lambda image: np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(image), dtype=np.uint8),
    "5 % cut off each side": lambda image: np.ascontiguousarray(
        image[image.shape[0] // 20 : -(image.shape[0] // 20), image.shape[1] // 20 : -(image.shape[1] // 20)]
    ),
}


def hash_of(image: Pixels, size: int) -> str:
    """The hash as stages 1 and 2 compute it, from a picture of `size` pixels squared."""
    return content_hash(to_net_image(image, Resize((image.shape[0], image.shape[1]), (size, size))))


def bits_of(hashes: list[str]) -> npt.NDArray[np.float32]:
    """(N, 256) -1 or 1."""
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(len(hashes), -1)
    return 2 * np.unpackbits(packed, axis=1).astype(np.float32) - 1


def pairs_within(hashes: list[str], limit: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """(P, 2) all pairs at most `limit` bits apart, nearest first, and (P,) their distances."""
    bits = bits_of(hashes)
    distances = np.triu(((bits.shape[1] - bits @ bits.T) / 2).round().astype(np.int64) + 1, 1) - 1
    first, second = np.nonzero((distances >= 0) & (distances <= limit))
    order = np.argsort(distances[first, second], kind="stable")
    return np.stack([first, second], axis=1)[order], distances[first, second][order]


def false_alarms(paths: list[Path], hashes: list[str]) -> dict[str, object]:
    pairs, distances = pairs_within(hashes, 60)
    contents = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    same = np.array([contents[a] == contents[b] for a, b in pairs], dtype=bool)
    near = distances <= MAX_DISTANCE
    others = distances[~near]
    for (a, b), distance in list(zip(pairs[near & ~same], distances[near & ~same], strict=True))[:SHOWN]:
        Console().print(f"{distance} bits: {paths[a]} {paths[b]}")
    return {
        "pairs": len(hashes) * (len(hashes) - 1) // 2,
        "same bytes": int(same.sum()),
        "same bytes, not found": int((same & ~near).sum()),
        "other pairs found": int((near & ~same).sum()),
        "nearest pair not found, bits": int(others.min()) if len(others) else None,
    }


def missed(images: list[NetImage], size: int) -> dict[str, float]:
    """Share of missed copies by kind of copy."""
    shares = {}
    originals = [hash_of(image, size) for image in images]
    for name, copy in COPIES.items():
        pairs = [(own, hash_of(copy(image), size)) for own, image in zip(originals, images, strict=True) if own]
        bits = [(bits_of([a]) != bits_of([b])).sum() if b else 256 for a, b in pairs]
        shares[name] = float(np.mean(np.array(bits) > MAX_DISTANCE)) if bits else float("nan")
    return shares


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--num-copied", type=int, default=300)
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    figures = {}
    for folder in given.folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
        images = [read_pixels(path) for path in paths]
        begin = time.process_time()
        hashes = [hash_of(image, given.size) for image in images]
        milliseconds = 1000 * (time.process_time() - begin) / len(paths)
        kept = [row for row, own in enumerate(hashes) if own]
        rows: dict[str, object] = {"images": len(paths), "hashed": len(kept) / len(paths), "ms": milliseconds}
        rows |= false_alarms([paths[row] for row in kept], [hashes[row] for row in kept])
        chosen = np.random.default_rng(0).permutation(len(paths))[: given.num_copied]
        as_bytes = [images[row].astype(np.uint8) for row in chosen if images[row].dtype == np.uint8]
        rows |= {f"missed: {name}": share for name, share in missed(as_bytes, given.size).items()}
        table = Table(str(folder), "")
        for name, value in rows.items():
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
        Console().print(table)
        figures[str(folder)] = rows
    Console().print(json.dumps(figures), soft_wrap=True)


if __name__ == "__main__":
    main()
