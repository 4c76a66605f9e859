"""Broken requests: damaged images, wrong headers, paths and bodies, slow clients. All are drawn from a seed."""

import io
import random
import time
import zlib
from collections.abc import Iterator

import cv2
import httpx
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)  # fmt: skip

IMAGE_HW = (60, 90)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
WRONG_SYNTAXES = (RLELossless, JPEGBaseline8Bit, JPEG2000Lossless, "1.2.3", "")
HUGE = (0, 1, 65535)
PATHS = (
    "/static/../../etc/passwd", "/static/%2e%2e/%2e%2e/etc/passwd", "/static/..%5c..%5cetc", "//etc/passwd", "/static/",
    "/v1/examples/../../../etc/passwd", "/v1/examples/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/static//etc/passwd",
    "/static/%00", "/v1/examples/%00a.png", "/%ff%fe", "/v1/truth?name=%00../", "/v1/truth", "/v1/examples/..;/",
    "/v1/examples/" + 5000 * "a", "/v1/truth?name=" + 3000 * "%F0%9F%98%80",
)  # fmt: skip
_START = b"POST /v1/detections HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
_FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
_PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
HEADERS = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Transfer-Encoding: gzip\r\n\r\n",
    b"Content-Length: 1e3\r\n\r\n", b"Content-Length: 99999999999999999999999\r\n\r\n", b"A : b\r\n\r\n",
    b"Host: evil.example\r\n\r\n", b"X: \x00\r\n\r\n", b"X: \x80\xff\r\n\r\n", b"Upgrade: websocket\r\n\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nContent-Length: 0\r\n\r\n",
    b"Authorization: Bearer " + 9000 * b"x" + b"\r\nContent-Length: 0\r\n\r\n", 3000 * b"A: b\r\n" + b"\r\n",
    b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", b"Origin: null\r\nContent-Length: 0\r\n\r\n",
    b"Sec-Fetch-Site: \xff\r\nContent-Length: 0\r\n\r\n", _FORM + b"Content-Length: 0\r\n\r\n",
    _FORM + b"Content-Length: 3\r\n\r\n--x", _FORM + b"Content-Length: %d\r\n\r\n" % len(_PART) + _PART,
)  # fmt: skip
LINES = (
    b"GET /healthz HTTP/0.9\r\n\r\n", b"GET " + 70_000 * b"a", b"\r\n" * 500,
    b"PRI * HTTP/2.0\r\nConnection: close\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"\x16\x03\x01\0\xff",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)  # fmt: skip


def dicom(rng: random.Random) -> bytes:
    """A DICOM file; with luck a readable one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2"
    meta.TransferSyntaxUID = rng.choice(SYNTAXES)
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.PatientName, file.Rows, file.Columns = "Doe^Anna", *IMAGE_HW
    file.SamplesPerPixel, file.PixelRepresentation, file.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PixelData = np.random.default_rng(rng.randrange(9)).integers(0, 4096, IMAGE_HW).astype("<u2").tobytes()
    for name, values in {
        "Rows": HUGE, "Columns": HUGE, "NumberOfFrames": (0, 1, 7, 2**30), "SamplesPerPixel": (0, 3, 65535),
        "BitsAllocated": (0, 1, 8, 32, 64, 7), "BitsStored": (0, 1, 16, 99), "PixelRepresentation": (1, 2),
        "PhotometricInterpretation": ("RGB", "MONOCHROME1", "PALETTE COLOR", "", "YBR_FULL"),
        "RescaleSlope": ("0", "1e300", "-1"), "WindowWidth": ("0", "1", "-5"), "WindowCenter": ("1e30", "5"),
        "VOILUTFunction": ("SIGMOID", "X"),
    }.items():  # fmt: skip
        if rng.random() < 0.08:
            setattr(file, name, rng.choice(values))
    if rng.random() < 0.2:
        del file[rng.choice(["Rows", "PixelData", "BitsAllocated", "PhotometricInterpretation"])]
    out = io.BytesIO()
    pydicom.dcmwrite(out, file, enforce_file_format=True)
    data = out.getvalue()
    if rng.random() < 0.15:  # the header announces another encoding than the pixels have
        wrong = str(rng.choice(WRONG_SYNTAXES)).encode()
        right = str(meta.TransferSyntaxUID).encode()
        data = data.replace(right, wrong[: len(right)].ljust(len(right), b"\0"), 1)
    return data


def raster(rng: random.Random) -> bytes:
    """A readable picture."""
    kind = rng.choice([".png", ".jpg", ".png16", ".bmp", ".webp", ".tiff", ".jp2", ".gif"])
    shape = rng.choice([IMAGE_HW, (*IMAGE_HW, 3), (1, 1), (1, 2000), (3, 3, 4)])
    pixels = np.random.default_rng(rng.randrange(9)).integers(0, 255, shape).astype(np.uint8)
    if kind == ".png16":
        return cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
    if kind in (".jp2", ".gif"):  # encoders that refuse small or grey pictures
        pixels = np.random.default_rng(rng.randrange(9)).integers(0, 255, (*IMAGE_HW, 3)).astype(np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


def png_of_size(width: int, height: int, *, rows: bytes) -> bytes:
    """A PNG whose header states any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes replaced, cut out, repeated, or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 5, 50])):
        at = rng.randrange(len(changed) or 1)
        if rng.random() < 0.5:
            at = min(at, rng.randrange(400))  # the header
        way = rng.randrange(4)
        if way == 0 and at < len(changed):
            changed[at] = rng.choice([0, 255, rng.randrange(256)])
        elif way == 1:
            del changed[at : at + rng.randrange(1, 40)]
        elif way == 2:
            changed[at:at] = changed[at : at + rng.randrange(1, 400)]
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def broken_image(rng: random.Random) -> tuple[str, bytes]:
    """Kind and bytes of a file."""
    way = rng.randrange(8)
    if way == 0:
        return "size in header", png_of_size(rng.choice([0, 1, 90, 10**5, 2**31 - 1]), 60, rows=rng.randbytes(99))
    if way == 1:
        return "random bytes", rng.choice([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", 128 * b"\0" + b"DICM"]) + (
            rng.randbytes(rng.choice([0, 1, 10, 5000]))
        )
    if way in (2, 3):
        return "dicom, changed header", dicom(rng)
    if way in (4, 5):
        return "dicom, damaged", damaged(rng, dicom(rng))
    return "raster, damaged", damaged(rng, raster(rng))


def wrong_request(rng: random.Random, client: httpx.Client) -> tuple[str, httpx.Request]:
    """Kind and request: wrong path, method, type, length, fields."""
    path = rng.choice(["/v1/detections", "/v1/maps", "/page/readings", "/v1/corrections"])
    way = rng.randrange(6)
    if way == 0:
        return "path", client.build_request(rng.choice(["GET", "HEAD", "POST"]), rng.choice(PATHS))
    if way == 1:
        methods = ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECTX", "get", "A" * 50]
        return "method", client.build_request(rng.choice(methods), path, content=rng.randbytes(9))
    if way == 2:
        return "too long", client.build_request(
            "POST", path, content=bytes(rng.choice([1_000_001, 2_000_001, 9_000_000]))
        )
    if way == 3:
        kinds = ["application/json", "multipart/form-data", "multipart/form-data; boundary=", "text/plain", "",
                 "multipart/form-data; boundary=" + "-" * 300, "application/json; charset=utf-16", ";;="]  # fmt: skip
        content = rng.choice([b"{}", b"[" * 5000, b"null", b'{"boxes": [1e999]}', b"\xff", b'{"a":' * 900, b"1" * 5000])
        return "type", client.build_request("POST", path, content=content, headers={"content-type": rng.choice(kinds)})
    fields = {
        rng.choice(["files", "file", "", "x" * 999]): (rng.choice(["a\0.png", "../a", "é", '"']), rng.randbytes(50))
    }
    if way == 4:
        return "fields", client.build_request("POST", path, files=fields, data={"point": "f1"})
    query = rng.choice(["f1", "", "\0", "x" * 9000, "f1&point=f2", "-1", "NaN"])
    return "query", client.build_request("POST", path, params={"point": query}, files=fields)


def raw_request(rng: random.Random) -> tuple[str, Iterator[bytes]]:
    """Kind and pieces of what a client writes to its connection."""
    way = rng.randrange(3)
    if way == 0:
        return "header", iter([_START + rng.choice(HEADERS)])
    if way == 1:
        return "request line", iter([rng.choice([*LINES, rng.randbytes(200) + b"\r\n\r\n"])])
    body = _START + _FORM + b"Content-Length: 500\r\n\r\n" + _PART + 500 * b"a"
    return "slow client", _slowly(body[: rng.choice([3, 40, 120, 200])], rng.choice([1, 7, 50]))


def _slowly(data: bytes, num_pieces: int) -> Iterator[bytes]:
    step = max(1, len(data) // num_pieces)
    for at in range(0, len(data), step):
        yield data[at : at + step]
        time.sleep(0.02)
