"""Settings from YAML: plain values, or one clear line."""

import os
from pathlib import Path

import pytest

from cxr.config import Settings, UserError, load_config, parse_overrides, parse_settings
from cxr.imaging.settings import InputSettings
from cxr.labels.terminology import LabelFile
from cxr.yaml_files import parse_yaml, read_yaml
from stage1_classify.settings.classifier import Stage1Settings
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings
from stage3_detect.settings.detector import Stage3Settings
from tests.fuzzing import broken, check_all, num_cases
from tests.paths import ROOT

STAGES: dict[str, type[Settings]] = {"stage1": Stage1Settings, "stage2": Stage2Settings, "stage3": Stage3Settings}


class Place(Settings):
    root: Path = Path("a")
    names: list[str] = []


def test_an_empty_text_is_nothing() -> None:
    assert parse_yaml("", source="x") is None


def test_plain_values_anchors_and_merged_sections_are_read(tmp_path: Path) -> None:
    text = "\ufeffa: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 4}\nc: 2024-01-31\n"
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    read = read_yaml(tmp_path / "a.yaml")
    assert read["a"] == {"x": 1, "y": [2, 3]}
    assert read["b"] == {"x": 4, "y": [2, 3]}


BROKEN = {
    "1,500 levels": "a: " + "[" * 1500 + "]" * 1500,
    "1,500 open levels": "{a: " * 1500,
    "1,500 lines": "\n".join(" " * level + "a:" for level in range(1500)),
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{name}: &{name} [{', '.join(f'*{old}' for _ in range(9))}]\n"
        for old, name in zip("abcdef", "bcdefg", strict=True)
    ),
    "an alias of itself": "a: &a [1, *a]",
    "a list as a key": "? [a, b]\n: 1",
    "a map as a key": "{{a: 1}: 2}",
    "a number of 5,000 digits": "a: " + "1" * 5000,
    "no such day": "a: 2024-13-45",
    "no such time": "a: 2024-01-01 99:99:99",
    "no truth value": "a: !!bool maybe",
    "no date": "a: !!timestamp foo",
    "no number": "a: !!int ''",
    "code": "a: !!python/object/apply:os.system [ls]",
    "an unknown tag": "a: !x 1",
    "an unknown alias": "a: *b",
    "an open quote": "a: 'b",
    "a tab": "a:\n\tb: 1",
    "a control character": "a: \x07",
    "a NUL": "a: \0",
    "two documents": "a: 1\n---\nb: 2",
    "twice": "a: 1\na: 2",
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_settings_file_is_one_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "a.yaml").write_text(BROKEN[case], encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(Place, tmp_path / "a.yaml")
    (problem,) = caught.value.problems
    assert "a.yaml" in problem
    assert len(problem) < 600
    with pytest.raises(UserError) as caught:
        parse_overrides(Place, [f"names={BROKEN[case]}"])
    assert all(len(problem) < 900 and "\0" not in problem for problem in caught.value.problems)


def test_files_that_are_no_text_or_too_long(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xfc")
    (tmp_path / "long.yaml").write_text("a: " + "x" * 2**20, encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("latin.yaml", "long.yaml", "pipe.yaml", "gone.yaml", "x" * 300):
        with pytest.raises(UserError, match=name):
            load_config(Place, tmp_path / name)


def test_a_nul_in_a_path_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('root: "a\\0b"\nnames: [x, "y\\0"]\n', encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(Place, tmp_path / "a.yaml")
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["root", "names.1"]


@pytest.mark.parametrize("text", ["root: ~/data", "names: [a, ~/b]"])
def test_a_home_folder_that_only_a_shell_knows_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="'~/"):
        load_config(Place, tmp_path / "a.yaml")
    with pytest.raises(UserError, match="'~/x'"):
        (tmp_path / "a.yaml").write_text("names: [a~/b]", encoding="utf-8")
        load_config(Place, tmp_path / "a.yaml", ["root=~/x"])


@pytest.mark.parametrize(
    ("text", "place"),
    [("names: [12]", "names.0"), ("names: [no]", "names.0"), ("root: a\nnames: [2024-01-31]", "names.0")],
)
def test_text_that_yaml_reads_as_something_else_needs_quotes(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(Place, tmp_path / "a.yaml")
    (problem,) = caught.value.problems
    assert f": {place}: got " in problem and "quotes" in problem


@pytest.mark.parametrize("key", ["no", "12", "2024-01-31"])
def test_a_key_that_yaml_reads_as_something_else_needs_quotes(tmp_path: Path, key: str) -> None:
    (tmp_path / "a.yaml").write_text(f"findings: {{{key}: {{}}}}", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(LabelFile, tmp_path / "a.yaml")
    (problem,) = caught.value.problems
    assert ": key of findings: got " in problem and "quotes" in problem


@pytest.mark.parametrize("number", ["010", "-007", "00", "0_1", "1:30", "1:30.5", "00.5"])
def test_numbers_that_people_read_in_another_way_are_refused(number: str) -> None:
    with pytest.raises(UserError, match="x is not YAML") as caught:
        parse_yaml(f"seed: {number}", source="x")
    assert repr(number) in caught.value.problems[0] and "quotes" in caught.value.problems[0]


def test_other_numbers_are_read() -> None:
    text = "[0, -0, 10, 0x1F, 0.5, -0.25, 1.5e-05, .5, 1_000, '010', '1:30']"
    assert parse_yaml(text, source="x") == [0, 0, 10, 31, 0.5, -0.25, 1.5e-05, 0.5, 1000, "010", "1:30"]


@pytest.mark.parametrize("size_hw", [[1_000_000, 1_000_000], [4097, 32], [0, 32], [32]])
def test_input_sizes_are_bounded(size_hw: list[int]) -> None:
    with pytest.raises(UserError, match="size_hw"):
        parse_settings(InputSettings, {"size_hw": size_hw}, source="x")
    assert parse_settings(InputSettings, {"size_hw": [4096, 32]}, source="x").size_hw == (4096, 32)


@num_cases(10, 1000)
@pytest.mark.parametrize("stage", STAGES)
def test_broken_settings_are_one_line_a_problem_or_settings(tmp_path: Path, stage: str, cases: int) -> None:
    path = tmp_path / "settings.yaml"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            assert isinstance(load_config(STAGES[stage], path), STAGES[stage])
        except UserError as error:
            assert error.problems and not any("\n" in problem for problem in error.problems)

    check_all(check, broken((ROOT / "configs" / "demo" / f"{stage}.yaml").read_bytes()), cases=cases)
