"""Settings: pydantic models read from one YAML file and ``--set key=value``. All problems are reported at once."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from cxr.errors import UserError
from cxr.yaml_files import parse_yaml, read_yaml

__all__ = ["Settings", "UserError", "load_config", "parse_overrides", "parse_settings"]

_SHOWN = 200
"""Characters of an override, a key or a value that an error shows."""


class Settings(BaseModel):
    """Base of all settings. Unknown keys are errors, and values do not change after loading.

    A class lists its former keys in `renamed` (old -> new). They are still refused, with the new key in the error:
    ``train.lr: renamed, use train.learning_rate``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_config(cls: type[AnySettings], path: Path, overrides: Sequence[str] = ()) -> AnySettings:
    """Read settings of type `cls` from a YAML file, then apply ``key.sub=value`` overrides (values are YAML).

    Raises:
        UserError: no such file, not YAML, a bad override, or settings that do not validate (one line per problem).
    """
    values = _read_yaml(path)
    for override in overrides:
        _apply_override(values, override)
    homes = [f"{path}: {place[1:]}: got {text!r}" for place, text in _texts(values) if text.startswith("~/")]
    if homes:  # as it stands it would be a folder with the name ~
        raise UserError([f"{home}, expected the path of the home folder instead of ~" for home in homes])
    return parse_settings(cls, values, source=str(path))


def parse_settings(cls: type[AnySettings], values: Mapping[str, Any], *, source: str) -> AnySettings:
    """Validate a plain mapping. One UserError lists all problems; `source` says where the mapping comes from."""
    try:
        settings = cls.model_validate(values)
    except ValidationError as error:
        problems = [_describe(problem, cls, values, source) for problem in error.errors()]
        raise UserError(problems) from None
    wrong = [
        f"{source}: {place[1:]}: got {given}, expected a number"
        for place, given in _booleans_as_numbers(settings, values)
    ]
    wrong += [
        f"{source}: {place[1:]}: got {text!r}, expected text without a NUL"
        for place, text in _texts(values)
        if "\0" in text
    ]
    if wrong:
        raise UserError(wrong)
    return settings


def _booleans_as_numbers(value: Any, given: Any, place: str = "") -> Iterator[tuple[str, bool]]:
    """Places where pydantic took true (or YAML's yes, on) as the number 1, or false as 0."""
    if isinstance(given, bool):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield place, given
    elif isinstance(given, Mapping):
        inside = dict(value) if isinstance(value, BaseModel | Mapping) else {}
        for key, inner in given.items():
            yield from _booleans_as_numbers(inside.get(key), inner, f"{place}.{key}")
    elif isinstance(given, list) and isinstance(value, list | tuple):
        for number, (one, inner) in enumerate(zip(value, given, strict=False)):
            yield from _booleans_as_numbers(one, inner, f"{place}.{number}")


