from pathlib import Path

import pytest

from cxr.config import Settings, UserError, load_config


class Inner(Settings):
    learning_rate: float = 0.1
    num_epochs: int


class Outer(Settings):
    train: Inner
    name: str = "x"


def write(folder: Path, text: str) -> Path:
    path = folder / "stage.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_yaml_and_text_that_looks_like_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {num_epochs: 3, learning_rate: 1e-4}")
    assert load_config(Outer, path).train.learning_rate == 1e-4


def test_overrides_replace_values_and_make_missing_parents(tmp_path: Path) -> None:
    path = write(tmp_path, "name: y")
    settings = load_config(Outer, path, ["train.num_epochs=5", "name=z"])
    assert (settings.train.num_epochs, settings.name) == (5, "z")


def test_all_problems_at_once_with_the_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {num_epoch: 3, learning_rate: fast}")
    with pytest.raises(UserError) as error:
        load_config(Outer, path)
    text = "\n".join(error.value.problems)
    assert len(error.value.problems) == 3
    assert "unknown key 'train.num_epoch'; nearest: 'num_epochs'" in text
    assert "'train.num_epochs' is missing" in text
    assert "got 'fast'" in text


@pytest.mark.parametrize("text", ["", "- a", "just words", "a: [1", "\t"])
def test_no_mapping_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(Outer, write(tmp_path, text))
    assert len(error.value.problems) == 1


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*nothing\.yaml"):
        load_config(Outer, tmp_path / "nothing.yaml")


@pytest.mark.parametrize("override", ["name", "=3", "name.deeper=1", "name=[1"])
def test_bad_override_is_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        load_config(Outer, write(tmp_path, "name: y"), [override])


def test_settings_do_not_change(tmp_path: Path) -> None:
    settings = load_config(Outer, write(tmp_path, "train: {num_epochs: 3}"))
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other"  # type: ignore[misc]
