"""cxr.imaging.problem_files: what is named, and when a command fails."""

import logging

import pytest

from cxr.config import UserError
from cxr.imaging.problem_files import other_files, problem_line, problem_lines, report_problems


def test_no_problem_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    assert problem_lines([]) == []
    report_problems([], "end", on_problem="error", num_images=0)
    assert not caplog.records


def test_a_line_names_the_file_once() -> None:
    assert problem_line(UserError(["a.png: cut\n off", "other"])) == "a.png: cut off"
    assert problem_lines([("a.png", "a.png: cut off"), ("b.png", "empty")]) == ["a.png: cut off", "b.png: empty"]


def test_problems_are_an_error_unless_they_are_excluded_and_an_image_is_left(caplog: pytest.LogCaptureFixture) -> None:
    for on_problem, num_images in (("error", 3), ("exclude", 0)):
        with pytest.raises(UserError) as caught:
            report_problems(["x", "y"], "end", on_problem=on_problem, num_images=num_images)  # type: ignore[arg-type]
        assert caught.value.problems == ["x", "y", "end"]
    with caplog.at_level(logging.WARNING, logger="raybox"):
        report_problems(["x", "y"], "end", on_problem="exclude", num_images=3)
    assert [record.getMessage() for record in caplog.records] == ["excluded: x", "excluded: y"]


def test_other_files_are_counted_and_some_named() -> None:
    assert other_files(0, []) == ""
    assert other_files(1, []) == "; 1 other file"
    assert other_files(2, ["a", "b"]) == "; 2 other files (a, b)"
    assert other_files(3, ["a", "b"]) == "; 3 other files (a, b, ...)"