def _texts(given: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """All texts with their places."""
    if isinstance(given, str):
        yield place, given
    elif isinstance(given, Mapping):
        for key, inner in given.items():
            yield from _texts(inner, f"{place}.{key}")
    elif isinstance(given, list):
        for number, inner in enumerate(given):
            yield from _texts(inner, f"{place}.{number}")


def parse_overrides(cls: type[AnySettings], overrides: Sequence[str]) -> AnySettings:
    """Settings of type `cls` from its defaults and ``key.sub=value`` overrides.

    Raises:
        UserError: a bad override, or settings that do not validate (one line per problem).
    """
    values: dict[str, Any] = {}
    for override in overrides:
        _apply_override(values, override)
    return parse_settings(cls, values, source="--set")


def _read_yaml(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if values is None:
        raise UserError(f"settings: {path} is empty, expected `key: value` lines")
    if not isinstance(values, dict):
        raise UserError(f"settings: {path} holds {type(values).__name__}, expected `key: value` lines")
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override!r}: expected key=value, for instance train.num_epochs=5")
    value = parse_yaml(text, source=f"--set {override[:_SHOWN]!r}: the value")
    *parents, last = key.strip().split(".")
    target = values
    for parent in parents:
        inner = target.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {override!r}: {parent!r} is a value, it has no key {last!r}")
        target = inner
    target[last] = value


def _describe(problem: Any, cls: type[BaseModel], values: Mapping[str, Any], source: str) -> str:
    is_missing = problem["type"] == "missing"
    place = _place(problem["loc"][:-1] if is_missing else problem["loc"], values)
    place += problem["loc"][-1:] if is_missing else ()
    where = _in_one_line(".".join(map(str, place)))
    if problem["type"] == "extra_forbidden":
        return f"{source}: {_unknown_key(where, cls)}"
    if is_missing and isinstance(place[-1], str):
        return f"{source}: {_missing_key(where, cls)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float | date):
        message = "expected text; YAML reads this as something else without quotes around it"
        where = f"key of {where.rpartition('.')[0] or where}" if problem["loc"][-1] == "[key]" else where
    if not where:  # concerns several sections; "got" would repeat the whole file
        return f"{source}: {message}"
    return f"{source}: {where}: got {_shortened(repr(problem['input']))}: {message}"


def _missing_key(where: str, cls: type[BaseModel]) -> str:
    section, _, name = where.rpartition(".")
    parts = [part for prefix, part in _sections(cls) if prefix.rstrip(".") == section and name in part.model_fields]
    kinds = _inner_models(parts[0].model_fields[name].annotation) if parts else []
    if not kinds:
        return f"{where!r} is missing; add it to the file or give --set {where}=VALUE"
    needed = [key for key, field in kinds[0].model_fields.items() if field.is_required() or _names_a_kind(field)]
    return f"section {where!r} is missing; add it to the file, with at least {', '.join(needed)}"


def _names_a_kind(field: FieldInfo) -> bool:
    """Whether a key has one possible value, as `dataset` of a data section."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _in_one_line(where: str) -> str:
    """The place of a problem; names of keys may hold line breaks, or be as long as the file."""
    return _shortened("".join(each if each.isprintable() else repr(each)[1:-1] for each in where))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _place(loc: Sequence[str | int], values: Any) -> list[str | int]:
    """The path of a problem in `values`, without the names that pydantic adds for the members of a union."""
    place: list[str | int] = []
    for part in loc:
        is_there = part in values if isinstance(values, Mapping) else isinstance(part, int)
        if is_there:
            place.append(part)
            values = values[part]
    return place


def _unknown_key(where: str, cls: type[BaseModel]) -> str:
    if new := _renamed_keys(cls).get(where):
        return f"{where}: renamed, use {new}"
    if where in _all_keys(cls):  # a section has several kinds, such as one per data set
        return f"key {where!r} does not belong to this kind of {where.rpartition('.')[0]!r}; remove it"
    return f"unknown key {where!r}{_hint(where, cls)}"


def _hint(where: str, cls: type[BaseModel]) -> str:
    """The known key with the most similar last part, preferably of the same section; else the section's keys."""
    section, _, last = where.rpartition(".")
    known = _all_keys(cls)
    own = [key for key in known if key.rpartition(".")[0] == section]
    by_last = {key.rpartition(".")[2]: key for key in [*reversed(known), *own]}
    close = difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)
    return f"; nearest: {by_last[close[0]]!r}" if close else f"; known: {', '.join(own or known)}"


def _all_keys(cls: type[BaseModel]) -> list[str]:
    """Every dotted key of a settings class and of the settings inside it. NAME stands for a name the user chooses."""
    keys = [f"{section}{name}" for section, part in _sections(cls) for name in part.model_fields]
    return list(dict.fromkeys(keys))


def _renamed_keys(cls: type[BaseModel]) -> dict[str, str]:
    """Old dotted key -> new dotted key, of a settings class and of the settings inside it."""
    sections = [(section, part) for section, part in _sections(cls) if issubclass(part, Settings)]
    return {f"{section}{old}": f"{section}{new}" for section, part in sections for old, new in part.renamed.items()}


def _sections(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """A settings class and those inside it, each with the prefix of its keys ("train.")."""
    yield prefix, cls
    for name, field in cls.model_fields.items():
        inside = f"{prefix}{name}.NAME." if get_origin(field.annotation) is dict else f"{prefix}{name}."
        for inner in _inner_models(field.annotation):
            yield from _sections(inner, inside)


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _inner_models(part)]
