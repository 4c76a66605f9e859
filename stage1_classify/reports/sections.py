"""Sections of a report, by their headings: the question of the examination is no finding."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from stage1_classify.reports.spelling import plain
from stage1_classify.reports.tables import LanguageTable, phrases_of

SectionKind = Literal["indication", "comparison", "other"]
"""A summary is read like any other section."""


class Section(NamedTuple):
    """A part of a report. begin, end: its characters, with the heading."""

    kind: SectionKind
    begin: int
    end: int


class _Plain(dict[int, str]):
    """Each character without accent in lower case, so that positions stay the same."""

    def __missing__(self, code: int) -> str:
        self[code] = (plain(chr(code)) or chr(code))[0]
        return self[code]


class SectionFinder:
    """Finds the headings of one language: before a colon, or alone on a line in upper case."""

    def __init__(self, table: LanguageTable) -> None:
        self._kinds: dict[str, SectionKind] = {
            plain(phrase): kind if kind != "summary" else "other"
            for kind, patterns in table.sections.items()
            for pattern in patterns
            for phrase in phrases_of(pattern)
        }
        names = sorted(self._kinds, key=len, reverse=True)
        words = "|".join(r"\s+".join(map(re.escape, name.split())) for name in names)
        self._heading = re.compile(rf"(?:^|(?<=[.;!?\n]))[\s*#•-]*(?P<name>{words})\b *(?P<mark>:|\n|$)")
        self._plain = _Plain()

    def __call__(self, text: str) -> list[Section]:
        """The sections that are not read as findings, in their order."""
        headings = list(self._headings(text))
        sections = []
        for place, (kind, begin, after) in enumerate(headings):
            is_last = place == len(headings) - 1
            end = len(text) if is_last else headings[place + 1][1]
            if kind == "comparison":
                end = _sentence_end(text, after, end)
            elif kind == "indication" and is_last:
                end = _short_end(text, after, end)
            if kind != "other":
                sections.append(Section(kind, begin, end))
        return sections

    def _headings(self, text: str) -> Iterator[tuple[SectionKind, int, int]]:
        """(kind, first character of the heading, first character after it)."""
        for match in self._heading.finditer(text.translate(self._plain)):
            begin, end = match.span("name")
            if match["mark"] == ":" or text[begin:end].isupper():
                yield self._kinds[" ".join(match["name"].split())], begin, match.end()


def section_of(sections: Sequence[Section], place: int) -> SectionKind:
    """The section of a character."""
    return next((one.kind for one in sections if one.begin <= place < one.end), "other")


def _sentence_end(text: str, begin: int, end: int) -> int:
    """Where the first sentence after a heading ends, which may be on the next line."""
    match = re.compile(r"\s*[^\n]*?(?:[.!?](?=\s|$)|(?=\n)|$)").match(text, begin, end)
    return match.end() if match else end


def _short_end(text: str, begin: int, end: int) -> int:
    """Where an indication ends that no heading follows: with its line, or with its sentence if it is the last line."""
    match = re.compile(r"\s*[^\n]*").match(text, begin, end)
    line_end = match.end() if match else end
    return line_end if text[line_end:end].strip() else _sentence_end(text, begin, end)
