"""Uploaded images: decoding."""

from cxr.config import UserError
from cxr.imaging.files import decode_pixels, kind_suffix
from stage3_detect.serving.interface import DecodedImage


def decode_image(data: bytes, name: str, *, max_pixels: int) -> DecodedImage:
    """Decode an uploaded file.

    Raises:
        UserError: as `decode_pixels`; the content is not PNG, JPEG or DICOM. The message calls it "the file", since its
            name is given with the message.
    """
    if kind_suffix(data) is None:
        raise UserError("the file is damaged, or not PNG, JPEG or DICOM; export the image in one of these formats")
    try:
        pixels = decode_pixels(data, "the file", max_pixels=max_pixels)
    except UserError as error:
        raise UserError([problem.removeprefix("image: ") for problem in error.problems]) from None
    return DecodedImage(name, data, pixels)
