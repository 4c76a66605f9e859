import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.cli import exit_code, parse_stage_arguments
from cxr.config import UserError


def test_without_arguments_the_demo() -> None:
    given = parse_stage_arguments("stage2", [], previous="stage1")
    assert given.config == Path("configs/demo/stage2.yaml")
    assert given.out == Path("runs/demo/stage2")
    assert given.sources == (Path("runs/demo/stage1"),)


def test_without_demo_settings_a_settings_file_is_required() -> None:
    with pytest.raises(SystemExit):
        parse_stage_arguments("sweep", [])


def test_the_experiment_is_the_folder_of_the_settings() -> None:
    given = parse_stage_arguments("stage3", ["configs/nih/stage3.yaml", "--set", "a=1", "b=2"], previous="stage2")
    assert given.out == Path("runs/nih/stage3")
    assert given.sources == (Path("runs/nih/stage2"),)
    assert given.overrides == ("a=1", "b=2")


def test_where_an_experiment_has_several_settings_files_the_run_has_the_files_name() -> None:
    command = ["configs/nih/study_noise.yaml"]
    given = parse_stage_arguments("study", command, previous="stage2", options=["several"])
    assert given.out == Path("runs/nih/study_noise")
    assert given.sources == (Path("runs/nih/stage2"),)
    given = parse_stage_arguments("study", [*command, "--out", "x"], options=["several"])
    assert (given.out, given.sources) == (Path("x"), ())


def test_set_may_be_repeated() -> None:
    assert parse_stage_arguments("stage1", ["--set", "a=1", "--set", "b=2"]).overrides == ("a=1", "b=2")


def test_users_mistake_is_code_2_and_one_line_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError(["first", "second"])

    assert exit_code(main) == 2
    assert capsys.readouterr().err == "error: first\nerror: second\n"


def test_bugs_are_not_hidden() -> None:
    def main() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        exit_code(main)


def test_done_is_code_0() -> None:
    assert exit_code(lambda: None) == 0


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "error: No space left on device; free some space"),
        (OSError(28, "No space left on device", "run/x"), "error: run/x: No space left on device; free some space"),
        (OSError(30, "Read-only file system", "run/x"), "error: run/x: Read-only file system; check the path"),
    ],
)
def test_a_full_or_read_only_disk_is_one_line(capsys: pytest.CaptureFixture[str], error: OSError, told: str) -> None:
    def main() -> None:
        raise error

    assert exit_code(main) == 2
    assert capsys.readouterr().err.startswith(told)


def test_characters_that_the_terminal_cannot_show_are_escaped() -> None:
    code = (
        "import sys; from cxr.cli import exit_code; from cxr.config import UserError\n"
        "def main():\n"
        "    print('image \\udcff')\n"
        "    raise UserError('no file \\udcff \u2192')\n"
        "sys.exit(exit_code(main))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "image \\udcff\n")
    assert done.stderr == "error: no file \\udcff \\u2192\n"
