"""Sentences that call the whole examination normal in a word or two: "Unremarkable.", "RAS"."""

import re
from collections.abc import Iterable, Iterator, Sequence

from stage1_classify.reports.matching import Sentence
from stage1_classify.reports.sections import Section, section_of
from stage1_classify.reports.spelling import plain
from stage1_classify.reports.tables import LanguageTable, phrases_of

_WORD = re.compile(r"[^\W_]+")
_MAX_CHARACTERS = 80
"""Longer sentences are none of these phrases."""


class NormalSentences:
    """Finds these sentences in reports of one language."""

    def __init__(self, table: LanguageTable) -> None:
        self._phrases = frozenset(_words_of(table.normal_reports))
        self._headings = frozenset(_words_of(table.sections.get("summary", ())))

    def __call__(self, text: str, sentences: Sequence[Sentence], sections: Sequence[Section]) -> list[Sentence]:
        """The sentences that say so of the examination.

        They stand in a summary ("Impression: normal"), or nothing else that is read names a finding or structure.
        """
        found = [*self._normal(text, sentences)]
        if not found:
            return []
        says_more = any(
            match.is_mention and section_of(sections, match.begin) == "other"
            for sentence in sentences
            for match in sentence.matches
        )
        return [sentence for sentence, in_summary in found if in_summary or not says_more]

    def _normal(self, text: str, sentences: Sequence[Sentence]) -> Iterator[tuple[Sentence, bool]]:
        """(sentence that is one of the phrases, whether it follows the heading of a summary)."""
        after_heading = False
        for sentence in sentences:
            words = _plain_words(text[sentence.begin : min(sentence.stop, sentence.begin + _MAX_CHARACTERS)])
            if not any(match.is_mention for match in sentence.matches):
                if " ".join(words) in self._phrases:
                    yield sentence, after_heading
                elif any(self._is_summary(words, place) for place in range(1, len(words))):
                    yield sentence, True
            after_heading = " ".join(words) in self._headings

    def _is_summary(self, words: Sequence[str], place: int) -> bool:
        """True if a heading ends at word `place`, and one of the phrases is all that follows."""
        return " ".join(words[:place]) in self._headings and " ".join(words[place:]) in self._phrases


def _words_of(patterns: Iterable[str]) -> Iterator[str]:
    yield from (" ".join(_plain_words(phrase)) for pattern in patterns for phrase in phrases_of(pattern))


def _plain_words(text: str) -> list[str]:
    return _WORD.findall(plain(text))
