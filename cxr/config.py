"""Settings: pydantic models read from one YAML file and ``--set key=value``, all problems told at once."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class UserError(Exception):
    """A mistake that the user can mend. `problems` holds one line each: what, got, expected, next step."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_config(cls: type[AnySettings], path: Path, overrides: Sequence[str] = ()) -> AnySettings:
    """Read settings of type `cls` from a YAML file, then apply ``key.sub=value`` overrides (values are YAML).

    Raises:
        UserError: no such file, not YAML, a bad override, or settings that do not validate (one line a problem).
    """
    values = _read_yaml(path)
    for override in overrides:
        _apply_override(values, override)
    return parse_settings(cls, values, source=str(path))


def parse_settings(cls: type[AnySettings], values: Mapping[str, Any], *, source: str) -> AnySettings:
    """Validate a plain mapping; all problems in one UserError."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = [_describe(problem, cls, source) for problem in error.errors()]
        raise UserError(problems) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"settings: no file {path}; give one that is listed under configs/")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"settings: {path} is not YAML: {reason}") from None
    if not isinstance(values, dict):
        raise UserError(f"settings: {path} holds {type(values).__name__}, expected `key: value` lines")
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override!r}: expected key=value, for instance train.num_epochs=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override!r}: the value is not YAML; quote it") from None
    *parents, last = key.strip().split(".")
    target = values
    for parent in parents:
        inner = target.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {override!r}: {parent!r} is a value, it has no key {last!r}")
        target = inner
    target[last] = value


def _describe(problem: Any, cls: type[BaseModel], source: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted(_all_keys(cls))
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.6)
        hint = f"; nearest: {close[0]!r}" if close else f"; known: {', '.join(known)}"
        return f"{source}: unknown key {where!r}{hint}"
    if problem["type"] == "missing":
        return f"{source}: {where!r} is missing; add it to the file or give --set {where}=VALUE"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{source}: {where or 'settings'}: got {problem['input']!r}: {message}"


def _all_keys(cls: type[BaseModel]) -> set[str]:
    """Every key of a settings class and of the settings inside it."""
    keys: set[str] = set()
    for name, field in cls.model_fields.items():
        keys.add(name)
        for inner in _inner_models(field.annotation):
            keys |= _all_keys(inner)
    return keys


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _inner_models(part)]
