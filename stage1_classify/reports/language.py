"""The language of a report, by its frequent words."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from cxr.labels import Language
from stage1_classify.reports.spelling import plain
from stage1_classify.reports.tables import LanguageTable, phrases_of
from stage1_classify.reports.vocabulary import roles_of_phrases

SAMPLE = 1000
"""Texts that show the usual language of a table."""

_WORD = re.compile(r"[^\W\d_]+")


class LanguageDetector:
    """Counts the words that only one of the cue tables has."""

    def __init__(self, tables: Mapping[Language, LanguageTable]) -> None:
        """tables: their function words and the words of their phrases."""
        words = {language: _words_of(table) for language, table in tables.items()}
        self._votes = {
            word: language
            for language, own in words.items()
            for word in own
            if not any(word in others for other, others in words.items() if other != language)
        }

    def __call__(self, text: str) -> Language | None:
        """The language with more words in the text; None if there is no such word or a tie."""
        counts: dict[Language, int] = {}
        for word in _WORD.findall(plain(text)):
            language = self._votes.get(word)
            if language is not None:
                counts[language] = counts.get(language, 0) + 1
        ranked = sorted(counts.items(), key=lambda item: -item[1])
        if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
            return None
        return ranked[0][0]


def usual_language(texts: Sequence[str], tables: Mapping[Language, LanguageTable]) -> Language | None:
    """The language of most texts, by `SAMPLE` of them at equal distances; None if none shows one, or two tie."""
    detect = LanguageDetector(tables)
    chosen = texts[:: max(1, -(-len(texts) // SAMPLE))]
    ranked = Counter(language for text in chosen if (language := detect(text))).most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _words_of(table: LanguageTable) -> set[str]:
    lists = (table.function_words, table.fillers, table.degrees, table.normal_reports)
    phrases = [one for words in lists for one in words]
    expanded = [*roles_of_phrases(table), *(one for phrase in phrases for one in phrases_of(phrase))]
    return {word for phrase in expanded for word in _WORD.findall(plain(phrase)) if len(word) > 1}
