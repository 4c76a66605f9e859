"""The error of a mistake that the user can correct."""

from collections.abc import Sequence


class UserError(Exception):
    """A mistake that the user can correct. `problems` has one line each: what, got, expected, next step."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
