"""Open files that a table, settings or the command line names: only regular files, and none that is too large."""

import codecs
import gzip
import json
import os
import stat
import zlib
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from cxr.errors import UserError

MAX_BYTES = 2**31
"""Larger files are refused. No radiograph and no table of a released data set comes near it."""

_SHOWN = 80
"""Characters of a key that an error shows."""

IMAGE_ADVICE = "check the data set's root and the table's path column"


def open_regular(path: Path, *, what: str = "image", advice: str = IMAGE_ADVICE) -> BufferedReader:
    """Open a file for reading. A pipe or a device, which may never end, is refused without waiting for it.

    Args:
        what, advice: the start and the end of the error message.

    Raises:
        UserError: no such file, not a regular file, more than `MAX_BYTES`, or no right to read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise UserError(f"{what}: no file {path}; {advice}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(f"{what}: cannot open {str(path)!r}: {reason}; {advice}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        os.close(descriptor)
        kind = f"has {status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "is a folder, a pipe or a device"
        raise UserError(f"{what}: {path} {kind}, expected a file of at most {MAX_BYTES} bytes; {advice}")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, *, what: str = "image", advice: str = IMAGE_ADVICE) -> bytes:
    """All bytes of a file. UserError as `open_regular`, and if reading fails."""
    with open_regular(path, what=what, advice=advice) as file:
        try:
            return file.read()
        except OSError as error:
            raise UserError(f"{what}: cannot read {path}: {error.strerror}; {advice}") from None


def _check_encoding(name: str) -> str:
    """The name of a text encoding, as given. ValueError if Python knows none of this name."""
    try:
        "".encode(name)
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        raise ValueError(
            f"unknown encoding {name!r}; expected a name that Python knows, for instance utf-8, cp1252 (Excel in "
            "Western Europe), utf-16 or mac_roman"
        ) from None
    return name


Encoding = Annotated[str, AfterValidator(_check_encoding)]
"""The name of a text encoding, such as cp1252."""


def read_text(path: Path, *, what: str, advice: str, encoding: str = "utf-8", repair: str = "save it in UTF-8") -> str:
    """A text file, in UTF-8 with or without a byte order mark; packed if its name ends in .gz.

    Args:
        encoding: another encoding that Python knows.
        repair: the end of the message if the file is in another encoding.

    Raises:
        UserError: as `read_regular`, or if it cannot be unpacked or is in another encoding.
    """
    data = read_regular(path, what=what, advice=advice)
    if path.suffix == ".gz":
        data = _unpacked(data, path, what=what, advice=advice)
    return _decoded(data, path, what=what, encoding=encoding, repair=repair)


def _decoded(data: bytes, path: Path, *, what: str, encoding: str, repair: str) -> str:
    try:
        is_utf8 = codecs.lookup(_check_encoding(encoding)).name in ("utf-8", "utf-8-sig")
    except ValueError as error:
        raise UserError(f"{what}: {path}: {error}") from None
    # an encoding of one byte per letter reads any UTF-8, but other letters than were meant
    if not is_utf8 and not data.isascii() and _can_decode(data, "utf-8"):
        raise UserError(f"{what}: {path} is text in UTF-8, not in {encoding}; leave the encoding out")
    try:
        return data.decode("utf-8-sig" if is_utf8 else encoding)
    except UnicodeError as error:
        row = data.count(b"\n", 0, getattr(error, "start", 0)) + 1
        name = "UTF-8" if is_utf8 else encoding
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            name, repair = f"{name} but in UTF-16", "save it in UTF-8 (in Excel: Save as, CSV UTF-8)"
        raise UserError(f"{what}: {path} is not text in {name}, see row {row}; {repair}") from None


def _can_decode(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def _unpacked(packed: bytes, path: Path, *, what: str, advice: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=BytesIO(packed)) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{what}: {path} cannot be unpacked ({error}); {advice}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{what}: {path} unpacks to more than {MAX_BYTES} bytes; {advice}")
    return data


def read_json(path: Path, *, what: str, advice: str) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: as `read_text`, or if it is not JSON or nested too deeply, or an object has a key twice with
            different values.
    """
    text = read_text(path, what=what, advice=advice)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what}: {path} is not JSON ({error}); {advice}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values. ValueError if two values of a key differ: JSON itself takes the last one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if value != found[key]:
                raise ValueError(f"the key {key[:_SHOWN]!r} has two values in one object")
    return found
