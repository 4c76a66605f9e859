"""Numbers of ratios, such as the cardiothoracic ratio, whose upper limit of normal is one half."""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from stage1_classify.reports.spelling import plain
from stage1_classify.reports.tables import LanguageTable, phrases_of

LIMIT = 0.5
"""The usual upper limit of the cardiothoracic ratio of adults on a PA radiograph."""

PLAUSIBLE = (0.2, 0.9)
"""Other numbers are no ratio."""

_NUMBER = re.compile(
    r"(?P<words>[^\d.;\n]{0,40}?)(?P<number>(?<!\d)(?:0?[.,]\d{1,3}(?!\d)(?! *%)|\d{1,2}(?:[.,]\d+)? *(?P<percent>%)))"
)


class Ratio(NamedTuple):
    """A number in a text. begin, stop: its characters. verdict: what it says of the finding."""

    begin: int
    stop: int
    text: str
    verdict: Literal["present", "uncertain", "absent"]


class RatioReader:
    """Reads the numbers of one language: "0.58", "0,58", "58 %", "> 0.5"."""

    def __init__(self, table: LanguageTable) -> None:
        self._above = _any_of(table.ratio_above)
        self._below = _any_of(table.ratio_below)

    def __call__(self, text: str, start: int) -> Ratio | None:
        """The ratio in the same sentence after character `start`; None if there is none, or if it decides nothing."""
        match = _NUMBER.match(text, start)
        if match is None:
            return None
        value = float(match["number"].rstrip(" %").replace(",", ".")) / (100 if match["percent"] else 1)
        verdict = self._verdict(value, plain(match["words"]))
        if verdict is None or not PLAUSIBLE[0] <= value <= PLAUSIBLE[1]:
            return None
        return Ratio(*match.span("number"), match["number"], verdict)

    def _verdict(self, value: float, words: str) -> Literal["present", "uncertain", "absent"] | None:
        if self._above.search(words):
            return "present" if value >= LIMIT else None
        if self._below.search(words):
            return "absent" if value <= LIMIT else None
        if value == LIMIT:
            return "uncertain"
        return "present" if value > LIMIT else "absent"


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Any phrase of the patterns in plain text: "over", but not in "overall" or "over-exposed"; ">" anywhere."""
    phrases = [re.escape(plain(phrase)) for pattern in patterns for phrase in phrases_of(pattern)]
    return re.compile("|".join(rf"(?<![\w-]){one}(?![\w-])" if one[0].isalnum() else one for one in phrases))
