"""Checks JSON that this program wrote itself, which an editor or another version may have changed since."""

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cxr.errors import UserError

log = logging.getLogger("raybox")

_SHOWN = 80
"""Characters of a value that an error shows."""


class Shape(BaseModel):
    """What an object has: these keys and no others, with these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


def check_shape(content: object, shape: type[BaseModel], *, where: str, advice: str) -> dict[str, Any]:
    """The object itself, if it has the shape.

    Args:
        where, advice: the start and the end of the error message.

    Raises:
        UserError: it has not; the first difference is named.
    """
    try:
        shape.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}; {advice}") from None
    assert isinstance(content, dict), "a model validates objects only"
    return content


def first_problem(error: ValidationError) -> str:
    """The first problem in one line: where, what is there, what is expected."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"])) or "the whole"
    return f"{place}: got {_short(problem['input'])}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def parse_object(text: str | bytes, *, where: str, advice: str) -> dict[str, Any]:
    """The JSON object in a text. UserError where there is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged ({_short(error)}); {advice}") from None
    if not isinstance(content, dict):
        raise UserError(f"{where} is damaged (got {_short(content)}, expected an object); {advice}")
    return content


def read_object(path: Path, *, advice: str, shape: type[BaseModel] | None = None) -> dict[str, Any]:
    """The JSON object in a file. UserError where there is none, or where it has not the shape."""
    content = parse_object(path.read_bytes(), where=str(path), advice=advice)
    return content if shape is None else check_shape(content, shape, where=str(path), advice=advice)


def read_if_whole(path: Path, *, shape: type[BaseModel] | None = None) -> dict[str, Any]:
    """As `read_object`, for what can be made again: empty if the file is missing, and with a log line if damaged."""
    if not path.is_file():
        return {}
    try:
        return read_object(path, shape=shape, advice="making it again")
    except UserError as error:
        log.warning("%s", error)
        return {}


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
