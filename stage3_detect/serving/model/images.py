"""Uploaded images: decoding."""

from hashlib import sha256

from cxr.config import UserError
from cxr.crashes import read_named
from cxr.imaging.files import decode_pixels, kind_suffix
from stage3_detect.serving.interface import DecodedImage

_HASHED_BYTES = 65536
"""The hash of a whole file can take as long as its decoding."""


def decode_image(data: bytes, name: str, *, max_pixels: int) -> DecodedImage:
    """Decode an uploaded file.

    Raises:
        UserError: as `decode_pixels`; the content is not PNG, JPEG or DICOM. The message calls it "the file", since its
            name is given with the message.
    """
    if kind_suffix(data) is None:
        raise UserError("the file is damaged, or not PNG, JPEG or DICOM; export the image in one of these formats")
    try:
        pixels = read_named(_nameless(data), lambda: decode_pixels(data, "the file", max_pixels=max_pixels))
    except UserError as error:
        raise UserError([problem.removeprefix("image: ") for problem in error.problems]) from None
    return DecodedImage(name, data, pixels)


def _nameless(data: bytes) -> str:
    """What the log calls a file if its decoder crashes. Its own name may be that of a patient."""
    return f"of {len(data)} bytes, SHA-256 of the first {_HASHED_BYTES}: {sha256(data[:_HASHED_BYTES]).hexdigest()}"
