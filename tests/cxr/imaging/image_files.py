"""Small image files as bytes, written field by field, so that each test can break one of them."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRBigEndian, ExplicitVRLittleEndian

SIZE_HW = (24, 40)
RAMP = np.linspace(0, 4095, 960).reshape(SIZE_HW).astype(np.uint16)
"""12 bits, every value once."""
SCENE = np.random.default_rng(0).integers(0, 255, (90, 70)).astype(np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    """One part of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    size_hw: tuple[int, int], rows: bytes, *, bits: int = 8, colour: int = 0, before: bytes = b"",
    is_interlaced: bool = False,
) -> bytes:  # fmt: skip
    """A PNG of these rows, each with its filter byte; `before` are chunks in front of the pixels."""
    header = struct.pack(">IIBBBBB", size_hw[1], size_hw[0], bits, colour, 0, 0, is_interlaced)
    parts = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """An array as a file of a format that Pillow writes."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, *, white_is_zero: bool = False, order: str = "<") -> bytes:
    """An uncompressed TIFF of one strip, written tag by tag; Pillow writes few types."""
    height, width = pixels.shape
    kinds = {"u": 1, "i": 2, "f": 3}
    short, long = 3, 4
    tags = [
        (256, long, width), (257, long, height), (258, short, 8 * pixels.itemsize), (259, short, 1),
        (262, short, int(not white_is_zero)), (273, long, 8), (277, short, 1), (278, long, height),
        (279, long, pixels.nbytes), (339, short, kinds[pixels.dtype.kind]),
    ]  # fmt: skip
    rows = [struct.pack(f"{order}HHI{'HH' if kind == short else 'I'}", tag, kind, 1, value, *([0] * (kind == short)))
            for tag, kind, value in tags]  # fmt: skip
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + pixels.nbytes)
    stored = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    return start + stored + struct.pack(f"{order}H", len(tags)) + b"".join(rows) + bytes(4)


def zeroed(data: bytes, *, start: float = 0.5, share: float = 0.125) -> bytes:
    """The bytes with zeros in place of a block in the middle."""
    first, size = int(start * len(data)), int(share * len(data))
    return data[:first] + bytes(size) + data[first + size :]


def turned(pixels: np.ndarray, kind: str, orientation: int) -> bytes:
    """A file with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(pixels, kind, exif=exif)


def dicom(pixels: np.ndarray, *, syntax: pydicom.uid.UID = ExplicitVRLittleEndian, **tags: object) -> bytes:
    """A radiograph with exactly these stored values; `tags` are set last, None removes one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DigitalXRayImageStorageForPresentation, "2.25.1"
    meta.TransferSyntaxUID = syntax
    file = Dataset()
    file.file_meta = meta
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = meta.MediaStorageSOPClassUID, "2.25.1", "DX"
    file.PatientName = "Doe^Jane"
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * pixels.dtype.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsAllocated - 1, int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    file.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    file["PixelData"].VR = "OB" if file.BitsAllocated == 8 else "OW"
    for name, value in tags.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    written = BytesIO()
    file.save_as(written, enforce_file_format=True)
    return written.getvalue()


def framed(frame: bytes, size_hw: tuple[int, int], syntax: pydicom.uid.UID, *, bits: int = 8) -> bytes:
    """A DICOM file around a compressed frame, with this size in its header."""
    file = pydicom.dcmread(BytesIO(dicom(np.zeros(size_hw, dtype=f"uint{bits}"))))
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = encapsulate([frame])
    file["PixelData"].VR, file["PixelData"].is_undefined_length = "OB", True
    written = BytesIO()
    file.save_as(written, enforce_file_format=True)
    return written.getvalue()


def table(first: int, bits: int, entries: np.ndarray, *, count: int | None = None) -> Sequence:
    """A modality or grey table as a sequence of one item, 16 bits an entry."""
    item = pydicom.Dataset()
    number = len(entries) if count is None else count
    item.add_new(0x00283002, "US" if first >= 0 else "SS", [number % 2**16 if first >= 0 else number, first, bits])
    item.add_new(0x00283006, "OW", np.asarray(entries, dtype="<u2").tobytes())
    return Sequence([item])
