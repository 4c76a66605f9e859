"""Memory of the service's process."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h, for `mallopt`."""
_LARGEST_IMAGE_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Let the allocator keep the memory of one image for the next, in place of returning it to the system.

    By default glibc takes large arrays from the system one by one, and the system clears each page again: for a
    radiograph of 15 MB that took a quarter of the request. The process keeps as much as its largest requests needed.

    Returns:
        Whether the allocator took both values; False without glibc, where nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    values = {_M_MMAP_THRESHOLD: _LARGEST_IMAGE_BYTES, _M_TRIM_THRESHOLD: _LARGEST_IMAGE_BYTES}
    return all([mallopt(name, value) for name, value in values.items()])
