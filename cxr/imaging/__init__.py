"""Images: decoding, geometry, network input and the picture cache. `read_image` reads a radiograph from a file."""

from cxr.imaging.files import read_image

__all__ = ["read_image"]
