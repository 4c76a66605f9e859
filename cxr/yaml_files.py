"""Read YAML from users: plain values only, no key twice, and bounded in depth and size."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from cxr.errors import UserError
from cxr.input_files import read_text

_MAX_CHARACTERS, _MAX_DEPTH, _MAX_VALUES = 2**20, 50, 100_000
_SHOWN = 300


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML libraries silently keep the last value, and endless nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._depth > _MAX_DEPTH:
            raise yaml.constructor.ConstructorError(None, None, f"it is nested more than {_MAX_DEPTH} deep")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no plain value", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            if key.value != "<<":
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Refuses numbers that few people read as YAML does: 010 is 8 and 1:30 is 90."""
        digits = node.value.lstrip("+-")
        if ":" in digits or re.match(r"0[\d_]", digits):
            advice = (
                f"{node.value!r} is ambiguous; write it without leading zeros or colons, or in quotes if it is text"
            )
            raise yaml.constructor.ConstructorError(None, None, advice, node.start_mark)
        number: int | float = (
            self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)
        )
        return number


for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_number)


def read_yaml(path: Path) -> Any:
    """The plain values of a settings file. UserError if it cannot be read, and as `parse_yaml`."""
    text = read_text(path, what="settings", advice="give one that is listed under configs/")
    if len(text) > _MAX_CHARACTERS:
        raise UserError(f"settings: {path} has {len(text)} characters, expected at most {_MAX_CHARACTERS}")
    return parse_yaml(text, source=f"settings: {path}")


def parse_yaml(text: str, *, source: str) -> Any:
    """The plain values of a text.

    Args:
        source: begins the error message.

    Raises:
        UserError: not YAML, nested too deeply, or more values than settings have, counting what aliases repeat.
    """
    try:
        values = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # not only YAMLError: for an impossible date, number or truth value, PyYAML raises the others
        reason = " ".join(str(error).split())[:_SHOWN]
        raise UserError(f"{source} is not YAML: {reason}") from None
    if sum(1 for _ in islice(_plain_values(values), _MAX_VALUES + 1)) > _MAX_VALUES:
        raise UserError(f"{source} holds more than {_MAX_VALUES} values, counting what aliases repeat; shorten it")
    return values


def _plain_values(value: Any) -> Iterator[Any]:
    """All values inside a value, one after the other; endless for an alias inside of itself."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | set | tuple):
            waiting += one
