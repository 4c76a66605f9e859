"""What an exported file says of itself: ultralytics writes the same entries into every form that it makes."""

from ast import literal_eval
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config import UserError


@dataclass(frozen=True)
class Description:
    """findings: the classes in order. channels: 1 or 3. image_px: side of the square input."""

    findings: tuple[str, ...]
    channels: int
    image_px: int


def read_description(entries: Mapping[str, Any], path: Path) -> Description:
    """Description of the exported file `path` from its `entries`, where a value may be Python's text of it.

    Raises:
        UserError: the entries are not those of an exported detector.
    """
    try:
        names, sides, channels = (_value(entries[key]) for key in ("names", "imgsz", "channels"))
        findings = tuple(str(names[index]) for index in sorted(names, key=int))
        return Description(findings, int(channels), int(sides[0]))
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(
            f"network {path}: it does not say which findings, channels and size it is for ({error!r}); "
            f"give a file that stage 3 exported"
        ) from None


def _value(entry: Any) -> Any:
    return literal_eval(entry) if isinstance(entry, str) else entry
