"""Look-up tables of a release: what they say of a key, for instance of an image, and where they contradict themselves.

A key may have several rows if all say the same. Otherwise nobody knows which row is right: the key becomes a problem,
and images that need it are excluded with `on_problem: exclude`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.datasets.text_cells import Mask, look_up
from cxr.tables import Problems

CONTRADICTION = "listed twice with different values"

_SHOWN_COLUMNS = 3
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class KeyedRows:
    """What a table says of each key.

    rows: the first row of each key, by key. contradicted: the keys whose rows differ; `rows` has them too.
    """

    rows: pd.DataFrame
    contradicted: frozenset[str]

    def of(self, keys: "pd.Series[str]", column: str) -> "pd.Series[str]":
        """(N,) the cells of a text column, "" for a key that the table lacks."""
        return look_up(keys, dict(zip(self.rows.index, self.rows[column], strict=True)))

    @property
    def sound(self) -> pd.DataFrame:
        """`rows` without the contradicted keys."""
        return self.rows[~self.rows.index.isin(self.contradicted)]

    def contradicts(self, keys: "pd.Series[str]") -> Mask:
        """(N,) whether the rows of the key differ."""
        return keys.isin(self.contradicted).to_numpy()


def keyed_rows(
    table: pd.DataFrame, keys: "pd.Series[str]", problems: Problems, *, where: Sequence[str] | None = None
) -> KeyedRows:
    """Each key once. Keys whose rows differ become problems that name both rows and both values.

    Args:
        table: (N, columns) what the table says of its keys. Cells are equal if their texts are, without spaces around.
        keys: (N,) the key of each row.
        where: (N,) names of the rows for the messages, see `row_names`. None: the key is enough to find them.
    """
    table, keys = table.reset_index(drop=True), keys.reset_index(drop=True)
    twice = keys.duplicated(keep=False)
    differing = _differing(table[twice], keys[twice])
    cells = table.to_numpy(dtype=object)  # a row of it costs far less than one of the table
    for first, other in differing:
        values = _values([*map(str, table.columns)], cells[first], cells[other])
        rows_named = "" if where is None else f" ({where[first]} and {where[other]})"
        problems.add(f"{keys[first]}: {values}{rows_named}", CONTRADICTION)
    once = ~keys.duplicated()
    rows = table[once].set_axis(pd.Index(keys[once], dtype=str))
    return KeyedRows(rows, frozenset(str(keys[first]) for first, _ in differing))


def row_names(path: Path, table: pd.DataFrame) -> list[str]:
    """(N,) ``table.csv, row 2`` for the first row below the header, as spreadsheets count rows."""
    return [f"{path.name}, row {number}" for number in range(2, len(table) + 2)]


def _differing(table: pd.DataFrame, keys: "pd.Series[str]") -> list[tuple[int, int]]:
    """For each key whose rows differ: the places of its first row and of the first one that says something else."""
    text = table.map(_text)
    place = pd.Series(np.arange(len(keys)), index=keys.index)
    first = place.groupby(keys, sort=False).transform("first").to_numpy()
    differs = (text.to_numpy() != text.to_numpy()[first]).any(axis=1)
    others = keys[differs].drop_duplicates().index
    return [(int(keys.index[first[place[other]]]), int(other)) for other in others]


def _values(names: Sequence[str], first: Iterable[object], other: Iterable[object]) -> str:
    """Both values of the columns that differ; of many columns the first ones and the number of the others."""
    pairs = [(name, _text(one), _text(two)) for name, one, two in zip(names, first, other, strict=True)]
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    shown = [
        f"{name} {one[:_SHOWN_CHARACTERS]!r} and {two[:_SHOWN_CHARACTERS]!r}"
        for name, one, two in differing[:_SHOWN_COLUMNS]
    ]
    more = [f"{len(differing) - _SHOWN_COLUMNS} more columns"] if len(differing) > _SHOWN_COLUMNS else []
    return ", ".join(shown + more)


def _text(cell: object) -> str:
    return str(cell).strip()
