"""Every data set can be chosen by its name, and docs/data.md has a row for it."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter

from cxr.config import UserError
from cxr.datasets import AnyData, PhantomData
from cxr.tables import DataSettings
from tests.paths import ROOT

CLASSES = [own for own in get_args(get_args(AnyData)[0]) if issubclass(own, DataSettings) and own is not PhantomData]
NAMES = [own.model_fields["dataset"].default for own in CLASSES]


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES) > 10


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_data_sets_has_a_row(name: str) -> None:
    assert f"\n| `{name}` |" in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "csv_table"])
def test_an_empty_folder_is_one_clear_error(tmp_path: Path, name: str) -> None:
    settings = TypeAdapter(AnyData).validate_python({"dataset": name, "root": tmp_path})
    with pytest.raises(UserError) as caught:
        settings.read()
    assert len(caught.value.problems) == 1
