"""What an exported file says about itself."""

from ast import literal_eval
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cxr.config import UserError


class ExportMetadata(NamedTuple):
    """findings: the classes in order. channels: 1 or 3. image_px: side of the square input."""

    findings: tuple[str, ...]
    channels: int
    image_px: int


def read_metadata(entries: Mapping[str, Any], path: Path) -> ExportMetadata:
    """Metadata of the exported file `path` from its `entries`; values may be Python literals as text.

    Raises:
        UserError: the entries are not those of an exported detector.
    """
    try:
        found = (entries[key] for key in ("names", "imgsz", "channels"))
        names, sides, channels = (literal_eval(entry) if isinstance(entry, str) else entry for entry in found)
        findings = tuple(str(names[index]) for index in sorted(names, key=int))
        return ExportMetadata(findings, int(channels), int(sides[0]))
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(
            f"network {path}: the file does not name its findings, channels and size ({error!r}); "
            f"give a file that stage 3 exported"
        ) from None
