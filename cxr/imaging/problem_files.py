"""Files that a command on images leaves out: how it names them, and whether it then fails."""

import logging
from collections.abc import Iterable, Sequence

from cxr.config import UserError
from cxr.tables import OnProblem
from cxr.wording import counted

log = logging.getLogger("raybox")


def problem_line(error: Exception) -> str:
    """Why a file could not be read, in one line."""
    return " ".join((error.problems[0] if isinstance(error, UserError) else str(error)).split())


def problem_lines(entries: Iterable[Sequence[str]]) -> list[str]:
    """A line for each (path, problem). The path stands in front, unless the problem names it."""
    return [problem if path in problem else f"{path}: {problem}" for path, problem in entries]


def report_problems(problems: Sequence[str], end: str, *, on_problem: OnProblem, num_images: int) -> None:
    """Log the problems, or raise them.

    Args:
        end: the last line of an error.
        num_images: images with a result.

    Raises:
        UserError: there are problems, and either they are errors (on_problem "error") or no image has a result.
    """
    if problems and (on_problem == "error" or not num_images):
        raise UserError([*problems, end])
    for problem in problems:
        log.warning("excluded: %s", problem)


def other_files(number: int, first: Sequence[str]) -> str:
    """ "; 5 other files (notes.txt, list.csv, ...)" for the end of a summary; "" for none. first: some of their names.

    Example:
        >>> other_files(1, ["notes.txt"])
        '; 1 other file (notes.txt)'
    """
    if not number:
        return ""
    names = ", ".join([*first, *(["..."] if number > len(first) else [])])
    return f"; {counted(number, 'other file')} ({names})" if first else f"; {counted(number, 'other file')}"
