"""Files of corrected images: held in memory while they are read, stored only with a correction of them."""

import contextlib
import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from cxr.config import UserError
from cxr.imaging.files import KIND_SUFFIXES, kind_suffix
from stage3_detect.serving.corrections.log import disk_full_named
from stage3_detect.serving.corrections.record import Reading
from stage3_detect.serving.interface import DecodedImage

_PARTIAL = ".partial"
_MAX_SIZES = 10_000


class ImageSizes:
    """Sizes of the images that were shown last. Other replicas may have shown others, so one may be unknown."""

    def __init__(self) -> None:
        self._sizes_wh: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._lock = Lock()

    def remember(self, image: DecodedImage) -> None:
        """Remember the size of an image as it is shown."""
        height, width = image.pixels.shape
        with self._lock:
            self._sizes_wh.pop(image.sha256, None)
            self._sizes_wh[image.sha256] = (width, height)
            if len(self._sizes_wh) > _MAX_SIZES:
                self._sizes_wh.popitem(last=False)

    def check(self, reading: Reading, *, earlier_wh: tuple[int, int] | None = None) -> None:
        """UserError if the image is known to have another size than the reading says.

        earlier_wh: the size in its last reading, which counts where the image was not shown here.
        """
        given = reading.size_wh
        known = self._sizes_wh.get(reading.image_sha256, earlier_wh or given)
        if given != known:
            raise UserError(
                f"width_px, height_px: got {given[0]} x {given[1]}, but the image has {known[0]} x {known[1]} pixels"
            )


class ImageKeeper:
    """Keeps the files that the page shows until `store`, at most `max_bytes` of them; the oldest are dropped first."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._lock, self._write_lock = Lock(), Lock()
        for path in folder.glob(f"*{_PARTIAL}"):  # of a process that was killed
            path.unlink()

    def hold(self, data: bytes, sha256: str) -> None:
        """Hold a PNG, JPEG or DICOM file in memory. A file that alone exceeds the limit is not held."""
        if len(data) > self._max_bytes:
            return
        with self._lock:
            self._files.pop(sha256, None)
            self._files[sha256] = data
            total = sum(map(len, self._files.values()))
            while total > self._max_bytes:
                total -= len(self._files.popitem(last=False)[1])

    def store(self, sha256: str) -> bool:
        """Write the file as ``<sha256>.<ending>``, readable by its owner only, if it is not there yet.

        Returns:
            False if the file is neither stored nor held.

        Raises:
            DiskFullError: the disk is full; nothing is left behind.
            OSError: the disk failed.
        """
        with self._write_lock:
            if self.stored(sha256) is not None:
                return True
            with self._lock:
                data = self._files.get(sha256)
            if data is None:
                return False
            with disk_full_named():
                self.folder.mkdir(mode=0o700, exist_ok=True)
                _write(self.folder / f"{sha256}{kind_suffix(data)}", data)
        return True

    def remove(self, sha256: str) -> None:
        """Delete the stored file of an image whose reading could not be saved."""
        path = self.stored(sha256)
        if path is not None:
            path.unlink(missing_ok=True)

    def stored(self, sha256: str) -> Path | None:
        """The stored file of an image."""
        paths = (self.folder / f"{sha256}{suffix}" for suffix in KIND_SUFFIXES)
        return next((path for path in paths if path.is_file()), None)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(_PARTIAL)
    try:
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
