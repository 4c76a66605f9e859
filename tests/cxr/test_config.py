from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Discriminator, model_validator

from cxr.config import Settings, UserError, load_config


class Inner(Settings):
    renamed: ClassVar[dict[str, str]] = {"lr": "learning_rate"}

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
    assert "unknown key 'train.num_epoch'; nearest: 'train.num_epochs'" in text
    assert "'train.num_epochs' is missing" in text
    assert "got 'fast'" in text


def test_former_keys_are_refused_with_the_new_one(tmp_path: Path) -> None:
    assert refused(Outer, tmp_path, "train: {num_epochs: 3, lr: 0.1}") == ["train.lr: renamed, use train.learning_rate"]


def refused(cls: type[Settings], folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(UserError) as error:
        load_config(cls, path)
    return [problem.removeprefix(f"{path}: ") for problem in error.value.problems]


class Other(Settings):
    kind: Literal["other"]
    size_hw: tuple[int, int] = (3, 4)
    weight: float = 1.0


class Another(Settings):
    kind: Literal["another"]
    low: int = 0

    @model_validator(mode="after")
    def _is_low(self) -> "Another":
        if self.low > 5:
            raise ValueError("low must be low")
        return self


class Several(Settings):
    train: Inner
    data: Annotated[Other | Another, Discriminator("kind")]
    by_name: dict[str, Inner] = {}

    @model_validator(mode="after")
    def _agree(self) -> "Several":
        if self.by_name and self.train.num_epochs > 5:
            raise ValueError("train.num_epochs: above 5 beside by_name")
        return self


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "{data: {kind: other}}",
            "section 'train' is missing; add it to the file, with at least num_epochs",
            id="a_section_is_missing",
        ),
        pytest.param(
            "{train: {num_epochs: 1}}",
            "section 'data' is missing; add it to the file, with at least kind",
            id="a_section_with_several_kinds_is_missing",
        ),
        pytest.param(
            "{train: {weight: 1, num_epochs: 1}, data: {kind: other}}",
            "unknown key 'train.weight'; nearest: 'data.weight'",
            id="key_of_another_section",
        ),
        pytest.param(
            "{train: {zzz: 1, num_epochs: 1}, data: {kind: other}}",
            "unknown key 'train.zzz'; known: train.learning_rate, train.num_epochs",
            id="nothing_near_lists_the_section",
        ),
        pytest.param(
            "{train: {num_epochs: 1}, data: {kind: other, weigth: 2}}",
            "unknown key 'data.weigth'; nearest: 'data.weight'",
            id="the_kind_of_a_section_is_no_key",
        ),
        pytest.param(
            "{train: {num_epochs: 1}, data: {kind: another, weight: 2}}",
            "key 'data.weight' does not belong to this kind of 'data'; remove it",
            id="key_of_another_kind",
        ),
        pytest.param(
            "{train: {num_epochs: 1}, data: {kind: another, low: 6}}",
            "data: got {'kind': 'another', 'low': 6}: low must be low",
            id="nor_is_it_behind_the_section",
        ),
        pytest.param(
            "{train: {num_epochs: 1}, data: {kind: other}, by_name: {a: {}}}",
            "'by_name.a.num_epochs' is missing; add it to the file or give --set by_name.a.num_epochs=VALUE",
            id="a_name_of_the_users",
        ),
        pytest.param(
            "{train: {num_epochs: 1}, data: {kind: other, size_hw: [3]}}",
            "data.size_hw.1: got [3]: Field required",
            id="too_short_a_list_names_no_setting",
        ),
        pytest.param(
            "{train: {num_epochs: 6}, data: {kind: other}, by_name: {a: {num_epochs: 1}}}",
            "train.num_epochs: above 5 beside by_name",
            id="several_sections_are_not_printed",
        ),
    ],
)
def test_a_problem_stands_where_the_user_can_mend_it(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_config(Several, path)
    assert error.value.problems == [f"{path}: {problem}"]


@pytest.mark.parametrize("text", ["", "- a", "just words", "a: [1", "\t"])
def test_no_mapping_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(Outer, write(tmp_path, text))
    assert len(error.value.problems) == 1


def test_a_problem_is_one_line_of_bounded_length(tmp_path: Path) -> None:
    path = write(tmp_path, f'train: {{num_epochs: {"x" * 5000}, "a\\nb\\u202e": 1}}')
    with pytest.raises(UserError) as error:
        load_config(Outer, path)
    assert max(map(len, error.value.problems)) < 1000
    assert all(problem.isprintable() for problem in error.value.problems)


@pytest.mark.parametrize("text", ["true", "yes", "on", "false"])
def test_a_truth_value_is_no_number(tmp_path: Path, text: str) -> None:
    value = text in ("true", "yes", "on")
    assert refused(Outer, tmp_path, f"train: {{num_epochs: {text}}}") == [
        f"train.num_epochs: got {value}, expected a number"
    ]


def test_a_truth_value_in_a_list_or_under_a_name_is_no_number(tmp_path: Path) -> None:
    text = "{train: {num_epochs: 1}, data: {kind: other, size_hw: [1, true]}, by_name: {a: {num_epochs: true}}}"
    assert refused(Several, tmp_path, text) == [
        "data.size_hw.1: got True, expected a number",
        "by_name.a.num_epochs: got True, expected a number",
    ]


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {num_epochs: 1}\nname: x\ntrain: {learning_rate: 2}\n")
    with pytest.raises(UserError) as error:
        load_config(Outer, path)
    assert error.value.problems == [
        f"settings: {path} is not YAML: key 'train' is given twice in \"<unicode string>\", line 3, column 1: "
        "train: {learning_rate: 2} ^"
    ]


def test_merged_sections_may_change_a_key(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {<<: &base {num_epochs: 1}, learning_rate: 2, num_epochs: 3}")
    assert load_config(Outer, path).train.num_epochs == 3


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
